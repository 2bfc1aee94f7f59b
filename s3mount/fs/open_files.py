"""Files that are open: one OpenFile per inode, one Handle per open(2).

All opens of a file on this host share its OpenFile, so that each sees what the others write. While a
file is uploaded its writers wait on its lock; readers do not.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import trio

from s3mount.core.attributes import Attributes, to_metadata, without_checksums
from s3mount.core.conflicts import key_beside
from s3mount.core.content_types import for_key
from s3mount.core.filestate import FileEvent, FileState, advance
from s3mount.core.objects import ByteRange, ObjectHeaders, ObjectStat, WriteAnswer, WriteCondition
from s3mount.core.readahead import Readahead
from s3mount.core.spool_record import SpoolState
from s3mount.data.block_cache import BlockCache
from s3mount.data.reader import ObjectReader
from s3mount.data.spool import SpoolDir, SpoolFile
from s3mount.data.uploader import Uploader
from s3mount.errors import BadDescriptor, ConditionFailed, FsError, NotFound, StaleObject
from s3mount.meta.inodes import FileNode
from s3mount.meta.namespace import Namespace
from s3mount.meta.observations import stored_attributes
from s3mount.store.base import ObjectStore

log = logging.getLogger(__name__)

Buffer = bytes | memoryview


@dataclass(frozen=True)
class FileServices:
    """What open files work with."""

    store: ObjectStore
    namespace: Namespace
    cache: BlockCache
    spool_dir: SpoolDir
    uploader: Uploader
    new_readahead: Callable[[], Readahead]
    on_conflict: Literal["fail", "overwrite", "keep-both"] = "fail"


class OpenFile:
    """A file with at least one handle, or with bytes that the bucket does not have.

    ``base`` is the version that unwritten bytes come from. ``lock`` is held by whoever changes or
    uploads the file.
    INVARIANT: ``state`` is not CLEAN only while there is a spool.
    ``is_displaced``: somebody else's object has taken the name, and what this host wrote is elsewhere.
    """

    def __init__(self, services: FileServices, node: FileNode) -> None:
        self.node = node
        self.handles = 0
        self.lock = trio.Lock()
        self.state = FileState.CLEAN
        self.spool: SpoolFile | None = None
        self.base = node.stat
        self.is_displaced = False
        self._services = services

    @property
    def is_unsent(self) -> bool:
        """Whether the spool has what the bucket has not."""
        return self.state is not FileState.CLEAN

    async def read(self, handle: Handle, span: ByteRange) -> Buffer:
        """Return the bytes of *span* up to the end of the file.

        Raises: StaleObject, what the store raises.
        """
        if self.spool is not None:
            return await self.spool.read(_within(span, self.spool.size), self._fetch_base)
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

    def mark_changed(self) -> None:
        """Say that attributes changed, which the pending upload is to carry."""
        self.state = advance(self.state, FileEvent.CHANGE)
        self.node.is_local = True

    async def keep_content(self) -> None:
        """Bring every byte of the object here: it is about to go from the bucket, and readers stay."""
        async with self.lock:
            spool = await self._open_spool()
            await spool.fill(self._fetch_base)

    async def drop_changes(self) -> None:
        """Forget that bytes are unsent: the file has no name any more. Readers keep them."""
        async with self.lock:
            if self.state is FileState.CONFLICT:
                return
            self.state = advance(self.state, FileEvent.DROP)
            self.node.is_local = False
            if self.spool is not None:
                self.spool.forget()

    async def upload(self) -> None:
        """Put the file into the bucket if it has anything new. Returns once the bucket has it.

        Cancel: the upload is aborted and the bytes stay in the spool.
        Raises: what made it fail; the spool has the bytes and the next call tries again. ConditionFailed:
            somebody else has changed the object; the spool keeps the bytes for the user, and the name
            leads to the other object from now on.
        """
        async with self.lock:
            self.check_conflict()
            if self.is_unsent and self.spool is not None:
                await self._upload(self.spool, self.node.key, self._condition())

    async def upload_as(self, key: str, replaced: ObjectStat | None) -> None:
        """Put the file into the bucket under *key*, which it is about to get. Caller holds the lock.

        *replaced*: the object that it is to take the place of, None if nobody knows which.
        Raises: as ``upload``.
        """
        assert self.spool is not None
        condition = WriteCondition() if replaced is None else WriteCondition(if_match=replaced.etag)
        await self._upload(self.spool, key, condition)

    def check_conflict(self) -> None:
        """Raise ConditionFailed if what was written here has lost against somebody else's object."""
        if self.state is FileState.CONFLICT:
            raise ConditionFailed(f"{self.node.key} was changed elsewhere; {self._kept_at()}")

    def _need_place(self) -> None:
        """Refuse changes of what has lost its name. Raises: ConditionFailed."""
        if self.is_displaced:
            raise ConditionFailed(f"{self.node.key} was changed elsewhere; open it again")

    def _kept_at(self) -> str:
        return "" if self.spool is None else f"what was written here is in {self.spool.path}"

    def _condition(self) -> WriteCondition:
        """Return what must hold of the key for the upload not to undo somebody else's work."""
        if self.base is not None:
            return WriteCondition(if_match=self.base.etag)
        # A directory's marker, without bytes, is no file that anybody else has made.
        return WriteCondition(if_none_match=not self.node.key.endswith("/"))

    async def _upload(self, spool: SpoolFile, key: str, condition: WriteCondition) -> None:
        if spool.poison is not None:
            raise spool.poison
        node, services = self.node, self._services
        self.state = advance(self.state, FileEvent.BEGIN)
        parent, name = node.parent, node.name
        try:
            await spool.fill(self._fetch_base)
            headers = await self.pending_headers(key)
            if parent is not None:
                services.namespace.note_change(parent, name, adds_or_removes=False)
            node.may_be_stored = True
            answer = await self._publish(key, spool, headers, condition)
        except (ConditionFailed, StaleObject) as exc:
            await self._lose(spool, key, exc)
            return
        except BaseException as exc:
            self.state = advance(self.state, FileEvent.REFUSED)
            with trio.CancelScope(shield=True):
                await self.keep_spool()
            if isinstance(exc, Exception):
                log.error("upload of %s failed (%s); its bytes are in %s", node.path(), exc, spool.path)
            raise
        spool.sent()
        self.state = advance(self.state, FileEvent.SENT)
        stat = stat_of(key, spool.size, answer, headers)
        self.published(stat)
        if parent is not None:
            services.namespace.note_change(parent, name, adds_or_removes=False)
        if stat.size <= services.cache.block_size:
            # The kernel drops its pages of a file that was written: its time has changed.
            with suppress(FsError):
                services.cache.keep(stat, await spool.read(ByteRange(0, stat.size), self._fetch_base))

    async def _publish(
        self, key: str, spool: SpoolFile, headers: ObjectHeaders, condition: WriteCondition
    ) -> WriteAnswer:
        """Send the file.

        Raises: ConditionFailed (somebody else's object is there), what the store raises.
        """
        try:
            return await self._send(key, spool, headers, condition)
        except ConditionFailed:
            if self._services.on_conflict != "overwrite":
                raise
        log.warning("%s was changed elsewhere, and is overwritten", self.node.path())
        return await self._send(key, spool, headers, WriteCondition())

    async def _send(
        self, key: str, spool: SpoolFile, headers: ObjectHeaders, condition: WriteCondition
    ) -> WriteAnswer:
        spool.begin_upload(key, headers, condition)
        return await self._services.uploader.upload(
            key, spool, headers, condition=condition, ledger=spool.ledger
        )

    async def _lose(self, spool: SpoolFile, key: str, reason: FsError) -> None:
        """Leave the name to somebody else's object. What was written here stays, where the option says.

        Raises: ConditionFailed, unless both are in the bucket now.
        """
        node = self.node
        beside = await self._store_beside(spool, key) if self._services.on_conflict == "keep-both" else None
        if beside is None:
            self.state = advance(self.state, FileEvent.CONFLICT)
            with trio.CancelScope(shield=True):
                await self.keep_spool(str(reason))
            log.error(
                "%s was changed elsewhere (%s); what was written here is in %s",
                node.path(),
                reason,
                spool.path,
            )
        else:
            spool.sent()
            self.state = advance(self.state, FileEvent.SENT)
            log.warning("%s was changed elsewhere; this host's version is %s", node.path(), beside)
        self.is_displaced = True
        node.is_local = False
        namespace = self._services.namespace
        if (parent := node.parent) is not None:
            namespace.note_change(parent, node.name)
            namespace.expire(node)
            namespace.table.unlink(node)
            namespace.note_change(parent, node.name)
        if beside is None:
            raise ConditionFailed(f"{key} was changed elsewhere; {self._kept_at()}") from reason

    async def _store_beside(self, spool: SpoolFile, key: str) -> str | None:
        """Upload under a name beside *key*; return that key, None where it cannot be done."""
        beside = key_beside(key, socket.gethostname(), time.time_ns())
        try:
            await spool.fill(self._fetch_base)
            headers = await self.pending_headers(key)
            await self._services.uploader.upload(
                beside, spool, headers, condition=WriteCondition(if_none_match=True)
            )
        except FsError as exc:
            log.warning("%s cannot be stored beside the other version (%s)", self.node.path(), exc)
            return None
        return beside

    async def keep_spool(self, conflict: str | None = None) -> None:
        """Let the spool file outlive this process: it has the only copy of what was written.

        *conflict*: why it lost against somebody else's object, None if it is to be sent again.
        """
        if self.spool is not None:
            try:
                if conflict is not None:
                    await self.spool.conflict(conflict)
                    return
                if self.spool.poison is not None:
                    await self.spool.park(str(self.spool.poison))
                    return
                headers = await self.pending_headers(self.node.key)
                await self.spool.make_durable(SpoolState.QUEUED, key=self.node.key, headers=headers)
            except FsError as exc:
                log.error("%s stays without a note of what it is: %s", self.spool.path, exc)

    def published(self, stat: ObjectStat) -> None:
        """Take *stat*, made from a write's answer, as what the bucket has now."""
        node = self.node
        node.stat = self.base = stat
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
                return ObjectHeaders(storage_class=stat.storage_class)
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

    async def _fetch_base(self, span: ByteRange) -> Buffer:
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


