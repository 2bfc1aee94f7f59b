"""A file that is open, or has bytes that the bucket does not have.

All opens of a file on this host share its OpenFile, so that each sees what the others write. While a
file is uploaded its writers wait on its lock; readers do not.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from dataclasses import replace

import trio

from s3mount.core.attributes import Attributes, from_metadata, to_metadata, without_checksums
from s3mount.core.content_types import for_key
from s3mount.core.filestate import FileEvent, FileState, advance
from s3mount.core.objects import ByteRange, ObjectHeaders, ObjectStat, WriteCondition
from s3mount.core.readahead import Readahead
from s3mount.core.spool_record import SpoolRecord
from s3mount.data.reader import ObjectReader
from s3mount.data.spool import SpoolFile
from s3mount.errors import ConditionFailed, FsError, NotFound
from s3mount.fs.file_services import FileServices
from s3mount.fs.publishing import Publication
from s3mount.meta.inodes import FileNode
from s3mount.meta.observations import stored_attributes

log = logging.getLogger(__name__)

Buffer = bytes | memoryview


class OpenFile:
    """A file with at least one handle, or with bytes that the bucket does not have.

    ``base`` is the version that unwritten bytes come from. ``lock`` is held by whoever changes or
    uploads the file.
    INVARIANT: ``state`` is not CLEAN only while there is a spool.
    ``is_displaced``: somebody else's object has taken the name, and what this host wrote is elsewhere.
    ``condition``: what must hold of the key for an upload, where ``base`` does not say it.
    ``failures`` counts the uploads that failed since one succeeded; ``error`` is what the last one in the
    background met, which no program has been told yet.
    """

    def __init__(self, services: FileServices, node: FileNode) -> None:
        self.node = node
        self.handles = 0
        self.lock = trio.Lock()
        self.state = FileState.CLEAN
        self.spool: SpoolFile | None = None
        self.base = node.stat
        self.is_displaced = False
        self.condition: WriteCondition | None = None
        self.failures = 0
        self.error: FsError | None = None
        self._in_background: trio.CancelScope | None = None
        self._services = services
        self._publication = Publication(services, self)

    @property
    def is_unsent(self) -> bool:
        """Whether the spool has what the bucket has not."""
        return self.state is not FileState.CLEAN

    @property
    def is_in_background(self) -> bool:
        """Whether the upload that is under way is one that no program waits for."""
        return self._in_background is not None

    @property
    def is_waiting(self) -> bool:
        """Whether a program's close was answered and the bytes can be sent."""
        is_closed = self.state in (FileState.QUEUED, FileState.FAILED)
        return is_closed and self.node.is_linked and self.spool is not None and self.spool.poison is None

    @property
    def can_be_changed(self) -> bool:
        """Whether a change needs no further descriptor."""
        return self.spool is not None and not self.spool.is_promised

    async def read(self, handle: Handle, span: ByteRange) -> Buffer:
        """Return the bytes of *span* up to the end of the file.

        Raises: StaleObject, what the store raises.
        """
        if self.spool is not None:
            return await self.spool.read(_within(span, self.spool.size), self.fetch_base)
        if handle.reader is None:
            return b""
        return await handle.reader.read(span, handle.readahead)

    async def write(self, offset: int, data: bytes) -> None:
        """Put *data* at *offset*, behind the end if need be. Caller holds the lock.

        Raises: NoSpace, StaleObject, what the store raises.
        """
        self._need_place()
        spool = await self._open_spool()
        await spool.write(offset, data)
        self._changed(spool.size)

    async def truncate(self, size: int, *, touches: bool = False) -> None:
        """Cut or extend to *size* bytes. Caller holds the lock.

        *touches*: what has that size already is changed all the same: its time is now.
        """
        self._need_place()
        if size == self.node.size and not self.is_unsent and self.base is not None and not touches:
            return
        spool = await self._open_spool()
        await spool.truncate(size)
        self._changed(size)

    async def create(self) -> None:
        """Begin as a new, empty file that only this host has."""
        await self._open_spool()
        self._changed(0)

    async def change_attributes(self) -> None:
        """Say that attributes changed, which the pending upload is to carry. Caller holds the lock.

        Raises: NoSpace, FsError (the journal's disk); what the store raises.
        """
        self.node.is_local = True
        if self.state in (FileState.QUEUED, FileState.FAILED) and self.spool is not None:
            # No close will come. As on any disk, a chmod is safe from a power cut only after an fsync.
            self.spool.describe(await self.pending_headers(self.node.key))
            self._services.queue.put(self)
        else:
            self.state = advance(self.state, FileEvent.CHANGE)

    async def keep_content(self) -> None:
        """Bring every byte of the object here: it is about to go from the bucket, and readers stay."""
        async with self.lock:
            spool = await self._open_spool()
            await spool.fill(self.fetch_base)

    async def drop_changes(self) -> None:
        """Forget that bytes are unsent: the file has no name any more. Readers keep them."""
        async with self.lock:
            if self.state is FileState.CONFLICT:
                return
            self.state = advance(self.state, FileEvent.DROP)
            self.node.is_local = False
            if self.spool is not None:
                self.spool.forget()
                with trio.CancelScope(shield=True):
                    try:
                        await self.spool.secure_row()
                    except FsError as exc:
                        log.debug("%s may be sent after a power cut: %s", self.spool.path, exc)
                await self.spool.drop_older()

    async def upload(self) -> None:
        """Put the file into the bucket if it has anything new. Returns once the bucket has it.

        Cancel: the bytes stay in the spool, and parts that were sent need not be sent again.
        Raises: what made it fail; the spool has the bytes, and the queue tries again. ConditionFailed:
            somebody else has changed the object; the spool keeps the bytes for the user, and the name
            leads to the other object from now on.
        """
        async with self.lock:
            self.check_conflict()
            # Whatever the background met, the caller is told now how it stands.
            self.error = None
            if self.is_unsent and self.spool is not None:
                await self._publication.publish(self.spool, self.node.key, self.write_condition())

    async def upload_in_background(self) -> None:
        """As :meth:`upload`, but gives way to who wants to change the file, and keeps the error for a close.

        Raises: nothing of its own.
        """
        with trio.CancelScope() as self._in_background:
            async with self.lock:
                if self.spool is None or not self.is_waiting:
                    return  # written to again, sent, or unlinked
                try:
                    await self._publication.publish(self.spool, self.node.key, self.write_condition())
                except FsError as exc:
                    self.error = exc
        self._in_background = None

    def make_way(self) -> None:
        """Stop an upload in the background: somebody is about to take the lock and change the file."""
        if self._in_background is not None:
            self._in_background.cancel()

    async def put_off(self) -> None:
        """Make what was written safe on the disk; the queue sends it. Returns when a power cut loses nothing.

        Where nothing was written since, as at the close of a reader, it does not wait for an upload.
        Raises: the error of the upload in the background, once; ConditionFailed; NoSpace; FsError (the disk
            failed).
        """
        self.check_conflict()
        if self.state is FileState.DIRTY:
            async with self.lock:
                await self._put_off()
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    async def _put_off(self) -> None:
        if self.spool is None or self.state is not FileState.DIRTY:
            return
        await self._publication.keep(self.spool)
        if self.spool.poison is not None:
            raise self.spool.poison
        self.state = advance(self.state, FileEvent.QUEUE)
        self._services.queue.put(self)

    async def upload_as(self, key: str, replaced: ObjectStat | None) -> None:
        """Put the file into the bucket under *key*, which it is about to get. Caller holds the lock.

        *replaced*: the object that it is to take the place of, None if nobody knows which.
        Raises: as ``upload``.
        """
        assert self.spool is not None
        condition = WriteCondition() if replaced is None else WriteCondition(if_match=replaced.etag)
        await self._publication.publish(self.spool, key, condition)

    def take_over(self, spool: SpoolFile, record: SpoolRecord) -> None:
        """Begin as a file that an earlier mount has left in the spool, to be sent."""
        node = self.node
        assert record.headers is not None
        self.spool = spool
        self.base = record.base
        self.condition = record.condition
        self.state = FileState.QUEUED
        node.stat = record.base if record.base is not None and record.base.key == node.key else None
        node.attributes = from_metadata(record.headers.metadata)
        node.size = spool.size
        stored = node.attributes.mtime_ns
        node.mtime_ns = record.changed_ns if stored is None else stored
        node.ctime_ns = record.changed_ns
        node.is_local = node.may_be_stored = True

    def follow_name(
        self, key: str, condition: WriteCondition | None = None, *, base: ObjectStat | None = None
    ) -> None:
        """Let the journal say that what is unsent is to become *key*. Caller holds the lock.

        Args:
            condition: what must hold of that key; None leaves it.
            base: where the object underneath lies then; None leaves it.

        Raises: NoSpace, FsError (the journal's disk); nothing has changed then.
        """
        if self.spool is None or not self.is_unsent:
            return
        condition = self.condition if condition is None else condition
        base = self.base if base is None else base
        self.spool.rekey(key, condition_over(base, key) if condition is None else condition, base=base)
        self.condition = condition

    async def secure_name(self) -> None:
        """Return once a power cut cannot undo :meth:`follow_name`: what is at the old name is about to go.

        Cancel: not. Raises: NoSpace, FsError (the journal's disk).
        """
        if self.spool is not None and self.is_unsent:
            with trio.CancelScope(shield=True):
                await self.spool.secure_row()

    def keep_name(self, key: str, condition: WriteCondition | None) -> None:
        """Undo :meth:`follow_name`: the file stays *key*, and *condition* is what was set before."""
        self.condition = condition
        with suppress(FsError):  # what cannot be recorded now is when the file is sent
            self.follow_name(key)

    def check_conflict(self) -> None:
        """Raise ConditionFailed if what was written here has lost against somebody else's object."""
        if self.state is FileState.CONFLICT:
            raise ConditionFailed(f"{self.node.key} was changed elsewhere; {self.kept_at()}")

    def check_refused(self) -> None:
        """Raise what refused a write that changed nothing, so that no upload will say so."""
        if self.spool is not None and self.state is not FileState.DIRTY and self.spool.refusal is not None:
            raise self.spool.refusal

    def _need_place(self) -> None:
        """Refuse changes of what has lost its name. Raises: ConditionFailed."""
        if self.is_displaced:
            raise ConditionFailed(f"{self.node.key} was changed elsewhere; open it again")

    def kept_at(self) -> str:
        """Return words that say where the bytes are, for a conflict's error."""
        return "" if self.spool is None else f"what was written here is in {self.spool.path}"

    def write_condition(self) -> WriteCondition:
        """Return what must hold of the key for the upload not to undo somebody else's work."""
        return condition_over(self.base, self.node.key) if self.condition is None else self.condition

    async def keep_unsent(self) -> None:
        """Make safe what is unsent: the mount ends. What cannot be is logged."""
        async with self.lock:
            if self.spool is None or self.state is not FileState.DIRTY:
                return  # every other state is in the journal already
            try:
                await self._publication.keep(self.spool)
            except FsError as exc:
                self._publication.not_noted(self.spool, exc)

    def published(self, stat: ObjectStat) -> None:
        """Take *stat*, made from a write's answer, as what the bucket has now."""
        node = self.node
        node.stat = self.base = stat
        self.condition = None
        node.is_local = False
        node.is_own = True
        # The kernel's pages came through this very file.
        node.pages_etag = stat.etag
        self._services.namespace.note_fresh(node)
        if node.parent is not None and node.key == node.parent.location.marker_key:
            node.parent.knows_marker = False

    def moved(self, stat: ObjectStat) -> None:
        """Take *stat*, a copy of ``base`` made inside the server, for what the node is now."""
        assert self.base is not None
        keeps_pages = self.node.pages_etag == self.base.etag
        self._services.cache.carry_over(self.base, stat)
        is_local = self.node.is_local
        self.published(stat)
        self.node.is_local = is_local
        if not keeps_pages:
            self.node.pages_etag = None

    async def pending_headers(self, key: str) -> ObjectHeaders:
        """Return headers for an upload to *key*: the old object's, with the attributes as they are now."""
        old = await self.known_headers()
        attributes = self.node.attributes or Attributes()
        # What other tools noted of the old bytes would make the new ones look damaged to them.
        metadata = to_metadata(without_checksums(old.metadata), attributes, is_directory=False)
        return replace(old, content_type=old.content_type or for_key(key), metadata=metadata)

    async def known_headers(self) -> ObjectHeaders:
        """Return the old object's headers, asked for if no answer carried them yet.

        Raises: StaleObject if it has been replaced, what the store raises.
        """
        stat = self.base
        if stat is None:
            return ObjectHeaders()
        if stat.headers is None:
            try:
                asked = await self._services.store.head(stat.key)
            except NotFound:
                # Known from now on: what is written here must be notable while no server answers.
                asked = replace(stat, headers=ObjectHeaders(storage_class=stat.storage_class))
            stat = self.base = replace(stat, headers=asked.headers)
            if self.node.stat is not None and self.node.stat.etag == stat.etag:
                self.node.stat = stat
                attributes = stored_attributes(stat)
                if attributes is not None and (self.node.attributes is None or self.node.attributes.is_plain):
                    self.node.attributes = self._merged(attributes)
        return stat.headers or ObjectHeaders()

    def _merged(self, stored: Attributes) -> Attributes:
        """A change of content makes a stored time of the past untrue; mode and owner stay."""
        return replace(stored, mtime_ns=None) if self.is_unsent else stored

    async def _open_spool(self) -> SpoolFile:
        if self.spool is None:
            if self.base is not None and self.base.headers is None:
                await self.known_headers()
            if self.spool is None:
                self.spool = await self._services.spool_dir.create(self.node.key, self.base)
        return self.spool

    async def fetch_base(self, span: ByteRange) -> Buffer:
        """Return the bytes of *span* of the object underneath. Raises: StaleObject, what the store raises."""
        assert self.base is not None
        return await ObjectReader(self._services.cache, self.base).read(span)

    def _changed(self, size: int) -> None:
        node = self.node
        if node.is_linked:
            self.state = advance(self.state, FileEvent.CHANGE)
            node.is_local = True
        node.size = size
        node.mtime_ns = node.ctime_ns = time.time_ns()
        if node.attributes is not None and node.attributes.mtime_ns is not None:
            node.attributes = replace(node.attributes, mtime_ns=None)


class Handle:
    """One open(2): what it may do, and the version it reads."""

    def __init__(self, file: OpenFile, flags: int, readahead: Readahead, pid: int) -> None:
        self.file = file
        self.is_readable = flags & os.O_ACCMODE != os.O_WRONLY
        self.is_writable = flags & os.O_ACCMODE != os.O_RDONLY
        self.readahead = readahead
        self.reader: ObjectReader | None = None
        self.pid = pid


def condition_over(base: ObjectStat | None, key: str) -> WriteCondition:
    """Return what must hold of *key* for a write over *base*, None for a name that nothing has."""
    if base is not None:
        return WriteCondition(if_match=base.etag)
    # A directory's marker, without bytes, is no file that anybody else has made.
    return WriteCondition(if_none_match=not key.endswith("/"))


def _within(span: ByteRange, size: int) -> ByteRange:
    start = min(span.start, size)
    return ByteRange(start, max(start, min(span.stop, size)))
