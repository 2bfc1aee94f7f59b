"""How much of the disk the spool may take."""

from __future__ import annotations

import os
from collections.abc import Callable

from s3mount.errors import NoSpace

DISK_BLOCK_BYTES = 4096
"""What a file on disk takes at least; bytes are charged in these units."""


class SpoolSpace:
    """Bytes on disk of all spool files, within a cap and above a floor of free space.

    Args:
        recount: gives back what files had that somebody else has taken away.

    INVARIANT: ``used_bytes`` is what spool files were charged with and have not given back.
    """

    def __init__(
        self,
        directory_fd: int,
        *,
        cap_bytes: int | None,
        free_floor_bytes: int,
        recount: Callable[[], None] = lambda: None,
    ) -> None:
        self.cap_bytes = cap_bytes
        self.free_floor_bytes = free_floor_bytes
        self.used_bytes = 0
        self._directory_fd = directory_fd
        self._recount = recount

    def free_bytes(self) -> int:
        """Return what the disk has free for this user. Raises: OSError."""
        disk = os.fstatvfs(self._directory_fd)
        return disk.f_bavail * disk.f_frsize

    def charge(self, size: int) -> None:
        """Take *size* more bytes, before they are written.

        Raises: NoSpace, and nothing is taken.
        """
        if not self._is_within_cap(size):
            self._recount()
        if not self._is_within_cap(size):
            raise NoSpace(f"the spool is full: {self.used_bytes} of {self.cap_bytes} bytes are in use")
        free = self.free_bytes()
        if free - size < self.free_floor_bytes:
            raise NoSpace(
                f"the spool's disk has {free} bytes free, and {self.free_floor_bytes} are to stay free"
            )
        self.used_bytes += size

    def _is_within_cap(self, size: int) -> bool:
        return self.cap_bytes is None or self.used_bytes + size <= self.cap_bytes

    def refund(self, size: int) -> None:
        """Give *size* bytes back."""
        assert size <= self.used_bytes
        self.used_bytes -= size
