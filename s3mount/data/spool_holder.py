"""Who uses a spool directory: one mount at a time, and whoever comes second is told which.

Beside a mount, commands may work on files that no program has open there: each file of the spool that
somebody has open is locked by whoever that is. The kernel ends both locks with their process.
"""

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


def claim(fd: int) -> bool:
    """Take the spool file open as *fd*; return whether nobody else has it. Closing the descriptor ends it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def locked_inodes(table: str = "/proc/locks") -> dict[int, int]:
    """Return who holds what is locked as a whole on this machine: process ids by inode number.

    For whoever only wants to know: taking a lock to see whether it is free could refuse another.
    """
    found = {}
    try:
        with open(table, encoding="ascii") as file:
            lines = file.readlines()
    except OSError:
        return {}
    for line in lines:
        fields = line.split()
        # "1: FLOCK  ADVISORY  WRITE 123 00:2e:456 0 EOF"; who waits for a lock has an arrow before it.
        if len(fields) >= 6 and fields[1] == "FLOCK":
            found[int(fields[5].rpartition(":")[2])] = int(fields[4])
    return found


def living_holder_of(directory: str) -> Holder | None:
    """Return who has *directory*, which is locked; None if it has not written its name (yet).

    What the file says may be of an earlier holder, for the length of an open(2) or on a full disk.
    """
    holder = holder_of(directory)
    return holder if holder is not None and os.path.exists(f"/proc/{holder.pid}") else None


def holder_of(directory: str) -> Holder | None:
    """Return who took *directory* last, None if that cannot be read. It may have ended since."""
    try:
        with open(os.path.join(directory, HOLDER_NAME), encoding="utf-8") as file:
            fields = json.load(file)
        return Holder(int(fields["pid"]), str(fields["mountpoint"]), str(fields["source"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
