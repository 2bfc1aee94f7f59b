"""Sending files and copying objects, in one request or in parts."""

from __future__ import annotations

import hashlib
import logging
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import trio

from s3mount.core.contents import etag_of_parts
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
from s3mount.core.parts import MAX_SINGLE_BYTES, MIB, Multipart, SingleCopy, SinglePut, copy_plan, plan
from s3mount.core.spool_record import NO_CONDITION
from s3mount.data.uploader_ledger import UploadLedger
from s3mount.errors import (
    BadAnswer,
    ConditionFailed,
    FsError,
    NotFound,
    StoreTimeout,
    StoreUnavailable,
    collapsed,
)
from s3mount.store.base import ObjectStore

log = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS = 3
"""Tries of a request that may be repeated; each has the store's own retries below it."""

ABORT_GRACE_S = 10.0
"""How long a failed or cancelled upload may take to clean up after itself."""

PASSING = (StoreUnavailable, StoreTimeout)


class Source(Protocol):
    """What can be uploaded: a file of a known size that does not change meanwhile."""

    @property
    def size(self) -> int:
        """In bytes."""

    def slice(self, span: ByteRange) -> FileSlice:
        """Return a stretch of it as a request's body. Raises: FsError if it must not be sent."""


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
    ) -> None:
        self._store = store
        self._part_size = part_size
        self._single_put_max = part_size if single_put_max is None else single_put_max
        self._copy_part_size = copy_part_size
        self._single_copy_max = single_copy_max
        self._backoff_s = backoff_s
        self._concurrency = concurrency
        self._limiter = trio.CapacityLimiter(concurrency)

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
                that were sent in the bucket, and the next one sends only what is missing.

        Cancel: without a ledger the upload is aborted under a shield of at most :data:`ABORT_GRACE_S`.
            The object is the old or the new one, whole.
        Raises: ConditionFailed (another writer's object is there, or the one that was opened is gone);
            FsError of *source*; what the store raises. Without a ledger nothing is left in the bucket
            then unless the abort failed as well, which is logged.
        """
        decided = plan(source.size, part_size=self._part_size, single_put_max=self._single_put_max)
        if isinstance(decided, SinglePut):
            return await self._put(key, source, headers, condition)

        async def send(upload: MultipartUpload, number: int, span: ByteRange) -> PartTag:
            return await self._store.upload_part(upload, number, source.slice(span))

        return await self._in_parts(key, headers, decided, send, condition)

    async def would_make(self, found: ObjectStat, source: Source) -> bool:
        """Whether *found* can only be what :meth:`upload` makes of *source*.

        Raises: FsError if the bytes cannot be read.
        """
        return found.size == source.size and found.etag == await self.expected_etag(source)

    async def expected_etag(self, source: Source) -> str:
        """Return the ETag that S3 gives to *source* as :meth:`upload` sends it, without SSE-KMS.

        Raises: FsError if the bytes cannot be read.
        """
        decided = plan(source.size, part_size=self._part_size, single_put_max=self._single_put_max)
        if isinstance(decided, SinglePut):
            return await _etag_of(source, ByteRange(0, source.size))
        tags = [
            PartTag(number, await _etag_of(source, span), span.size) for number, span in enumerate(decided, 1)
        ]
        etag = multipart_etag(tags)
        assert etag is not None  # these are MD5s
        return etag

    async def copy(
        self, source: ObjectStat, target_key: str, headers: ObjectHeaders | None = None
    ) -> WriteAnswer:
        """Copy the version *source* to *target_key* inside the server.

        Args:
            headers: the target's; None keeps the source's.

        Cancel: as for :meth:`upload`.
        Raises: NotFound, ConditionFailed (the source is another object by now), what the store raises.
        """
        decided = copy_plan(
            source.size, part_size=self._copy_part_size, single_copy_max=self._single_copy_max
        )
        if isinstance(decided, SingleCopy):
            return await self._single_copy(source, target_key, headers)
        if headers is None:
            headers = await self._headers_of(source)

        async def send(upload: MultipartUpload, number: int, span: ByteRange) -> PartTag:
            return await self._store.copy_part(upload, number, source.key, span, if_match=source.etag)

        return await self._in_parts(target_key, headers, decided, send, NO_CONDITION)

    async def _put(
        self, key: str, source: Source, headers: ObjectHeaders, condition: WriteCondition
    ) -> WriteAnswer:
        async def put() -> WriteAnswer:
            body = source.slice(ByteRange(0, source.size)) if source.size else b""
            return await self._store.put(
                key, body, headers, if_match=condition.if_match, if_none_match=condition.if_none_match
            )

        # With a condition the second try would take the first one's object for somebody else's.
        answer = await self._repeated(put, attempts=1 if condition else ATTEMPTS)
        return _with_etag(answer, f"PUT {key}")

    async def _single_copy(
        self, source: ObjectStat, target_key: str, headers: ObjectHeaders | None
    ) -> WriteAnswer:
        async def copy() -> WriteAnswer:
            return await self._store.copy(
                source.key,
                target_key,
                if_match=source.etag,
                headers=headers,
                storage_class=source.storage_class if headers is None else headers.storage_class,
            )

        # Onto itself, the first try may have changed the ETag that the second would ask for.
        answer = await self._repeated(copy, attempts=1 if source.key == target_key else ATTEMPTS)
        return _with_etag(answer, f"copy to {target_key}")

    async def _headers_of(self, source: ObjectStat) -> ObjectHeaders:
        """Return the source's headers: an upload in parts inherits none."""
        if source.headers is not None:
            return source.headers
        asked = await self._store.head(source.key)
        if asked.etag != source.etag:
            raise ConditionFailed(f"{source.key} is another object by now")
        return asked.headers or ObjectHeaders()

    async def _in_parts(
        self,
        key: str,
        headers: ObjectHeaders,
        parts: Multipart,
        send: Callable[[MultipartUpload, int, ByteRange], Awaitable[PartTag]],
        condition: WriteCondition,
    ) -> WriteAnswer:
        # Shielded: if the answer with the upload's id were lost to a cancel, nobody could abort it.
        with trio.CancelScope(shield=True):
            async with self._limiter:
                upload = await self._store.create_multipart(key, headers)
        try:
            tags = await self._send_all(upload, parts, send)
            return await self._complete(upload, tags, condition, parts.size)
        except BaseException:
            await self._abort(upload)
            raise

    async def _send_all(
        self,
        upload: MultipartUpload,
        parts: Multipart,
        send: Callable[[MultipartUpload, int, ByteRange], Awaitable[PartTag]],
    ) -> list[PartTag]:
        """Send all parts, several at once; the first failure stops the rest."""
        tags: dict[int, PartTag] = {}
        numbered = iter(enumerate(parts, 1))

        async def work() -> None:
            for number, span in numbered:
                tag = await self._repeated(lambda n=number, s=span: send(upload, n, s))  # type: ignore[misc]
                if tag.etag is None or tag.number != number or tag.size != span.size:
                    raise BadAnswer(f"part {number} of {upload.key}: answered {tag}")
                tags[number] = tag

        with collapsed():
            async with trio.open_nursery() as nursery:
                for _ in range(min(self._concurrency, len(parts))):
                    nursery.start_soon(work)
        return [tags[number] for number in range(1, len(parts) + 1)]

    async def _complete(
        self, upload: MultipartUpload, tags: list[PartTag], condition: WriteCondition, size: int
    ) -> WriteAnswer:
        """Publish the object.

        When the answer to the first try was lost, the second finds no upload any more if the first
        was carried out; then what is there now tells whether it is ours.
        """
        lost: FsError | None = None

        async def complete() -> WriteAnswer:
            nonlocal lost
            try:
                return await self._store.complete_multipart(
                    upload, tags, if_match=condition.if_match, if_none_match=condition.if_none_match
                )
            except PASSING as exc:
                lost = exc
                raise
            except (NotFound, ConditionFailed):
                if lost is None:
                    raise
                return await self._recognised(upload.key, tags, size, lost)

        answer = await self._repeated(complete)
        return _with_etag(answer, f"complete {upload.key}")

    async def _recognised(self, key: str, tags: list[PartTag], size: int, lost: FsError) -> WriteAnswer:
        """Return the answer for the object at *key* if it can only be the one of *tags*."""
        try:
            found = await self._store.head(key)
        except NotFound:
            raise lost from None
        if found.size != size or found.etag != multipart_etag(tags):
            raise lost
        return WriteAnswer(found.etag, found.last_modified_ns)

    async def _abort(self, upload: MultipartUpload) -> None:
        """Drop the upload, whatever happens; logs a failure, raises none."""
        with trio.move_on_after(ABORT_GRACE_S, shield=True) as grace:
            try:
                await self._store.abort_multipart(upload)
            except FsError as exc:
                log.warning("upload %s of %s is left in the bucket: %s", upload.upload_id, upload.key, exc)
        if grace.cancelled_caught:
            log.warning(
                "upload %s of %s is left in the bucket: no answer to the abort", upload.upload_id, upload.key
            )

    async def _repeated(self, request: Callable[[], Awaitable[T]], attempts: int = ATTEMPTS) -> T:
        """Make a request under the limit, again if it fails for a passing reason."""
        for attempt in range(1, attempts):
            try:
                async with self._limiter:
                    return await request()
            except PASSING as exc:
                log.debug("try %d of %d failed: %s", attempt, attempts, exc)
            # Jitter, so that the parts that a server refused together do not come back together.
            await trio.sleep(random.uniform(0.5, 1) * self._backoff_s * 2 ** (attempt - 1))
        async with self._limiter:
            return await request()


async def _etag_of(source: Source, span: ByteRange) -> str:
    """Return the ETag of *span* sent in one request."""
    return f'"{await trio.to_thread.run_sync(_md5_of, source.slice(span))}"'


def _md5_of(piece: FileSlice) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    position = piece.span.start
    while position < piece.span.stop:
        data = os.pread(piece.fd, min(MIB, piece.span.stop - position), position)
        if not data:
            raise FsError("the spool's file is shorter than it was")
        digest.update(data)
        position += len(data)
    return digest.hexdigest()


def multipart_etag(tags: list[PartTag]) -> str | None:
    """Return the ETag that S3 gives an object of these parts; None if their ETags are not MD5s.

    It is the MD5 of the parts' MD5s, a dash, and their number. Where parts are encrypted with KMS keys
    their ETags are something else.
    """
    etag = etag_of_parts(tags)
    return None if etag is None else f'"{etag}"'


def _with_etag(answer: WriteAnswer, what: str) -> WriteAnswer:
    if not answer.etag:
        raise BadAnswer(f"{what}: no ETag")
    return answer
