"""An ordinary user's mount: libfuse has it made, and unmounted, by fusermount3, which is set-uid root."""

from __future__ import annotations

from s3mount.mounter import openers, tuning
from s3mount.mounter.asking import Asker


class Fusermount:
    """A ``Mounter`` that leaves mounting to libfuse."""

    def __init__(self, mountpoint: str) -> None:
        self._mountpoint = mountpoint
        self._device: str | None = None
        self._asker = Asker(mountpoint)

    def mount(self) -> str:
        """As ``Mounter``."""
        return self._mountpoint

    def tune(self) -> None:
        """As ``Mounter``: not permitted where this user is not root, so the kernel's defaults stay."""
        self._device = tuning.tune(self._mountpoint)

    def unmount(self) -> None:
        """As ``Mounter``: libfuse does it when the session is closed."""

    def can_still_write(self, pid: int, inode: int) -> bool:
        """As ``Mounter``; only this user's processes can be looked at."""
        return openers.can_still_write(pid, inode, self._device)

    def answers(self) -> bool | None:
        """As ``Mounter``."""
        return self._asker.answers()

    def name_of(self, path: str) -> str:
        """As ``Mounter``."""
        return path

    def refresh(self) -> None:
        """As ``Mounter``: there is nothing that this user has not opened."""
