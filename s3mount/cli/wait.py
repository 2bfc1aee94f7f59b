"""``s3mount wait`` and ``s3mount flush``: return when the bucket has what was written."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from s3mount.cli.parser import Commands, seconds, wrapped
from s3mount.core.exits import Exit

_WAIT = """\
Return when the bucket has PATH, or everything below it: with --write-back, or after an upload that failed,
that may be after the program which wrote it has ended. A file that a program has open for writing is waited
for as well. Nothing is sent earlier for it; see flush.
"""
_FLUSH = """\
Send everything below DIR that was closed and that the bucket does not have, now, and return when it has it.
Files that a program still has open for writing are left alone and named: half a file is of no use to
anybody. Without DIR: the mount that you stand in, or the only one.

It fails as soon as one file could not be sent; the mount goes on trying by itself, and wait waits for that.
"""
_CODES = (
    "exit codes:\n   0  the bucket has it\n"
    f"  {Exit.MOUNTPOINT:>2}  there is no s3mount, or it does not answer\n"
    f"  {Exit.NOT_DRAINED:>2}  the bucket does not have it; what it lacks is on standard output"
)
_ONE_DAY_S = 24 * 3600.0
# What the answer may take on top of the wait itself.
_GRACE_S = 30.0


def add_parsers(commands: Commands) -> None:
    """Add both commands to *commands*."""
    waiting = commands.add_parser(
        "wait",
        help="return when the bucket has a file",
        usage="s3mount wait PATH [options]",
        description=wrapped(_WAIT),
        epilog=_CODES,
    )
    waiting.set_defaults(run=run, command="wait")
    waiting.add_argument("path", metavar="PATH", help="a file or directory in a mount")
    flushing = commands.add_parser(
        "flush",
        help="send now what waits to be uploaded",
        usage="s3mount flush [DIR] [options]",
        description=wrapped(_FLUSH),
        epilog=_CODES,
    )
    flushing.set_defaults(run=run, command="flush")
    flushing.add_argument("path", metavar="DIR", nargs="?", help="a mount, or a file or directory in one")
    for parser in (waiting, flushing):
        parser.add_argument("--timeout", type=seconds, metavar="TIME", help="how long to wait [24h]")
        parser.add_argument("--json", action="store_true", help="the outcome as one line of JSON")


def run(arguments: argparse.Namespace) -> int:
    """Wait, and print what is left.

    Raises: StartupError.
    """
    from s3mount.cli.asking import mount_of

    timeout_s = min(_ONE_DAY_S if arguments.timeout is None else arguments.timeout, _ONE_DAY_S)
    mount, path = mount_of(arguments.path)
    outcome = mount.ask(
        arguments.command, {"path": path, "timeout_s": timeout_s}, timeout_s=timeout_s + _GRACE_S
    )
    if arguments.json:
        names = ("is_done", "files", "left", "held", "is_over", "open")
        print(json.dumps({name: outcome[name] for name in names if name in outcome}))
    else:
        _show(arguments.command, outcome)
    return int(Exit.OK if outcome["is_done"] else Exit.NOT_DRAINED)


def _show(command: str, outcome: Mapping[str, Any]) -> None:
    from s3mount.cli.status_text import upload_state
    from s3mount.cli.words import plural, printable

    for one in outcome["left"]:
        print(f"s3mount: {printable(one['path'])} is not in the bucket: {upload_state(one)}")
    for one in outcome["held"]:
        name = f"file {one['id']} of the spool, to become {printable(one['key'])}"
        print(f"s3mount: {name}, waits for you: {printable(one['cause'])}; see s3mount spool list")
    for one in outcome.get("open", ()):
        print(f"s3mount: {printable(one['path'])} is open for writing, and left alone")
    sent = outcome["files"] - len(outcome["left"])
    if command == "flush" and outcome["files"]:
        print(f"s3mount: {plural(sent, 'file')} sent")
