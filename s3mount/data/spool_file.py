"""A file that is being changed: what was written, over what the object has."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import trio

from s3mount.core.blocks import clip
from s3mount.core.objects import ByteRange, FileSlice, ObjectStat
from s3mount.core.parts import MAX_OBJECT_BYTES
from s3mount.core.ranges import RangeSet
from s3mount.data.disk import INLINE_BYTES, Disk, read_at, translated, write_at
from s3mount.data.spool_note import SpoolNote
from s3mount.data.spool_space import DISK_BLOCK_BYTES, SpoolSpace
from s3mount.errors import BadAnswer, BadDescriptor, FileTooLarge, FsError, NoSpace, collapsed

MIB = 1 << 20

Buffer = bytes | memoryview
Fetch = Callable[[ByteRange], Awaitable[Buffer]]

FETCH_BYTES = 8 * MIB
"""The most that is asked for at once of the object underneath."""

FETCHES_AT_ONCE = 4

SLOW_TRUNCATE_BYTES = 64 * MIB
"""Freeing more than this may take the disk milliseconds, so a thread does it."""


@dataclass(slots=True)
class _Claim:
    """A stretch that somebody is fetching."""

    span: ByteRange
    done: trio.Event = field(default_factory=trio.Event)


class SpoolFile:
    """Bytes on the local disk, over the object *base* where nothing was written yet.

    A byte below ``base_limit`` that is not ``present`` is the object's and is fetched when needed; one
    at or beyond it that is not present is zero. Truncating lowers ``base_limit``, for good.

    Any number of reads, writes and truncates may run at once. Disk operations on one file follow each
    other; fetches do not hold them up, and what was written while a fetch ran is not overwritten by it.

    INVARIANT: the local file is ``size`` bytes long, and zero where nothing is present, unless a fetch
    or a write has failed half-way below ``base_limit``, where nobody reads what is not present.
    INVARIANT: this file's charge in the spool is the total of ``_charged``, which covers ``present``.
    """

    def __init__(
        self, disk: Disk, space: SpoolSpace, *, fd: int, path: str, key: str, base: ObjectStat | None
    ) -> None:
        """Use :meth:`s3mount.data.spool.SpoolDir.create`."""
        self.path = path
        self.key = key
        self.base = base
        self.size = self.base_limit = 0 if base is None else base.size
        self.present = RangeSet()
        self.is_kept = False
        self._disk = disk
        self._space = space
        self._fd = fd
        self._charged = RangeSet()
        self._lost = RangeSet()  # refused for want of space, and not written again since
        self._broken: FsError | None = None
        self._claims: list[_Claim] = []
        self._lock = trio.Lock()
        self._is_closed = False

    @property
    def poison(self) -> FsError | None:
        """Why the file must not be uploaded: bytes of it that a program wrote are not here.

        A lack of space is healed by writing the same bytes again or cutting them off, a failure of
        the disk by nothing.
        """
        if self._broken is None and self._lost:
            span = next(iter(self._lost))
            return NoSpace(f"{self.path}: bytes {span.start}-{span.stop} of {self.key} were refused")
        return self._broken

    @property
    def is_complete(self) -> bool:
        """Whether nothing is to be fetched any more."""
        return not self.missing(ByteRange(0, self.size))

    def missing(self, span: ByteRange) -> list[ByteRange]:
        """Return the stretches of *span* that only the object underneath has."""
        return self.present.missing(clip(span, self.base_limit))

    async def write(self, offset: int, data: Buffer) -> None:
        """Put *data* at *offset*, behind the end if need be.

        Cancel: before or after the write, never within.
        Raises: NoSpace (nothing is written if the cap or the floor refused; a full disk may have taken
            a part), FileTooLarge, FsError (the disk failed). The file is poisoned then.
        """
        span = ByteRange(offset, offset + len(data))
        if span.stop > MAX_OBJECT_BYTES:
            raise FileTooLarge(f"{self.key}: S3 stores at most {MAX_OBJECT_BYTES} bytes")
        if not span.size:
            return
        async with self._turn(span.size):
            try:
                self._charge(span)
                await self._put(span, memoryview(data))
            except (NoSpace, FileTooLarge):
                self._lost.add(span)
                raise
            except FsError as exc:
                self._broken = exc
                raise
            self._lost.remove(span)

    async def read(self, span: ByteRange, fetch: Fetch) -> bytes:
        """Return the bytes of *span* up to the end of the file; without a checkpoint if they are here.

        Args:
            fetch: gives the exact bytes of a span of the object underneath.

        Raises: what *fetch* raises; NoSpace; FsError (the disk failed).
        """
        span = clip(span, self.size)
        await self._load(span, fetch)  # what was loaded once never becomes missing again
        async with self._turn(span.size):
            here = clip(span, self.size)
            try:
                return await self._disk.run(here.size, lambda: read_at(self._fd, here))
            except OSError as exc:
                raise translated(exc, self.path) from exc

    async def truncate(self, size: int) -> None:
        """Cut off at *size* bytes, or extend with zeros.

        Raises: FileTooLarge, NoSpace, FsError; nothing has changed then.
        """
        if size > MAX_OBJECT_BYTES:
            raise FileTooLarge(f"{self.key}: S3 stores at most {MAX_OBJECT_BYTES} bytes")
        moved = INLINE_BYTES if size < self.size and self._charged.total > SLOW_TRUNCATE_BYTES else 0
        async with self._turn(moved):
            try:
                await self._disk.run(moved, lambda: os.ftruncate(self._fd, size))
            except OSError as exc:
                raise translated(exc, self.path) from exc
            self.size = size
            self.base_limit = min(self.base_limit, size)
            self.present.clip(size)
            self._lost.clip(size)
            charged = self._charged.total
            self._charged.clip(_up(size))
            self._space.refund(charged - self._charged.total)

    async def fill(self, fetch: Fetch) -> None:
        """Fetch whatever is still missing, so that the file can be uploaded.

        Raises: what *fetch* raises; NoSpace; FsError (the disk failed).
        """
        await self._load(ByteRange(0, self.size), fetch)

    def slice(self, span: ByteRange) -> FileSlice:
        """Return *span* as the body of a request; the file must be complete and stay as it is.

        Raises: the poison; FsError if bytes are missing.
        """
        if self.poison is not None:
            raise self.poison
        if self.missing(span) or span.stop > self.size or self._is_closed:
            raise FsError(f"{self.path}: bytes {span.start}-{span.stop} are not all here")
        return FileSlice(self._fd, span)

    async def keep(self, key: str) -> str:
        """Let the file outlive its users, with a note beside it that says what it is; return its path.

        Raises: FsError (the note cannot be written; the file stays all the same).
        """
        self.key = key
        self.is_kept = True
        note = SpoolNote(
            key=key,
            size=self.size,
            time_ns=time.time_ns(),
            base_etag=None if self.base is None else self.base.etag,
            base_limit=self.base_limit,
            present=None if self.is_complete else tuple((span.start, span.stop) for span in self.present),
            poison=None if self.poison is None else str(self.poison),
        )
        try:
            await self._disk.run(INLINE_BYTES, lambda: note.write(self.path))
        except OSError as exc:
            raise translated(exc, self.path) from exc
        return self.path

    def unkeep(self) -> None:
        """Undo :meth:`keep`: the bucket has it after all, or nobody wants it any more."""
        self.is_kept = False
        SpoolNote.remove(self.path)

    async def discard(self) -> None:
        """Close; delete the file unless it is kept. Again is fine.

        Cancel: not.
        """
        with trio.CancelScope(shield=True):
            async with self._lock:
                if self._is_closed:
                    return
                self._is_closed = True
                await self._disk.run(self._charged.total, self._close)
        if not self.is_kept:
            self._space.refund(self._charged.total)
            self._charged = RangeSet()

    def _close(self) -> None:
        os.close(self._fd)
        if not self.is_kept:
            with suppress(FileNotFoundError):
                os.unlink(self.path)

    @asynccontextmanager
    async def _turn(self, size: int) -> AsyncIterator[None]:
        """Hold the file for one disk operation that moves *size* bytes.

        One that is not handed to a thread runs to its end anyway, so it only needs that no other does.
        """
        if size < INLINE_BYTES and not self._lock.locked():
            self._need_open()
            yield
            return
        async with self._lock:
            self._need_open()
            yield

    def _need_open(self) -> None:
        if self._is_closed:
            raise BadDescriptor(f"{self.path} is closed")

    def _charge(self, span: ByteRange) -> None:
        """Take the disk blocks of *span* that were not taken before. Raises: NoSpace."""
        blocks = ByteRange(span.start // DISK_BLOCK_BYTES * DISK_BLOCK_BYTES, _up(span.stop))
        fresh = sum(gap.size for gap in self._charged.missing(blocks))
        if fresh:
            self._space.charge(fresh)
            self._charged.add(blocks)

    async def _put(self, span: ByteRange, data: memoryview) -> None:
        """Write *data* to the disk and note what is there now, also if only a part of it is."""
        done, failure = await self._disk.run(span.size, lambda: write_at(self._fd, data, span.start))
        self.present.add(ByteRange(span.start, span.start + done))
        self.size = max(self.size, span.start + done)
        if failure is not None:
            raise translated(failure, self.path) from failure

    async def _load(self, span: ByteRange, fetch: Fetch) -> None:
        """Fetch what is missing of *span*, several pieces at once."""
        gaps = self.missing(span)
        if not gaps:
            return
        pieces = _pieces(gaps)

        async def work() -> None:
            for piece in pieces:
                await self._load_piece(piece, fetch)

        with collapsed():
            async with trio.open_nursery() as nursery:
                for _ in range(min(FETCHES_AT_ONCE, 1 + sum(gap.size for gap in gaps) // FETCH_BYTES)):
                    nursery.start_soon(work)

    async def _load_piece(self, piece: ByteRange, fetch: Fetch) -> None:
        """Fetch what is missing of *piece*, waiting for those who already fetch some of it."""
        while gaps := self.missing(piece):
            gap = gaps[0]
            for claim in self._claims:
                if claim.span.start < gap.stop and gap.start < claim.span.stop:
                    await claim.done.wait()
                    break
            else:
                await self._fetch(gap, fetch)

    async def _fetch(self, gap: ByteRange, fetch: Fetch) -> None:
        claim = _Claim(gap)
        self._claims.append(claim)
        try:
            data = memoryview(await fetch(gap))
            if len(data) != gap.size:
                raise BadAnswer(f"{self.key}: {len(data)} bytes came for {gap.start}-{gap.stop}")
            async with self._turn(gap.size):
                # What was written or cut off since the request was sent is not the object's any more.
                for hole in self.missing(gap):
                    self._charge(hole)
                    await self._put(hole, data[hole.start - gap.start : hole.stop - gap.start])
        finally:
            self._claims.remove(claim)
            claim.done.set()


def _up(size: int) -> int:
    """Round up to whole disk blocks."""
    return -(-size // DISK_BLOCK_BYTES) * DISK_BLOCK_BYTES


def _pieces(gaps: list[ByteRange]) -> Iterator[ByteRange]:
    for gap in gaps:
        for start in range(gap.start, gap.stop, FETCH_BYTES):
            yield ByteRange(start, min(start + FETCH_BYTES, gap.stop))
