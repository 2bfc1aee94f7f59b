"""A disk of its own under a directory, whose power can be cut: ext4 on a loop device. Needs root.

ext4 has an ioctl for tests of this: from then on nothing reaches the disk any more, not even what its
own journal had not written yet. Unmounting and mounting again then shows what a real power cut leaves.
"""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: _IOR('X', 125, __u32) and EXT4_GOING_FLAGS_NOLOGFLUSH, fs/ext4/ext4.h
SHUTDOWN = (2 << 30) | (4 << 16) | (ord("X") << 8) | 125
NO_LOG_FLUSH = 2

#: Nothing gets there by mere lapse of time while a test is slow: only what was synced.
MOUNT_OPTIONS = "noatime,commit=300"


POWER_ON_S = 60.0


class LoopDisk:
    """An ext4 file system at ``path``; see :func:`loop_disk`."""

    def __init__(self, path: Path, device: str) -> None:
        self.path = path
        self._device = device

    def mount(self) -> None:
        """Mount it; what its journal has is replayed."""
        _run("mount", "-t", "ext4", "-o", MOUNT_OPTIONS, self._device, str(self.path))

    def unmount(self) -> None:
        """Unmount it; waits for the last descriptors of a process that was killed. Raises: AssertionError."""
        deadline = time.monotonic() + 20
        while True:
            done = subprocess.run(["umount", str(self.path)], capture_output=True, text=True)
            if not done.returncode or "not mounted" in done.stderr:
                return
            assert time.monotonic() < deadline, done.stderr
            time.sleep(0.05)

    def cut_power(self) -> None:
        """Let nothing reach the disk any more."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, NO_LOG_FLUSH.to_bytes(4, "little"))
        finally:
            os.close(fd)

    def power_on(self) -> None:
        """Mount it again after a cut. Raises: AssertionError.

        As long as another mount namespace has it mounted, too (that of the process that was killed goes a
        little later, and whoever makes one has copies of all mounts), it would stay the disk without power.
        """
        deadline = time.monotonic() + POWER_ON_S
        while True:
            self.unmount()
            self.mount()
            if self.has_power():
                return
            assert time.monotonic() < deadline, "another mount namespace keeps the disk mounted"
            time.sleep(0.05)

    def has_power(self) -> bool:
        """Whether anything can be written."""
        try:
            os.close(os.open(self.path, os.O_TMPFILE | os.O_RDWR, 0o600))
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            return False
        return True

    def check(self) -> None:
        """Unmount, and let fsck say that the file system itself is sound. Raises: AssertionError."""
        self.unmount()
        done = subprocess.run(["fsck.ext4", "-f", "-n", self._device], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@contextmanager
def loop_disk(base: Path, size_bytes: int = 1 << 30) -> Iterator[LoopDisk]:
    """Give a fresh disk; *base* gets its image, and its mountpoint, and nothing of it stays mounted."""
    image, path = base / "disk.img", base / "disk"
    base.mkdir(parents=True, exist_ok=True)
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(size_bytes)
    # No discard of the image's file, no lazy work in the background, no reserve for root.
    _run(
        "mkfs.ext4",
        "-q",
        "-m",
        "0",
        "-N",
        "2048",
        "-J",
        "size=4",
        "-E",
        "lazy_itable_init=0,lazy_journal_init=0",
        str(image),
    )
    device = _run("losetup", "--find", "--show", str(image)).strip()
    try:
        disk = LoopDisk(path, device)
        disk.mount()
        path.chmod(0o700)
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(path)], capture_output=True)
        subprocess.run(["losetup", "--detach", device], capture_output=True)
        with suppress(FileNotFoundError):
            image.unlink()


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}: {done.stderr}"
    return done.stdout
