"""Reading and writing local files at a position: small ones at once, large ones in threads."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TypeVar

import trio

from s3mount.core.objects import ByteRange
from s3mount.errors import FileTooLarge, FsError, NoSpace, TooManyFiles

T = TypeVar("T")

INLINE_BYTES = 256 << 10
"""Below this the operation itself takes less than the 100 us that a hop to a thread and back costs."""


SYNC_THREADS = 8
"""Files that are made safe at once; the kernel puts what comes together into one write of its log."""

BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Disk:
    """Runs disk operations; at most *threads* at once leave the event loop.

    An fsync has threads of its own: it may take as long as the disk needs for a gigabyte.
    """

    def __init__(self, threads: int) -> None:
        self._limiter = trio.CapacityLimiter(threads)
        self._sync_limiter = trio.CapacityLimiter(SYNC_THREADS)

    async def run(self, size: int, operation: Callable[[], T]) -> T:
        """Run *operation*, which moves *size* bytes.

        Cancel: not once it has begun; a write that is given up half-way could land later.
        """
        if size < INLINE_BYTES:
            return operation()
        return await trio.to_thread.run_sync(operation, limiter=self._limiter)

    async def sync(self, fd: int) -> None:
        """Bring what was written to *fd*, a file or a directory, onto the disk for good.

        Cancel: not once it has begun. Raises: OSError, once; a second call would find nothing amiss.
        """
        await trio.to_thread.run_sync(os.fsync, fd, limiter=self._sync_limiter)


def boot_id() -> str:
    """Return what is different after each start of the machine."""
    with open(BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def sync_directory(path: str) -> None:
    """Bring the names in the directory *path* onto the disk for good. Raises: OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_at(fd: int, data: memoryview, offset: int) -> tuple[int, OSError | None]:
    """Write *data* at *offset*; return how many bytes are written, and what stopped it."""
    done = 0
    while done < len(data):
        try:
            written = os.pwrite(fd, data[done:], offset + done)
        except OSError as exc:
            return done, exc
        if not written:
            return done, OSError(errno.EIO, "the disk takes no more bytes and says no reason")
        done += written
    return done, None


def read_at(fd: int, span: ByteRange) -> bytes:
    """Return the bytes of *span*, zeros for what lies behind the end of the file."""
    data = os.pread(fd, span.size, span.start)
    while len(data) < span.size:  # one pread moves at most 2 GiB
        more = os.pread(fd, span.size - len(data), span.start + len(data))
        if not more:
            return data + bytes(span.size - len(data))
        data += more
    return data


_CANNOT_COPY = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.EPERM})
_PIECE_BYTES = 1 << 20


def copy_range(source: int, target: int, span: ByteRange) -> None:
    """Copy *span* of the file *source* to the same place of *target*.

    Within the kernel: where the file system can (XFS, btrfs), both share the blocks and nothing is copied.
    Raises: OSError (EIO: the source ends before).
    """
    position = span.start
    while position < span.stop:
        try:
            copied = os.copy_file_range(source, target, span.stop - position, position, position)
        except OSError as exc:
            if exc.errno not in _CANNOT_COPY:
                raise
            copied = 0
        if not copied:
            copied = _copy_piece(source, target, position, min(_PIECE_BYTES, span.stop - position))
        position += copied


def _copy_piece(source: int, target: int, position: int, size: int) -> int:
    data = os.pread(source, size, position)
    if not data:
        raise OSError(errno.EIO, "the file is shorter than it was")
    done, failure = write_at(target, memoryview(data), position)
    if failure is not None:
        raise failure
    return done


def translated(exc: OSError, path: str) -> FsError:
    """Return what a program sees of the local disk's failure."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"{path}: the disk is full")
    if exc.errno == errno.EFBIG:
        return FileTooLarge(f"{path}: larger than the spool's disk can store")
    if exc.errno in (errno.EMFILE, errno.ENFILE):
        return TooManyFiles(f"{path}: {exc.strerror}")
    return FsError(f"{path}: the spool's disk failed: {exc.strerror}")
