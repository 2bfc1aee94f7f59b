"""Files of root's, such as those with keys, for a process that may not read them.

A copy in memory (memfd_create(2)) belongs to that process alone and is gone with it. Who has handed it
over writes into it what the file has become.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

MOST_BYTES: Final = 1 << 20


class HandedFile:
    """A copy of the file *path* that user *uid* may read, under the name :attr:`name` of that process."""

    def __init__(self, path: str, uid: int, gid: int) -> None:
        """Raises: OSError (it cannot be read)."""
        self.path = path
        self._uid = uid
        self._copy = os.memfd_create("s3mount-keys", os.MFD_CLOEXEC)
        try:
            self.refresh()
            os.fchmod(self._copy, 0o600)
            os.fchown(self._copy, uid, gid)
        except BaseException:
            os.close(self._copy)
            raise

    @property
    def name(self) -> str:
        """The path under which this process, and a fork of it, opens the copy."""
        return f"/proc/self/fd/{self._copy}"

    @property
    def descriptor(self) -> int:
        """The copy, to be kept open in both processes."""
        return self._copy

    def refresh(self) -> None:
        """Copy the file again. Raises: OSError."""
        source = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            found = os.fstat(source)
            # Root's own, or it could be put there to have another file of root's read.
            if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, self._uid):
                raise PermissionError(errno.EPERM, "it is not a file of root's")
            content = os.read(source, MOST_BYTES)
        finally:
            os.close(source)
        # A reader in between sees a whole file or one that ends early, never two in one.
        os.ftruncate(self._copy, 0)
        os.pwrite(self._copy, content, 0)
