"""``s3mount umount``: unmount, and wait until what was written has reached the store."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import subprocess
import time
from pathlib import Path

from s3mount import runtime
from s3mount.cli.leftovers import files_left_in
from s3mount.cli.look import look_at
from s3mount.cli.mount_table import FUSE_TYPE, MountEntry, mounted_at, resolve
from s3mount.cli.parser import Commands, seconds, wrapped
from s3mount.config import files
from s3mount.config.units import format_seconds, format_size
from s3mount.core.exits import Exit
from s3mount.errors import StartupError
from s3mount.mounter import system_calls

_DESCRIPTION = """\
Unmount DIR and return when everything written there is in the store and the mount's process has ended. \
umount(8) and fusermount3 -u unmount too, but return while files may still be on their way.

A dead mount (its process is gone) is cleaned up.
"""

_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
# The process has its own limit for draining; this is for what it does after that.
_GRACE_S = 15.0
_NOT_RECORDED_S = 300.0
_LOOK_S = 3.0
# A process that has just ended its work may hold the mount for a moment longer.
_BUSY_RETRY_S = 1.0
_MAX_NAMED = 5


def add_parser(commands: Commands) -> None:
    """Add the command to *commands*."""
    parser = commands.add_parser(
        "umount",
        help="finish pending uploads and unmount",
        usage="s3mount umount DIR [options]\n       s3mount umount --config NAME [options]",
        description=wrapped(_DESCRIPTION),
        epilog=f"exit codes:\n   0  unmounted and drained\n  {Exit.MOUNTPOINT:>2}  not mounted, busy, or not "
        f"an s3mount\n  {Exit.NOT_DRAINED:>2}  unmounted, but not everything is in the store",
    )
    parser.set_defaults(run=run)
    parser.add_argument("directory", metavar="DIR", nargs="?", help="where it is mounted")
    parser.add_argument("--config", metavar="NAME", help="the mountpoint of a configuration, as mount has it")
    parser.add_argument(
        "--if-dead",
        action="store_true",
        help="clear a dead mount away, for the next one to find its place; leave anything else as it is",
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="TIME",
        help="how long to wait for pending uploads [the mount's --drain-timeout]",
    )
    parser.add_argument(
        "--lazy",
        action="store_true",
        help="take it out of sight even while files are open there, and do not wait",
    )


def run(arguments: argparse.Namespace) -> int:
    """Unmount.

    Raises: StartupError.
    """
    path = resolve(os.path.expanduser(_directory(arguments)))
    if arguments.if_dead:
        return _clear_dead(path)
    entry = mounted_at(path)
    if entry is None:
        return _report_not_mounted(path, arguments.timeout)
    if not entry.fs_type.startswith("fuse"):
        raise _mountpoint(path, f"what is mounted there is {entry.fs_type}, not s3mount", "use umount(8)")
    found = runtime.find(path, _owner(entry))
    if entry.fs_type != FUSE_TYPE and found is None:
        raise _mountpoint(
            path, f"what is mounted there is {entry.fs_type}, not s3mount", "use fusermount3 -u"
        )
    dead = found is None and look_at(path, _LOOK_S).error == errno.ENOTCONN
    dead = dead or (found is not None and not found[0].is_running())
    _unmount(path, lazy=arguments.lazy)
    if dead:
        return _after_dead(path, found)
    if found is None:
        print(f"s3mount: {path} is unmounted; its process is not on record, so nobody waited for it")
        return int(Exit.OK)
    state, directory = found
    if arguments.lazy:
        print(f"s3mount: {path} is detached; process {state.pid} ends when nobody uses it any more")
        return int(Exit.OK)
    return _wait(state, directory, arguments.timeout)


def _directory(arguments: argparse.Namespace) -> str:
    """Return the mountpoint as it was named. Raises: StartupError."""
    if (arguments.directory is None) == (arguments.config is None):
        raise StartupError("umount", "it takes a directory or --config", "name one of them", Exit.USAGE)
    if arguments.config is None:
        return str(arguments.directory)
    file = files.load(files.find(arguments.config))
    if file.mountpoint is None:
        raise StartupError(
            f"configuration {file.path}", "it has no mountpoint", "name the directory", Exit.CONFIG
        )
    return file.mountpoint


def _clear_dead(path: str) -> int:
    """Clear away what a process that is gone has mounted at *path*, however often.

    What it has left in the spool is its next mount's, and no reason to fail.
    """
    while (entry := mounted_at(path)) is not None and entry.fs_type == FUSE_TYPE:
        if look_at(path, _LOOK_S).error not in _DEAD:
            break
        found = runtime.find(path, _owner(entry))
        if found is not None and found[0].is_running():
            break
        _unmount(path, lazy=True)
        if found is not None:
            runtime.forget(*found)
        print(f"s3mount: {path} was a dead mount and is cleaned up")
    return int(Exit.OK)


def _wait(state: runtime.MountState, directory: Path, timeout_s: float | None) -> int:
    """Wait for the mount's process to have drained."""
    limit = state.drain_timeout_s + _GRACE_S if timeout_s is None else timeout_s
    if not runtime.wait_for_end(state.pid, state.started, limit):
        raise StartupError(
            f"mountpoint {state.mountpoint}",
            f"unmounted, but process {state.pid} is still uploading after {format_seconds(limit)}"
            f"{_left_in(state.spool_dir)}",
            "it goes on by itself; run the same command again to wait longer",
            Exit.NOT_DRAINED,
        )
    ended = runtime.find(state.mountpoint, os.stat(directory).st_uid)
    exit_code = ended[0].exit_code if ended is not None else 0
    if ended is not None and (ended[0].pid, ended[0].started) == (state.pid, state.started):
        runtime.forget(ended[0], directory)
        return _report_end(state, exit_code)
    return int(Exit.OK)


