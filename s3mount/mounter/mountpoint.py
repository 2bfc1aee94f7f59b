"""Open a mountpoint so that nobody can put another one in its place between the look and the mount."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from s3mount.core.exits import Exit
from s3mount.errors import StartupError

_FOLLOW_NOTHING = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_mountpoint(path: str) -> int:
    """Return an O_PATH descriptor of the directory *path*, whose ``/proc/self/fd`` name can be mounted on.

    Goes from directory to directory and follows no symbolic link: *path* had none when it was read, so one
    that is there now was put there since. Everybody may write to none of the directories, unless what is
    in them is protected as in /tmp: whoever can rename a directory decides what is mounted over.

    Raises: StartupError.
    """
    directory = os.open("/", _FOLLOW_NOTHING)
    seen = Path("/")
    for name in Path(path).parts[1:]:
        _refuse_swappable(path, seen, os.fstat(directory))
        seen /= name
        try:
            inner = os.open(name, _FOLLOW_NOTHING, dir_fd=directory)
        except OSError as error:
            raise _refused(path, *_why(error, seen)) from None
        finally:
            os.close(directory)
        directory = inner
    try:
        _refuse_swappable(path, seen, os.fstat(directory))
    except StartupError:
        os.close(directory)
        raise
    return directory


def _refuse_swappable(path: str, seen: Path, found: os.stat_result) -> None:
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        which = "it" if str(seen) == path else str(seen)
        raise _refused(
            path, f"everybody can write to {which}, and so change what is mounted on", f"chmod o-w {seen}"
        )


def _why(error: OSError, seen: Path) -> tuple[str, str]:
    # Linux has ENOTDIR for a link where O_DIRECTORY was asked for as well.
    if error.errno in (errno.ELOOP, errno.ENOTDIR) and seen.is_symlink():
        return f"{seen} has become a symbolic link", "see who changes it, and name the directory itself"
    if error.errno == errno.ENOENT:
        return "it does not exist", f"create it: mkdir -p {seen}"
    return f"{seen} cannot be opened ({error.strerror})", "name another directory"


def _refused(path: str, cause: str, advice: str) -> StartupError:
    return StartupError(f"mountpoint {path}", cause, advice, Exit.MOUNTPOINT)
