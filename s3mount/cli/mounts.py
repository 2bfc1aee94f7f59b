"""``s3mount list``: the mounts of this machine."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from s3mount import runtime
from s3mount.cli.leftovers import files_left_in
from s3mount.cli.mount_table import FUSE_TYPE, MountEntry, entries
from s3mount.cli.parser import Commands, wrapped
from s3mount.cli.words import plural, printable, table
from s3mount.config.units import format_size_short
from s3mount.control.client import NotYours, ask
from s3mount.control.protocol import ControlError
from s3mount.core.exits import Exit

_DESCRIPTION = """\
List the s3mounts of this machine, with their state: all that the kernel shows, and those of yours (as root: \
of everybody) that are unmounted and still uploading, or ended without having uploaded everything.
"""
_STATES = """\
states:
  serving         it works
  no server       it works, and the server does not answer
  draining        it is being unmounted, or is, and uploads what is left
  stuck           its process is there and does not answer
  dead            its process is gone: clean it up with s3mount umount DIR
  ended           it is unmounted, and something of it is in the spool: see s3mount spool list
  another user's  ask as that user, or as root
  not on record   started in an environment of its own
"""
_ANSWER_S = 3.0
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Listed:
    """A mount as it is listed; *files* and *bytes* are to be uploaded, None where nobody knows."""

    mountpoint: str
    source: str
    state: str
    pid: int | None = None
    files: int | None = None
    bytes: int | None = None


def add_parser(commands: Commands) -> None:
    """Add the command to *commands*."""
    parser = commands.add_parser(
        "list",
        help="the mounts of this machine and their state",
        usage="s3mount list [--json]",
        description=wrapped(_DESCRIPTION),
        epilog=_STATES,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="as one line of JSON, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print the list."""
    found = list_mounts()
    if arguments.json:
        print(json.dumps([asdict(one) for one in found]))
        return int(Exit.OK)
    if not found:
        print("s3mount: nothing is mounted")
        return int(Exit.OK)
    rows = [["MOUNTPOINT", "SOURCE", "STATE", "PID", "TO UPLOAD"]]
    rows += [
        [printable(one.mountpoint), printable(one.source), one.state, str(one.pid or "-"), _left(one)]
        for one in found
    ]
    print("\n".join(table(rows)))
    return int(Exit.OK)


def list_mounts() -> list[Listed]:
    """Return the mounts in the order of their mountpoints."""
    records = {state.mountpoint: (state, directory) for state, directory in _records()}
    shown = {entry.mountpoint: entry for entry in entries() if entry.fs_type == FUSE_TYPE}
    strangers = [
        Listed(entry.mountpoint, entry.source, _stranger(entry))
        for entry in shown.values()
        if entry.mountpoint not in records
    ]
    # One that is stuck must not hold up the others.
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        known = threads.map(lambda one: _look(*one, is_mounted=one[0].mountpoint in shown), records.values())
    # One that has ended is of interest as long as something of it is left.
    found = [one for one in (*strangers, *known) if one.state != "ended" or one.files]
    return sorted(found, key=lambda one: one.mountpoint)


def _stranger(entry: MountEntry) -> str:
    return "not on record" if entry.user_id in (None, os.geteuid()) else "another user's"


def _look(state: runtime.MountState, directory: Path, *, is_mounted: bool) -> Listed:
    listed = Listed(state.mountpoint, state.source, "stuck", state.pid)
    if not state.is_running():
        left = files_left_in(state.spool_dir)
        return Listed(state.mountpoint, state.source, "dead" if is_mounted else "ended", None, *left)
    socket = runtime.control_socket(state, directory)
    if socket is None:
        return listed
    try:
        status = ask(socket, "status", timeout_s=_ANSWER_S)["status"]
        uploads = status["uploads"]
        is_reachable = status["server"]["is_reachable"]
        words = status["state"] if is_reachable or status["state"] != "serving" else "no server"
        left = uploads["size_bytes"] - uploads["sent_bytes"]
        return Listed(state.mountpoint, state.source, words, state.pid, uploads["files"], left)
    except NotYours:
        return Listed(state.mountpoint, state.source, "another user's")
    except (ControlError, KeyError, TypeError):
        return listed


def _records() -> Iterator[tuple[runtime.MountState, Path]]:
    """Yield the records of mounts that this user may see."""
    for user in [os.geteuid(), *(_other_users() if os.geteuid() == 0 else ())]:
        for directory in runtime.directories(user):
            for state in runtime.recorded(directory, user):
                yield state, directory


def _other_users() -> list[int]:
    places = [path.parent.name for path in Path("/run/user").glob("*/s3mount")]
    places += [path.name.removeprefix("s3mount-") for path in Path("/tmp").glob("s3mount-*")]
    return sorted({int(name) for name in places if name.isdecimal()} - {0})


def _left(one: Listed) -> str:
    if one.files is None or one.bytes is None:
        return "-"
    return f"{plural(one.files, 'file')}, {format_size_short(one.bytes)}" if one.files else "nothing"