class OpenFiles:
    """Every OpenFile by inode, every Handle by number."""

    def __init__(self, services: FileServices) -> None:
        self._services = services
        self._files: dict[int, OpenFile] = {}
        self._handles: dict[int, Handle] = {}
        self._last_number = 0
        #: Files that lost against somebody else's object and have no user any more; the spool has them.
        self.lost = 0

    def __len__(self) -> int:
        return len(self._files)

    def file_of(self, node: FileNode) -> OpenFile | None:
        """Return the OpenFile of *node*, None if it is neither open nor unsent."""
        return self._files.get(node.inode)

    def handle(self, number: int) -> Handle:
        """Return a handle. Raises: BadDescriptor."""
        try:
            return self._handles[number]
        except KeyError:
            raise BadDescriptor(f"no handle {number}") from None

    def unsent(self) -> list[OpenFile]:
        """Return the files with bytes that the bucket does not have, in inode order."""
        return [file for _, file in sorted(self._files.items()) if file.is_unsent and file.node.is_linked]

    def below(self, keys_begin: str) -> list[OpenFile]:
        """Return the files whose keys begin with *keys_begin*, in inode order."""
        return [file for _, file in sorted(self._files.items()) if file.node.key.startswith(keys_begin)]

    def has_writer(self, file: OpenFile) -> bool:
        """Whether a handle that can write, and so a close that uploads, is still to come."""
        return any(handle.file is file and handle.is_writable for handle in self._handles.values())

    def open(self, node: FileNode, flags: int, pid: int) -> tuple[int, Handle]:
        """Open *node* once more; return the handle and its number."""
        file = self.share(node)
        handle = Handle(file, flags, self._services.new_readahead(), pid)
        self.repoint(handle)
        self._last_number += 1
        self._handles[self._last_number] = handle
        return self._last_number, handle

    def share(self, node: FileNode) -> OpenFile:
        """Return the OpenFile of *node* with one more user; undo with ``leave``."""
        file = self._files.get(node.inode)
        if file is None:
            file = self._files[node.inode] = OpenFile(self._services, node)
            node.pins += 1
        file.handles += 1
        return file

    async def release(self, number: int) -> None:
        """Close a handle for good."""
        handle = self._handles.pop(number)
        await self.leave(handle.file)

    async def leave(self, file: OpenFile) -> None:
        """Undo one ``share``; the last user of a file that is clean takes its spool away."""
        file.handles -= 1
        await self.drop_if_idle(file)

    async def drop_if_idle(self, file: OpenFile) -> None:
        """Drop *file* if nobody uses it and the bucket has all of it."""
        if file.handles or (file.is_unsent and file.node.is_linked):
            return
        if self._files.pop(file.node.inode, None) is None:
            return
        self.lost += file.state is FileState.CONFLICT
        if file.spool is not None:
            await _let_go(file, file.spool)
        self._services.namespace.table.unpin(file.node)

    async def discard_sent(self) -> None:
        """Take away the spools of files that are open but whose bytes the bucket has: the mount ends."""
        for file in self._files.values():
            if file.spool is not None and not (file.is_unsent and file.node.is_linked):
                await _let_go(file, file.spool)

    def repoint(self, handle: Handle) -> None:
        """Let *handle* read the version that its file has now."""
        base = handle.file.base
        handle.reader = None if base is None else ObjectReader(self._services.cache, base)

    def repoint_all(self, file: OpenFile) -> None:
        """The same bytes have another key or ETag now: every handle follows."""
        for handle in self._handles.values():
            if handle.file is file:
                self.repoint(handle)


async def _let_go(file: OpenFile, spool: SpoolFile) -> None:
    """Close *spool*; what lost against somebody else's object waits in the spool directory for the user."""
    if file.state is FileState.CONFLICT:
        await spool.close()
    else:
        await spool.discard()


def stat_of(key: str, size: int, answer: WriteAnswer, headers: ObjectHeaders | None) -> ObjectStat:
    """Return the stat of what was just written, without asking for it."""
    assert answer.etag is not None
    server_time = time.time_ns() if answer.server_time_ns is None else answer.server_time_ns
    return ObjectStat(
        key=key,
        size=size,
        etag=answer.etag,
        last_modified_ns=server_time - server_time % 1_000_000_000,
        headers=headers,
        storage_class=None if headers is None else headers.storage_class,
    )


def _within(span: ByteRange, size: int) -> ByteRange:
    start = min(span.start, size)
    return ByteRange(start, max(start, min(span.stop, size)))
