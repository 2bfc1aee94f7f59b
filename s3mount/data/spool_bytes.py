"""The bytes of a file that is being changed: what was written, over what the object has."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import trio

from s3mount.core.blocks import clip
from s3mount.core.objects import ByteRange, FileSlice
from s3mount.core.parts import MAX_OBJECT_BYTES
from s3mount.core.ranges import RangeSet
from s3mount.core.spool_record import SpoolRecord, SpoolState
from s3mount.data.disk import INLINE_BYTES, Disk, read_at, translated, write_at
from s3mount.data.spool_entry import SpoolEntry
from s3mount.data.spool_ledger import SpoolLedger
from s3mount.data.spool_loader import Buffer, Fetch, Loader
from s3mount.data.spool_version import SpoolVersion
from s3mount.errors import BadAnswer, BadDescriptor, FileTooLarge, FsError, NoSpace

log = logging.getLogger(__name__)

Begin = Callable[[SpoolRecord], SpoolVersion]

SLOW_TRUNCATE_BYTES = 64 << 20
"""Freeing more than this may take the disk milliseconds, so a thread does it."""


class SpoolBytes:
    """Bytes on the local disk, over the object *base* where nothing was written yet.

    A byte below ``base_limit`` that is not ``present`` is the object's and is fetched when needed; one
    at or beyond it that is not present is zero. Truncating lowers ``base_limit``, for good.

    Any number of reads, writes and truncates may run at once. Disk operations on one file follow each
    other; fetches do not hold them up, and what was written while a fetch ran is not overwritten by it.

    The journal has a row of the file, ``record``, from its creation on; what it is told is in
    :class:`s3mount.data.spool_file.SpoolFile`. ``discard`` takes file and row away, ``close`` leaves both.

    What is to be sent is never changed: the first change goes into a copy, with a row of its own, and what
    was closed stays as it is (``is_edited``) until the copy is made durable, too, and takes its place.

    INVARIANT: the local file is ``size`` bytes long, and zero where nothing is present, unless a fetch
    or a write has failed half-way below ``base_limit``, where nobody reads what is not present.
    INVARIANT: what is charged for this file covers ``present``.
    INVARIANT: there is an older version only while this one is not promised, or until that commit is safe.
    """

    def __init__(self, disk: Disk, version: SpoolVersion, begin: Begin, *, directory_fd: int) -> None:
        """Use :meth:`s3mount.data.spool.SpoolDir.create` or :meth:`~s3mount.data.spool.SpoolDir.reopen`.

        *begin* makes an empty version for a row. Raises: NoSpace, FsError.
        """
        record = version.entry.record
        self.base = record.base
        self.size = record.size
        self.base_limit = record.base_limit
        self.present = RangeSet()
        self._disk = disk
        self._version = version
        self._older: SpoolVersion | None = None
        self._begin = begin
        self._directory_fd = directory_fd
        self._changes = 0  # counts writes and truncates, so that an fsync knows whether it has missed any
        self._lost = RangeSet()  # refused for want of space, and not written again since
        self._broken: FsError | None = None
        self._loader = Loader(self.missing, self._keep_fetched)
        self._lock = trio.Lock()
        self._syncing = trio.Lock()  # taken before the other: for as long as an fsync has the descriptor
        self.ledger = SpoolLedger(version.entry, self._secure)
        for span in record.present:
            self.present.add(span)

    @property
    def _entry(self) -> SpoolEntry:
        return self._version.entry

    @property
    def path(self) -> str:
        """Where the bytes are."""
        return self._version.path

    @property
    def key(self) -> str:
        """What the file is to become."""
        return self._entry.record.key

    @property
    def record(self) -> SpoolRecord:
        """What the journal says of the file."""
        return self._entry.record

    @property
    def state(self) -> SpoolState:
        """Where the file stands."""
        return self._entry.record.state

    @property
    def charged_bytes(self) -> int:
        """Bytes on disk that the spool is charged with for this file as it is."""
        return self._version.charged.total

    @property
    def is_promised(self) -> bool:
        """Whether a close has said that the bytes as they are are to be sent.

        A change goes into a copy then, which takes a descriptor more.
        """
        return self.record.is_promised

    @property
    def is_edited(self) -> bool:
        """Whether what was closed before is kept beside these bytes."""
        return self._older is not None

    @property
    def refusal(self) -> FsError | None:
        """Why what programs have written since is not all here, None where it is.

        A lack of space is healed by writing the same bytes again or cutting them off, a failure of
        the disk by nothing.
        """
        if self._broken is None and self._lost:
            span = next(iter(self._lost))
            return NoSpace(f"{self.path}: bytes {span.start}-{span.stop} of {self.key} were refused")
        return self._broken

    @property
    def poison(self) -> FsError | None:
        """Why the file must not be uploaded: bytes of it that a program wrote are not here.

        As :attr:`refusal`; but a write that was refused before it began has not spoiled what was closed.
        """
        return self._broken if self.is_promised else self.refusal

    def forgive(self) -> None:
        """Forget what was refused of a change that never began: nobody has the file open any more."""
        if self.is_promised:
            self._lost = RangeSet()

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
        async with self._changing(span.size, span):
            try:
                self._version.charge(span)
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
        await self._loader.load(span, fetch)  # what was loaded once never becomes missing again
        async with self._turn(span.size):
            here = clip(span, self.size)
            try:
                return await self._disk.run(here.size, lambda: read_at(self._version.fd, here))
            except OSError as exc:
                raise translated(exc, self.path) from exc

    async def truncate(self, size: int) -> None:
        """Cut off at *size* bytes, or extend with zeros.

        Raises: FileTooLarge, NoSpace, FsError; nothing has changed then.
        """
        if size > MAX_OBJECT_BYTES:
            raise FileTooLarge(f"{self.key}: S3 stores at most {MAX_OBJECT_BYTES} bytes")
        is_slow = size < self.size and self.charged_bytes > SLOW_TRUNCATE_BYTES and not self.is_promised
        moved = INLINE_BYTES if is_slow else 0
        async with self._changing(moved, None, keeps=size):
            try:
                await self._disk.run(moved, lambda: os.ftruncate(self._version.fd, size))
            except OSError as exc:
                raise translated(exc, self.path) from exc
            self.size = size
            self.base_limit = min(self.base_limit, size)
            self.present.clip(size)
            self._lost.clip(size)
            self._version.cut(size)

    async def fill(self, fetch: Fetch) -> None:
        """Fetch whatever is still missing, so that the file can be uploaded.

        What was safe from a power cut is so as a whole afterwards.
        Raises: what *fetch* raises; NoSpace; FsError (the disk failed).
        """
        await self._loader.load(ByteRange(0, self.size), fetch)
        record = self._entry.record
        if record.is_synced and record.present != tuple(self.present):
            async with self._synced() as facts:
                self._entry.note(is_synced=True, **facts)

    def slice(self, span: ByteRange) -> FileSlice:
        """Return *span* as the body of a request; the file must be complete and stay as it is.

        Raises: the poison; FsError if bytes are missing.
        """
        self._need_whole(span)
        if span.stop > self.size or self._version.is_closed:
            raise FsError(f"{self.path}: bytes {span.start}-{span.stop} are not all here")
        return FileSlice(self._version.fd, span)

    def _need_whole(self, span: ByteRange | None = None) -> None:
        """Raises: the poison; FsError if bytes of *span*, or of the file, are missing."""
        if self.poison is not None:
            raise self.poison
        span = ByteRange(0, self.size) if span is None else span
        if self.missing(span):
            raise FsError(f"{self.path}: bytes {span.start}-{span.stop} are not all here")

    async def drop_older(self) -> None:
        """Take away what was closed before, if the journal says for good that nobody needs it."""
        older = self._older
        if older is None or older.entry.record.state is not SpoolState.DONE:
            return
        self._older = None
        try:
            await older.discard()
        except FsError as exc:
            log.debug("%s is taken away by the next mount: %s", older.path, exc)

    async def discard(self) -> None:
        """Close, and take away file and row whatever they say. Again is fine.

        A row that the journal cannot take away now is dropped by the next mount: it has no file.
        Cancel: not.
        Raises: FsError (the file cannot be taken away; it stays, with its row).
        """
        with trio.CancelScope(shield=True):
            async with self._syncing, self._lock:
                for version in self._versions():
                    await version.discard()

    async def close(self) -> None:
        """Let go of the file; it stays in the spool with its row. Again is fine.

        Cancel: not.
        """
        with trio.CancelScope(shield=True):
            async with self._syncing, self._lock:
                for version in self._versions():
                    await version.close()

    def _versions(self) -> list[SpoolVersion]:
        return [version for version in (self._older, self._version) if version is not None]

    def _facts(self) -> dict[str, object]:
        """Return what the row is to say of the bytes as they are now."""
        return {"size": self.size, "base_limit": self.base_limit, "present": tuple(self.present)}

    async def _secure(self) -> None:
        """Make the file safe as it is being uploaded. Raises: as :meth:`make_durable`."""
        if not self._entry.record.is_synced:
            async with self._synced() as facts:
                self._entry.note(is_synced=True, **facts)
        try:
            await self._entry.sync()
        except NoSpace:
            return  # the upload goes on: it frees the room

    @asynccontextmanager
    async def _synced(self) -> AsyncIterator[dict[str, object]]:
        """Give what is on the disk for good; until the block ends, which awaits nothing, none of it changes.

        Bytes that are fetched meanwhile are not in it: they will be fetched again.
        """
        async with self._syncing:
            async with self._lock:  # a thread may be in the midst of a write
                facts, changes = self._facts(), self._changes
            await self._sync_data()
            if self._changes == changes:
                yield facts
                return
            async with self._lock:  # writers who do not pause wait from here on
                facts = self._facts()
                await self._sync_data()
                yield facts

    async def _sync_data(self) -> None:
        if self._broken is not None:
            raise self._broken
        self._need_open()
        try:
            await self._disk.sync(self._version.fd)
            if not self._version.has_safe_name:
                await self._disk.sync(self._directory_fd)
        except OSError as exc:
            # The kernel says it once and takes the pages for clean: a second fsync would succeed.
            self._broken = translated(exc, self.path)
            self._entry.distrust(str(self._broken), **self._facts())
            raise self._broken from exc
        self._version.has_safe_name = True

    @asynccontextmanager
    async def _changing(
        self, size: int, span: ByteRange | None, *, keeps: int | None = None
    ) -> AsyncIterator[None]:
        """Hold the file for a change of *size* bytes, after the journal knows that it will come.

        *span* counts as lost, and the file as poisoned, if the journal has no room. Of what is to be sent,
        the first *keeps* bytes are copied, all if None.
        """
        async with self._turn(INLINE_BYTES if self._entry.needs_mark else size):
            try:
                # While one mark is made safe, what makes the file durable may finish and undo it.
                while self._entry.needs_mark:
                    if self.is_promised:
                        await self._leave_promised(self.size if keeps is None else min(keeps, self.size))
                    else:
                        await self._entry.mark_changing()
            except FsError as exc:
                if span is not None and (self.is_promised or isinstance(exc, NoSpace)):
                    self._lost.add(span)
                raise
            self._changes += 1
            yield

    async def _leave_promised(self, size: int) -> None:
        """Go on with a copy of the first *size* bytes. Caller holds the file.

        While it is being made, its row says that nobody needs it; then, that it is being written.
        Raises: NoSpace, FsError: nothing has changed then.
        """
        if self._older is not None:
            await self._entry.sync()  # whoever wanted to make this version safe has given up
            await self.drop_older()
        present = RangeSet()
        for span in self.present:
            present.add(span)
        present.clip(size)
        limit = min(self.base_limit, size)
        copy = self._begin(self._entry.record.edited(size, limit, tuple(present)))
        try:
            await copy.copy_from(self._version, present)
            copy.entry.write(state=SpoolState.WRITING)
        except BaseException:
            with suppress(FsError):  # the next mount drops it
                await copy.discard()
            raise
        self._older, self._version = self._version, copy
        self.size, self.base_limit, self.present = size, limit, present
        self.ledger = SpoolLedger(copy.entry, self._secure)

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
        if self._version.is_closed:
            raise BadDescriptor(f"{self.path} is closed")

    async def _put(self, span: ByteRange, data: memoryview) -> None:
        """Write *data* to the disk and note what is there now, also if only a part of it is."""
        done, failure = await self._disk.run(span.size, lambda: write_at(self._version.fd, data, span.start))
        self.present.add(ByteRange(span.start, span.start + done))
        self.size = max(self.size, span.start + done)
        if failure is not None:
            raise translated(failure, self.path) from failure

    async def _keep_fetched(self, gap: ByteRange, data: memoryview) -> None:
        """Put what came of the object for *gap* where nothing else has come to be.

        What was written or cut off since the request was sent is not the object's any more.
        Raises: BadAnswer (more or less came), NoSpace, FsError.
        """
        if len(data) != gap.size:
            raise BadAnswer(f"{self.key}: {len(data)} bytes came for {gap.start}-{gap.stop}")
        async with self._turn(gap.size):
            for hole in self.missing(gap):
                self._version.charge(hole)
                await self._put(hole, data[hole.start - gap.start : hole.stop - gap.start])
