"""One version of a file that is being changed: its data file in the spool, and its row."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from logging import getLogger

import trio

from s3mount.core.objects import ByteRange
from s3mount.core.ranges import RangeSet
from s3mount.data.disk import Disk, copy_range, translated
from s3mount.data.spool_entry import SpoolEntry
from s3mount.data.spool_space import DISK_BLOCK_BYTES, SpoolSpace
from s3mount.errors import FsError

log = getLogger(__name__)

COPY_BYTES = 64 << 20
"""As much is copied at a time: a caller who has given up is gone within some tenths of a second."""


class SpoolVersion:
    """A data file, open, with its row and its share of the spool's space.

    INVARIANT: the charge in the spool is the total of ``charged``: the disk blocks that were written to.
    """

    def __init__(
        self,
        disk: Disk,
        space: SpoolSpace,
        entry: SpoolEntry,
        *,
        fd: int,
        path: str,
        on_close: Callable[[int], object],
        present: Iterable[ByteRange] = (),
    ) -> None:
        """*on_close* is told how many bytes stay on the disk; *present* are there already, and charged."""
        self.entry = entry
        self.fd = fd
        self.path = path
        self.charged = RangeSet()
        self.has_safe_name = entry.record.is_synced
        self.is_closed = False
        self._disk = disk
        self._space = space
        self._on_close = on_close
        for span in present:
            self.charged.add(_blocks_of(span))

    def charge(self, span: ByteRange) -> None:
        """Take the disk blocks of *span* that were not taken before. Raises: NoSpace."""
        blocks = _blocks_of(span)
        fresh = sum(gap.size for gap in self.charged.missing(blocks))
        if fresh:
            self._space.charge(fresh)
            self.charged.add(blocks)

    def cut(self, size: int) -> None:
        """Give back the disk blocks behind *size*, which have been cut off."""
        before = self.charged.total
        self.charged.clip(_up(size))
        self._space.refund(before - self.charged.total)

    async def copy_from(self, other: SpoolVersion, present: RangeSet) -> None:
        """Copy the bytes that are *present* there, which count as two copies from here on.

        Cancel: a part may be copied.
        Raises: NoSpace, FsError (the disk failed).
        """
        for span in present:
            self.charge(span)
        try:
            for span in present:
                for start in range(span.start, span.stop, COPY_BYTES):
                    piece = ByteRange(start, min(start + COPY_BYTES, span.stop))
                    await self._disk.run(piece.size, lambda: copy_range(other.fd, self.fd, piece))  # noqa: B023
        except OSError as exc:
            raise translated(exc, self.path) from exc

    async def discard(self) -> None:
        """Close, and take away file and row whatever they say. Again is fine.

        A row that the journal cannot take away now is dropped by the next mount: it has no file.
        Cancel: not.
        Raises: FsError (the file cannot be taken away; it stays, with its row).
        """
        with trio.CancelScope(shield=True):
            # Else a power cut may leave a row that misses its file, as if bytes had been lost.
            await self.entry.withdraw()
            if not await self._close(delete=True):
                return
            try:
                self.entry.delete()
            except FsError as exc:
                log.debug("%s: its row stays in the journal: %s", self.path, exc)
            await self.entry.tidy()

    async def close(self) -> None:
        """Let go of the file; it stays in the spool with its row. Again is fine. Cancel: not."""
        with trio.CancelScope(shield=True):
            await self._close(delete=False)

    def close_now(self) -> None:
        """Close at the end of the mount, when nothing runs any more."""
        if not self.is_closed:
            self.is_closed = True
            os.close(self.fd)

    async def _close(self, *, delete: bool) -> bool:
        """Close; return whether this was the first call. Raises: FsError (the file cannot be deleted)."""

        def work() -> None:
            os.close(self.fd)
            if delete:
                with suppress(FileNotFoundError):
                    os.unlink(self.path)

        if self.is_closed:
            return False
        self.is_closed = True
        is_kept = True
        try:
            await self._disk.run(self.charged.total if delete else 0, work)
            is_kept = not delete
        except OSError as exc:
            raise translated(exc, self.path) from exc
        finally:
            if not is_kept:
                self._space.refund(self.charged.total)
                self.charged = RangeSet()
            self._on_close(self.charged.total)
        return True


def _blocks_of(span: ByteRange) -> ByteRange:
    """Return the disk blocks that *span* touches."""
    return ByteRange(span.start // DISK_BLOCK_BYTES * DISK_BLOCK_BYTES, _up(span.stop))


def _up(size: int) -> int:
    """Round up to whole disk blocks."""
    return -(-size // DISK_BLOCK_BYTES) * DISK_BLOCK_BYTES