def _report_end(state: runtime.MountState, exit_code: int | None) -> int:
    """Say how a process ended that did not end well."""
    where = f"see {state.log_file}" if state.log_file else "see its log"
    if exit_code == Exit.NOT_DRAINED:
        raise StartupError(
            f"mountpoint {state.mountpoint}",
            f"unmounted, but not everything could be uploaded{_left_in(state.spool_dir)}",
            f"`s3mount spool list {state.mountpoint}` shows it; {where}",
            Exit.NOT_DRAINED,
        )
    how = "was killed" if exit_code is None else f"ended with {exit_code}"
    raise StartupError(
        f"mountpoint {state.mountpoint}",
        f"unmounted, but its process {how}{_left_in(state.spool_dir)}",
        where,
        Exit.NOT_DRAINED if _left_in(state.spool_dir) else Exit.FAILURE,
    )


def _after_dead(path: str, found: tuple[runtime.MountState, Path] | None) -> int:
    left = ""
    if found is not None:
        state, directory = found
        left = _left_in(state.spool_dir)
        runtime.forget(state, directory)
    print(f"s3mount: {path} was a dead mount and is cleaned up")
    if left:
        raise StartupError(
            f"mountpoint {path}",
            f"its process died{left}",
            f"`s3mount spool list {path}` shows it",
            Exit.NOT_DRAINED,
        )
    return int(Exit.OK)


def _report_not_mounted(path: str, timeout_s: float | None) -> int:
    """Wait for a mount that was unmounted before and is still draining; otherwise refuse."""
    found = runtime.find(path, os.geteuid())
    if found is not None and found[0].is_running():
        return _wait(*found, timeout_s)
    if found is not None and found[0].exit_code is not None:
        runtime.forget(*found)
        return _report_end(found[0], found[0].exit_code)
    if not os.path.lexists(path):
        raise _mountpoint(path, "it does not exist", "name the directory that s3mount is mounted at")
    raise _mountpoint(path, "nothing is mounted there", "see the mounts with: findmnt -t fuse.s3mount")


def _unmount(path: str, *, lazy: bool) -> None:
    """Unmount, by the system call as root and by fusermount3 otherwise.

    Raises: StartupError, naming who keeps it busy.
    """
    deadline = time.monotonic() + _BUSY_RETRY_S
    while (error := _try_unmount(path, lazy)) is not None:
        busy = error.errno == errno.EBUSY
        if busy and time.monotonic() < deadline:
            time.sleep(0.05)
            continue
        if busy:
            users = _users_of(path)
            by = f": {', '.join(users)}" if users else ""
            raise _mountpoint(
                path, f"it is in use{by}", "end what uses it, or use --lazy to take it out of sight now"
            )
        raise _mountpoint(path, f"it cannot be unmounted ({error.strerror})", "try as root")


def _try_unmount(path: str, lazy: bool) -> OSError | None:
    if os.geteuid() == 0:
        try:
            system_calls.umount(path, lazy=lazy)
        except OSError as error:
            return error
        return None
    program = shutil.which("fusermount3") or shutil.which("fusermount")
    if program is None:
        raise StartupError("fusermount3", "not found on PATH", "install it: apt-get install fuse3", Exit.FUSE)
    done = subprocess.run(
        [program, "-uz" if lazy else "-u", "--", path],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode == 0:
        return None
    text = done.stderr.strip()
    number = errno.EBUSY if "busy" in text else errno.EPERM
    return OSError(number, text.removeprefix("fusermount3: ") or os.strerror(number))


def _users_of(path: str) -> list[str]:
    """Return ``name (pid)`` of processes that can be seen to have something open below *path*."""
    found: list[str] = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid() and _uses(process, path):
            try:
                name = (process / "comm").read_text(errors="replace").strip()
            except OSError:
                continue
            found.append(f"{name} ({process.name})")
    if len(found) > _MAX_NAMED:
        found[_MAX_NAMED:] = [f"{len(found) - _MAX_NAMED} more"]
    return found


def _uses(process: Path, path: str) -> bool:
    """Return whether *process* has *path* or something below it open, mapped or as a directory.

    Only links in /proc are read: nothing here asks the mount itself.
    """
    links = [process / "cwd", process / "root", process / "exe"]
    for listing in ("fd", "map_files"):
        try:
            links.extend((process / listing).iterdir())
        except OSError:
            continue
    for link in links:
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target == path or target.startswith(path.rstrip("/") + "/"):
            return True
    return False


def _left_in(spool_dir: str) -> str:
    """Return a clause about the files in *spool_dir*, empty if there are none."""
    count, size = files_left_in(spool_dir)
    if not count:
        return ""
    return f"; {count} file{'s' if count > 1 else ''} ({format_size(size)}) left in {spool_dir}"


def _owner(entry: MountEntry) -> int:
    return os.geteuid() if entry.user_id is None else entry.user_id


def _mountpoint(path: str, cause: str, advice: str) -> StartupError:
    return StartupError(f"mountpoint {path}", cause, advice, Exit.MOUNTPOINT)
