"""Who uses a spool directory: one mount at a time, and whoever comes second is told which."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass

HOLDER_NAME = "holder.json"


@dataclass(frozen=True, slots=True)
class Holder:
    """A user of a spool directory: a mount, or a command with an empty *mountpoint*."""

    pid: int
    mountpoint: str = ""
    source: str = ""

    def __str__(self) -> str:
        if not self.mountpoint:
            return f"process {self.pid}"
        return f"the mount of {self.source} at {self.mountpoint} (process {self.pid})"


def lock(directory_fd: int, holder: Holder) -> bool:
    """Take the directory for *holder*; return whether nobody else has it. Closing the descriptor ends it."""
    try:
        fcntl.flock(directory_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(OSError), open(os.open(HOLDER_NAME, flags, 0o600, dir_fd=directory_fd), "w") as file:
        json.dump(asdict(holder), file)
    return True


def holder_of(directory: str) -> Holder | None:
    """Return who took *directory* last, None if that cannot be read. It may have ended since."""
    try:
        with open(os.path.join(directory, HOLDER_NAME), encoding="utf-8") as file:
            fields = json.load(file)
        return Holder(int(fields["pid"]), str(fields["mountpoint"]), str(fields["source"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
