"""The kernel's list of mounts, read without touching any of them: a dead one may hang who looks."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

FUSE_TYPE = "fuse.s3mount"
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
    for line in table.read_bytes().splitlines():
        entry = _parse(line)
        if entry is not None and entry.mountpoint == mountpoint:
            found = entry
    return found


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
