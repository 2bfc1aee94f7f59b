"""One upload in parts, from its beginning or from where an earlier try ended, to the published object."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import trio

from s3mount.core.answers import same_etag
from s3mount.core.contents import is_made_of
from s3mount.core.objects import (
    ByteRange,
    MultipartUpload,
    ObjectHeaders,
    ObjectStat,
    PartTag,
    WriteAnswer,
    WriteCondition,
)
from s3mount.core.parts import Multipart
from s3mount.core.spool_record import Fingerprint
from s3mount.data.uploader_begin import Beginning, Begun
from s3mount.data.uploader_ledger import UploadLedger
from s3mount.data.uploader_publish import Write, publish
from s3mount.data.uploader_requests import Requests
from s3mount.data.uploader_settle import Source, fingerprint_of_parts, is_part_of, parts_of, written
from s3mount.errors import AccessDenied, BadAnswer, ConditionFailed, FsError, NotFound, StoreError, collapsed

log = logging.getLogger(__name__)

COMPARES_AT_ONCE = 2
"""Parts of an earlier try that are read from the disk and compared at the same time."""

Send = Callable[[MultipartUpload, int, ByteRange], Awaitable[PartTag]]


class UploadGone(NotFound):
    """The server does not know the upload any more."""


@dataclass(frozen=True, slots=True)
class PartsJob:
    """What is to be sent where. *source* is None for copies, of which no part can be compared."""

    key: str
    headers: ObjectHeaders
    parts: Multipart
    condition: WriteCondition
    send: Send
    source: Source | None


class PartsUpload:
    """Carries jobs out."""

    def __init__(self, requests: Requests, begun: Begun) -> None:
        self._requests = requests
        self._store = requests.store
        self._begun = begun

    async def run(self, job: PartsJob, ledger: UploadLedger) -> WriteAnswer:
        """Publish the object; begin anew, once, if the upload of an earlier try turns out to be gone.

        Cancel, Raises: see :meth:`s3mount.data.uploader.Uploader.upload`.
        """
        try:
            return await self._run(job, ledger)
        except UploadGone:
            if not ledger.is_resumable:
                raise
        return await self._run(job, ledger)

    async def drop(self, ledger: UploadLedger) -> None:
        """Abort what an earlier try has left, for it is of no use. Raises: FsError (the ledger's disk)."""
        earlier = ledger.upload
        if earlier is None or earlier.upload is None:
            return
        if await self._requests.abort(earlier.upload):
            ledger.ended()
        else:
            ledger.given_up()

    async def _run(self, job: PartsJob, ledger: UploadLedger) -> WriteAnswer:
        resumed = await self._resumed(job, ledger)
        if isinstance(resumed, WriteAnswer):
            return resumed
        done = resumed or {}
        if resumed is None:
            begun = await self._begun.begin(job.key, job.headers, job.parts.part_size, ledger)
        else:
            assert ledger.upload is not None and ledger.upload.upload is not None
            begun = Beginning(ledger.upload.upload)
            self._begun.resume(begun.upload)
        upload = begun.upload
        try:
            await self._begun.sweep(begun)
            tags = await self._send_all(upload, job, done, ledger)
            answer, is_used = await self._complete(upload, job, tags, ledger)
        except BaseException as exc:
            await self._stop(upload, ledger, exc)
            raise
        finally:
            self._begun.rest(upload)
        if is_used:
            _note(ledger.completed)
        else:
            await self._abort(upload, ledger)
        return answer

    async def _stop(self, upload: MultipartUpload, ledger: UploadLedger, exc: BaseException) -> None:
        """Leave the upload to the next try if one will come and may get further; else abort it."""
        if isinstance(exc, UploadGone):
            _note(ledger.ended)
            return
        may_pass = isinstance(exc, StoreError | AccessDenied) or not isinstance(exc, Exception)
        if ledger.is_resumable and may_pass:
            return
        await self._abort(upload, ledger)

    async def _abort(self, upload: MultipartUpload, ledger: UploadLedger) -> None:
        _note(ledger.ended if await self._requests.abort(upload) else ledger.given_up)

    async def _resumed(self, job: PartsJob, ledger: UploadLedger) -> dict[int, PartTag] | WriteAnswer | None:
        """Return the parts that need not be sent again; None if there is no upload to go on with.

        An answer, if the earlier try turns out to have published the object.
        """
        earlier = ledger.upload
        if earlier is None or earlier.upload is None or job.source is None:
            return None
        if earlier.upload.key != job.key or earlier.part_size != job.parts.part_size:
            await self.drop(ledger)
            return None
        upload = earlier.upload
        try:
            listed = await self._requests.repeated(lambda: self._store.list_parts(upload))
        except NotFound:
            answer = await self._published(job)
            if answer is None:
                ledger.ended()
            else:
                ledger.completed()
            return answer
        known = {part.number: part for part in earlier.parts}
        same = await self._same(job.source, job.parts, [_merged(part, known) for part in listed])
        for part in same.values():
            if known.get(part.number) != part:
                ledger.sent(part)  # all parts together tell the object, if Complete is not answered
        return same

    async def _published(self, job: PartsJob) -> WriteAnswer | None:
        """Return the answer of an earlier try whose upload is gone, if that is because it was completed.

        The ledger may not know: a power cut takes the memory of the last parts. So the file is asked.
        """
        assert job.source is not None
        try:
            stat = await self._requests.repeated(lambda: self._store.head(job.key, checksum=True))
        except NotFound:
            return None
        # What meets the condition can be replaced, and may be as it was before, with other headers.
        can_replace = not job.condition or same_etag(stat.etag, job.condition.if_match or "")
        if can_replace or stat.size != job.source.size:
            return None
        return written(stat) if is_made_of(stat, await parts_of(job.source, job.parts)) else None

    async def _same(self, source: Source, parts: Multipart, listed: list[PartTag]) -> dict[int, PartTag]:
        """Return those of the server's parts that have the bytes of the file as it is now, by number."""
        spans = dict(enumerate(parts, 1))
        left = iter([part for part in listed if part.number in spans])
        same: dict[int, PartTag] = {}

        async def work() -> None:
            for part in left:
                if await is_part_of(part, source, spans[part.number]):
                    same[part.number] = part

        with collapsed():
            async with trio.open_nursery() as nursery:
                for _ in range(COMPARES_AT_ONCE):
                    nursery.start_soon(work)
        return same

    async def _send_all(
        self, upload: MultipartUpload, job: PartsJob, done: dict[int, PartTag], ledger: UploadLedger
    ) -> list[PartTag]:
        """Send the parts that are not *done*, several at once; the first failure stops the rest."""
        tags = dict(done)
        left = iter([(number, span) for number, span in enumerate(job.parts, 1) if number not in done])

        async def send(number: int, span: ByteRange) -> PartTag:
            try:
                tag = await self._requests.repeated(lambda: job.send(upload, number, span))
            except ConditionFailed:
                raise
            except NotFound as exc:
                raise await self._why_not_found(upload, exc) from exc
            if tag.etag is None or tag.number != number or tag.size != span.size:
                raise BadAnswer(f"part {number} of {upload.key}: answered {tag}")
            return tag

        async def work() -> None:
            for number, span in left:
                tags[number] = await send(number, span)
                ledger.sent(tags[number])

        with collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ledger.secure)
                for _ in range(min(self._requests.concurrency, len(job.parts) - len(done))):
                    nursery.start_soon(work)
        return [tags[number] for number in range(1, len(job.parts) + 1)]

    async def _why_not_found(self, upload: MultipartUpload, failure: NotFound) -> NotFound:
        """Return *failure*, or UploadGone if it is the upload that is not there."""
        try:
            await self._requests.repeated(lambda: self._store.list_parts(upload))
        except NotFound:
            return UploadGone(str(failure))
        except FsError as exc:
            log.debug("cannot look for upload %s: %s", upload.upload_id, exc)
        return failure

    async def _complete(
        self, upload: MultipartUpload, job: PartsJob, tags: list[PartTag], ledger: UploadLedger
    ) -> tuple[WriteAnswer, bool]:
        """Publish the object; return its answer, and whether it is certain that *upload* has become it.

        An earlier upload of the same bytes may be what is there, its answer lost.
        Raises: UploadGone; ConditionFailed; what the store raises.
        """
        is_used = False

        async def complete(condition: WriteCondition) -> WriteAnswer:
            nonlocal is_used
            answer = await self._store.complete_multipart(
                upload, tags, if_match=condition.if_match, if_none_match=condition.if_none_match
            )
            is_used = True
            return answer

        async def is_ours(stat: ObjectStat) -> bool:
            return is_made_of(stat, tags)

        async def fingerprint() -> Fingerprint | None:
            return fingerprint_of_parts(tags)

        write = Write(job.key, job.condition, complete, is_ours, fingerprint)
        try:
            return await publish(self._requests, write, ledger), is_used
        except NotFound as exc:
            raise await self._why_not_found(upload, exc) from exc


def _note(note: Callable[[], None]) -> None:
    """Tell the ledger what a failure of its disk must not hide: how the upload has ended."""
    try:
        note()
    except FsError as exc:
        log.debug("the end of an upload is not noted: %s", exc)


def _merged(listed: PartTag, known: dict[int, PartTag]) -> PartTag:
    """Return a listed part with the checksum that was told when it was sent, if it is that part."""
    mine = known.get(listed.number)
    if listed.crc32 is None and mine is not None and mine.etag == listed.etag:
        return replace(listed, crc32=mine.crc32)
    return listed
