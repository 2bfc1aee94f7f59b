"""The kernel's list of mounts, read without touching any of them: a dead one may hang who looks."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

from s3mount.mounter.base import FUSE_TYPE as FUSE_TYPE

AUTOFS_TYPE = "autofs"
"""What x-systemd.automount puts at a mountpoint until something is mounted over it."""
_ESCAPE = re.compile(rb"\\([0-7]{3})")
_MAX_LINKS = 40


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of /proc/self/mountinfo. *user_id* is who mounted it, None where it does not say."""

    mountpoint: str
    fs_type: str
    source: str
    user_id: int | None


def mounted_at(mountpoint: str, table: Path = Path("/proc/self/mountinfo")) -> MountEntry | None:
    """Return the topmost mount at the absolute path *mountpoint*, None if nothing is mounted there."""
    found = None
    for entry in entries(table):
        if entry.mountpoint == mountpoint:
            found = entry
    return found


def entries(table: Path = Path("/proc/self/mountinfo")) -> list[MountEntry]:
    """Return every mount, those that were made later behind the others."""
    parsed = (_parse(line) for line in table.read_bytes().splitlines())
    return [entry for entry in parsed if entry is not None]


def resolve(path: str) -> str:
    """Return *path* absolute with symbolic links resolved, without looking at what is mounted there.

    The last component is only ever read as a link, which the kernel answers by itself even where the
    file system mounted there never answers.
    """
    absolute = os.path.abspath(path)
    for _ in range(_MAX_LINKS):
        if mounted_at(absolute) is not None:
            return absolute
        parent, name = os.path.split(absolute)
        absolute = os.path.join(os.path.realpath(parent), name) if name else parent
        try:
            target = os.readlink(absolute)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENOTCONN):
                return absolute
            raise
        absolute = os.path.normpath(os.path.join(os.path.dirname(absolute), target))
    return absolute


def resolve_outside(path: str) -> str:
    """Return *path* absolute, with the symbolic links on the way to an s3mount resolved.

    What lies in an s3mount is not looked at, links in it included.
    """
    absolute = os.path.abspath(path)
    mountpoints = {entry.mountpoint for entry in entries() if entry.fs_type == FUSE_TYPE}
    for _ in range(_MAX_LINKS):
        link = _first_link(absolute, mountpoints)
        if link is None:
            break
        target = os.path.join(os.path.dirname(link), os.readlink(link))
        absolute = os.path.normpath(f"{target}/{absolute[len(link) :]}")
    return absolute


def _first_link(path: str, mountpoints: set[str]) -> str | None:
    """Return the first part of *path* that is a symbolic link, None where a mountpoint comes before any."""
    part = "/"
    for name in path.split("/")[1:]:
        part = os.path.join(part, name)
        if part in mountpoints:
            return None
        if os.path.islink(part):
            return part
    return None


def _parse(line: bytes) -> MountEntry | None:
    left, separator, right = line.partition(b" - ")
    before, after = left.split(), right.split(b" ")
    if not separator or len(before) < 6 or len(after) < 3:
        return None
    user_id = re.search(rb"(?:^|,)user_id=(\d+)", after[2])
    return MountEntry(
        mountpoint=_unescape(before[4]),
        fs_type=_unescape(after[0]),
        source=_unescape(after[1]),
        user_id=int(user_id.group(1)) if user_id else None,
    )


def _unescape(text: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match.group(1), 8)]), text))
