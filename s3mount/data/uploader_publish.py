"""The request that publishes an object: repeated, and its lost answers told from other writers' objects."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import trio

from s3mount.core.conflicts import may_replace
from s3mount.core.objects import ObjectStat, WriteAnswer, WriteCondition
from s3mount.core.spool_record import Fingerprint
from s3mount.data.uploader_ledger import UploadLedger
from s3mount.data.uploader_requests import UNANSWERED, Requests
from s3mount.data.uploader_settle import written
from s3mount.errors import BadAnswer, ConditionFailed, FsError, NotFound, StoreUnavailable, WriteRace

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Write:
    """A write that replaces *key* under *condition*.

    ``send`` makes the request. ``is_ours`` says whether an object can only be what ``send`` stores.
    ``fingerprint`` gives what tells that object, None where nothing does; it may read the whole file.
    """

    key: str
    condition: WriteCondition
    send: Callable[[WriteCondition], Awaitable[WriteAnswer]]
    is_ours: Callable[[ObjectStat], Awaitable[bool]]
    fingerprint: Callable[[], Awaitable[Fingerprint | None]]


async def publish(requests: Requests, write: Write, ledger: UploadLedger) -> WriteAnswer:
    """Carry *write* out.

    The server may have carried out a try whose answer was lost: now, or, as *ledger* remembers, earlier
    and perhaps with other bytes of the same file. The next try then meets our own object. It is not
    another writer's, so the write has succeeded, or is tried again in its place.

    Cancel: a try that ends by it is remembered, as one that fails without an answer is.
    Raises: ConditionFailed; NotFound (of an upload; or If-Match of an object that is gone); what the store
        raises.
    """
    try:
        return await _published(requests, write, write.condition, ledger)
    except _OursIsThere as ours:
        again = WriteCondition(if_match=ours.etag)
    try:
        return await _published(requests, write, again, ledger)
    except _OursIsThere as ours:
        raise ours.refusal from None  # it is ours, and yet was not to be replaced


class _OursIsThere(Exception):
    def __init__(self, etag: str, refusal: FsError) -> None:
        super().__init__(etag)
        self.etag = etag
        self.refusal = refusal


async def _published(
    requests: Requests, write: Write, condition: WriteCondition, ledger: UploadLedger
) -> WriteAnswer:
    lost: FsError | None = None
    may_be_stored = False

    async def send() -> WriteAnswer:
        nonlocal lost, may_be_stored
        may_be_stored = True
        try:
            answer = await write.send(condition)
            if not answer.etag:
                raise BadAnswer(f"write of {write.key}: no ETag")
            return answer
        except UNANSWERED as exc:
            lost = exc
            raise
        except FsError:
            may_be_stored = lost is not None
            raise

    try:
        try:
            return await requests.repeated(send)
        except (NotFound, ConditionFailed) as refusal:
            return await _settled(requests, write, condition, ledger, refusal, lost)
    except (FsError, trio.Cancelled) as exc:
        if may_be_stored and ledger.is_resumable and not isinstance(exc, ConditionFailed):
            with trio.CancelScope(shield=True):
                await _remember(write, ledger)
        raise


async def _settled(
    requests: Requests,
    write: Write,
    condition: WriteCondition,
    ledger: UploadLedger,
    refusal: FsError,
    lost: FsError | None,
) -> WriteAnswer:
    """Return an answer in place of *refusal* if what is there is our own work.

    Raises: _OursIsThere (it is an earlier state of the file); *lost*, the failure before, or
    StoreUnavailable, where *refusal* says only that there is nothing to publish any more, or that another
    write has not ended; *refusal*.
    """
    if lost is None and not ledger.unanswered and not isinstance(refusal, WriteRace):
        raise refusal
    try:
        stat = await requests.repeated(lambda: requests.store.head(write.key, checksum=True))
    except NotFound:
        stat = None
    if stat is not None:
        is_known = any(one.matches(stat) for one in ledger.unanswered)
        if (lost is not None or is_known) and await write.is_ours(stat):
            log.debug("%s is what a try whose answer was lost has stored", write.key)
            return written(stat)
        if is_known and not may_replace(condition, stat):
            raise _OursIsThere(stat.etag, refusal)
    if isinstance(refusal, NotFound) and lost is not None:
        raise lost
    if isinstance(refusal, ConditionFailed) and may_replace(condition, stat):
        # Whoever it met, perhaps a try of ours that is still being carried out, has not won.
        raise lost or StoreUnavailable(f"write of {write.key}: {refusal}") from refusal
    raise refusal


async def _remember(write: Write, ledger: UploadLedger) -> None:
    with suppress(FsError):
        fingerprint = await write.fingerprint()
        if fingerprint is not None:
            ledger.lost(fingerprint)
