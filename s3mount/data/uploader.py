"""Sending files and copying objects, in one request or in parts."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from s3mount.core.answers import same_etag
from s3mount.core.contents import has_bytes_of
from s3mount.core.objects import (
    ByteRange,
    FileSlice,
    MultipartUpload,
    ObjectHeaders,
    ObjectStat,
    PartTag,
    WriteAnswer,
    WriteCondition,
)
from s3mount.core.parts import MAX_SINGLE_BYTES, MIB, SingleCopy, SinglePut, copy_plan, plan
from s3mount.core.server_facts import ServerFacts
from s3mount.core.spool_record import NO_CONDITION, Fingerprint
from s3mount.data.uploader_begin import Begun
from s3mount.data.uploader_ledger import BegunList, MemoryLedger, UploadLedger
from s3mount.data.uploader_parts import PartsJob, PartsUpload
from s3mount.data.uploader_publish import Write, publish
from s3mount.data.uploader_requests import ABORT_GRACE_S, ATTEMPTS, Requests
from s3mount.data.uploader_settle import Source, content, fingerprint_of, has_same_bytes, written
from s3mount.errors import BadAnswer, ConditionFailed, FsError, NotFound, StoreError
from s3mount.store.base import ObjectStore

log = logging.getLogger(__name__)

__all__ = ["ABORT_GRACE_S", "ATTEMPTS", "OpenDescriptor", "Source", "UploadLedger", "Uploader"]


NO_FACTS = ServerFacts()
"""Of a server that nobody has tried."""


@dataclass(frozen=True, slots=True)
class OpenDescriptor:
    """An open file as a source."""

    fd: int
    size: int

    def slice(self, span: ByteRange) -> FileSlice:
        """Return a stretch of it."""
        return FileSlice(self.fd, span)


class Uploader:
    """Writes objects. At most *concurrency* requests of all uploads and copies together run at once.

    Args:
        part_size: in bytes; raised for files that would need more than 10,000 parts.
        single_put_max: up to this size one PUT; None means one part.
        copy_part_size, single_copy_max: the same for copies inside the server.
        backoff_s: the longest wait before the second try; it doubles with each.
        begun: the list of the uploads that the next mount must abort if this process ends before them;
            None makes none.
        facts: what the server honours.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        part_size: int = 16 * MIB,
        single_put_max: int | None = None,
        concurrency: int = 8,
        copy_part_size: int = 256 * MIB,
        single_copy_max: int = MAX_SINGLE_BYTES,
        backoff_s: float = 0.5,
        begun: BegunList | None = None,
        facts: ServerFacts = NO_FACTS,
    ) -> None:
        self.facts = facts
        self._store = store
        self._part_size = part_size
        self._single_put_max = part_size if single_put_max is None else single_put_max
        self._copy_part_size = copy_part_size
        self._single_copy_max = single_copy_max
        self._requests = Requests(store, concurrency=concurrency, backoff_s=backoff_s)
        self._begun = Begun(self._requests, begun)
        self._parts = PartsUpload(self._requests, self._begun)

    async def upload(
        self,
        key: str,
        source: Source,
        headers: ObjectHeaders,
        *,
        condition: WriteCondition = NO_CONDITION,
        ledger: UploadLedger | None = None,
    ) -> WriteAnswer:
        """Write *source* to *key*; return once the bucket has it whole.

        Args:
            condition: what must hold of the object that is replaced.
            ledger: with it, a try that fails for a reason that may pass, or is cancelled, leaves the parts
                that were sent in the bucket, and the next one sends only what is missing or has changed.
                It is of this file, this key and these headers.

        Cancel: without a ledger the upload is aborted under a shield of at most :data:`ABORT_GRACE_S`.
            The object is the old or the new one, whole.
        Raises: ConditionFailed (another writer's object is there, or the one that was opened is gone);
            FsError of *source*; what the store raises. Without a ledger nothing is left in the bucket
            then unless the abort failed as well, which is logged.
        """
        try:
            return await self._upload(key, source, headers, condition, ledger)
        except NotFound as exc:
            # Bucket or upload are gone. ENOENT would say something of the file, which is there.
            raise StoreError(f"upload to {key}: {exc}") from exc

    async def _upload(
        self,
        key: str,
        source: Source,
        headers: ObjectHeaders,
        condition: WriteCondition,
        ledger: UploadLedger | None,
    ) -> WriteAnswer:
        decided = plan(source.size, part_size=self._part_size, single_put_max=self._single_put_max)
        if isinstance(decided, SinglePut):
            ledger = MemoryLedger() if ledger is None else ledger
            await self._parts.drop(ledger)
            return await self._put(key, source, headers, condition, ledger)

        async def send(upload: MultipartUpload, number: int, span: ByteRange) -> PartTag:
            return await self._store.upload_part(upload, number, source.slice(span))

        try:
            await self._begun.abort_left()
        except FsError as exc:
            log.debug("uploads that are left in the bucket stay there for now: %s", exc)
        job = PartsJob(key, headers, decided, condition, send, source)
        return await self._parts.run(job, self._begun.ledger(key) if ledger is None else ledger)

    async def copy(
        self,
        source: ObjectStat,
        target_key: str,
        headers: ObjectHeaders | None = None,
        *,
        if_none_match: bool = False,
    ) -> WriteAnswer:
        """Copy the version *source* to *target_key* inside the server.

        Args:
            headers: the target's; None keeps the source's.
            if_none_match: there must be no target. Where the server honours that of no CopyObject, the
                copy is made of one part, so that a crash leaves no upload that nobody knows.

        Cancel: as for :meth:`upload`.
        Raises: NotFound, ConditionFailed (the source is another object by now, or there is a target), what
            the store raises.
        """
        condition = WriteCondition(if_none_match=if_none_match)
        single_copy_max = self._single_copy_max
        if if_none_match and self.facts.copy_creates_once and not self.facts.copy_if_none_match:
            source = await self._asked(source)
            if not source.size:
                return await self._put_empty(target_key, headers or source.headers, condition)
            if not source.has_tags:  # which only CopyObject keeps
                single_copy_max = 0
        decided = copy_plan(source.size, part_size=self._copy_part_size, single_copy_max=single_copy_max)
        if isinstance(decided, SingleCopy):
            return await self._single_copy(source, target_key, headers, condition)
        if headers is None:
            # An upload in parts inherits none.
            described = source if source.headers is not None else await self._asked(source)
            headers = described.headers or ObjectHeaders()

        async def send(upload: MultipartUpload, number: int, span: ByteRange) -> PartTag:
            return await self._store.copy_part(upload, number, source.key, span, if_match=source.etag)

        job = PartsJob(target_key, headers, decided, condition, send, None)
        return await self._parts.run(job, self._begun.ledger(target_key))

    async def has(self, key: str, source: Source) -> WriteAnswer | None:
        """Return the answer of a write that has put exactly the bytes of *source* at *key*, None if none has.

        For what may be in the bucket already, although nobody remembers it.
        Raises: what the store raises; FsError of *source*.
        """
        try:
            stat = await self._requests.repeated(lambda: self._store.head(key, checksum=True))
        except NotFound:
            return None
        return written(stat) if await has_same_bytes(self._requests, stat, source) else None

    async def abort_left(self) -> None:
        """Abort the uploads in parts that nobody goes on with: of copies that a crash has cut off, of files
        that were changed, renamed or deleted meanwhile. What cannot be aborted now is kept in the list.

        Cancel: at any time. Raises: FsError (the list cannot be read or written).
        """
        await self._begun.abort_left()

    async def _put(
        self,
        key: str,
        source: Source,
        headers: ObjectHeaders,
        condition: WriteCondition,
        ledger: UploadLedger,
    ) -> WriteAnswer:
        async def put(condition: WriteCondition) -> WriteAnswer:
            body = source.slice(ByteRange(0, source.size)) if source.size else b""
            return await self._store.put(
                key, body, headers, if_match=condition.if_match, if_none_match=condition.if_none_match
            )

        async def is_ours(stat: ObjectStat) -> bool:
            return await has_same_bytes(self._requests, stat, source)

        async def fingerprint() -> Fingerprint:
            return fingerprint_of(await content(source))

        return await publish(self._requests, Write(key, condition, put, is_ours, fingerprint), ledger)

    async def _put_empty(
        self, key: str, headers: ObjectHeaders | None, condition: WriteCondition
    ) -> WriteAnswer:
        """Make the copy of an object without bytes: no part can be copied of it."""

        async def put(condition: WriteCondition) -> WriteAnswer:
            made = headers or ObjectHeaders()
            return await self._store.put(
                key, b"", made, if_match=condition.if_match, if_none_match=condition.if_none_match
            )

        async def is_ours(stat: ObjectStat) -> bool:
            return not stat.size and _has_metadata(stat, headers)

        return await publish(self._requests, Write(key, condition, put, is_ours, _nothing), MemoryLedger())

    async def _single_copy(
        self,
        source: ObjectStat,
        target_key: str,
        headers: ObjectHeaders | None,
        condition: WriteCondition,
    ) -> WriteAnswer:
        async def copy(condition: WriteCondition) -> WriteAnswer:
            return await self._store.copy(
                source.key,
                target_key,
                if_match=source.etag,
                headers=headers,
                storage_class=source.storage_class if headers is None else headers.storage_class,
                if_none_match=condition.if_none_match,
            )

        async def is_ours(stat: ObjectStat) -> bool:
            asked = await self._store.head(source.key, checksum=True)
            is_same = same_etag(asked.etag, source.etag) and has_bytes_of(stat, asked)
            return is_same and _has_metadata(stat, headers or asked.headers)

        if condition.if_none_match:
            write = Write(target_key, condition, copy, is_ours, _nothing)
            return await publish(self._requests, write, MemoryLedger())
        # Onto itself, the first try may have changed the ETag that the second would ask for.
        attempts = 1 if source.key == target_key else ATTEMPTS
        answer = await self._requests.repeated(lambda: copy(condition), attempts)
        if not answer.etag:
            raise BadAnswer(f"copy to {target_key}: no ETag")
        return answer

    async def _asked(self, source: ObjectStat) -> ObjectStat:
        """Return *source* as a HEAD describes it. Raises: NotFound, ConditionFailed (it has changed)."""
        asked = await self._store.head(source.key)
        if not same_etag(asked.etag, source.etag):
            raise ConditionFailed(f"{source.key} is another object by now")
        return asked


async def _nothing() -> None:
    """Tell nothing of an object: no later try will ask whether a copy is there."""


def _has_metadata(stat: ObjectStat, headers: ObjectHeaders | None) -> bool:
    wanted = {} if headers is None else headers.metadata
    found = {} if stat.headers is None else stat.headers.metadata
    return dict(found) == {name.lower(): value for name, value in wanted.items()}
