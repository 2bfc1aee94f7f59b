"""Mount as root, by mount(2) itself."""

from __future__ import annotations

import contextlib
import os

from s3mount.core.exits import Exit
from s3mount.errors import StartupError
from s3mount.mounter import openers, system_calls, tuning
from s3mount.mounter.asking import Asker
from s3mount.mounter.base import FUSE_TYPE, MountPlan
from s3mount.mounter.mountpoint import open_mountpoint


class KernelMount:
    """A ``Mounter`` that does what it is asked in this process."""

    def __init__(self, plan: MountPlan) -> None:
        self._plan = plan
        self._device: str | None = None
        self._asker = Asker(plan.mountpoint)

    def mount(self) -> str:
        """As ``Mounter``."""
        return f"/dev/fd/{self.mount_and_open()}"

    def mount_and_open(self) -> int:
        """Mount, and return the descriptor of /dev/fuse that the kernel asks through.

        Whoever has it open keeps the mount from being dead.

        Raises: StartupError.
        """
        plan = self._plan
        directory = open_mountpoint(plan.mountpoint)
        try:
            device = _open_device()
            try:
                data = plan.data(device, os.fstat(directory).st_mode)
                system_calls.mount(plan.source, f"/proc/self/fd/{directory}", FUSE_TYPE, plan.flags, data)
            except OSError as exc:
                os.close(device)
                raise StartupError(
                    f"mountpoint {plan.mountpoint}",
                    f"the kernel refused the mount ({exc.strerror})",
                    "see dmesg(1); a container needs --device /dev/fuse --cap-add SYS_ADMIN",
                    Exit.FUSE,
                ) from exc
        finally:
            os.close(directory)
        self._device = tuning.device_of(plan.mountpoint)
        return device

    def tune(self) -> None:
        """As ``Mounter``."""
        tuning.tune(self._plan.mountpoint)

    def unmount(self) -> None:
        """As ``Mounter``. What somebody else has mounted there since is left alone."""
        if self._device is None or tuning.device_of(self._plan.mountpoint) != self._device:
            return
        self._device = None
        with contextlib.suppress(OSError):  # somebody was faster
            system_calls.umount(self._plan.mountpoint, lazy=True)

    def can_still_write(self, pid: int, inode: int) -> bool:
        """As ``Mounter``."""
        # Not of other mounts: whoever asks may know of this one alone.
        return self._device is not None and openers.can_still_write(pid, inode, self._device)

    def answers(self) -> bool | None:
        """As ``Mounter``."""
        return self._asker.answers()

    def name_of(self, path: str) -> str:
        """As ``Mounter``."""
        return path

    def refresh(self) -> None:
        """As ``Mounter``: root reads its files itself."""


def _open_device() -> int:
    try:
        return os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as exc:
        raise StartupError(
            "/dev/fuse",
            f"it cannot be opened ({exc.strerror})",
            "load the module: modprobe fuse; a container needs --device /dev/fuse --cap-add SYS_ADMIN",
            Exit.FUSE,
        ) from exc
