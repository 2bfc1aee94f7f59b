"""A write whose first try was carried out and whose answer was lost fails when it is tried again:
its condition no longer holds, or its upload is gone. The object itself tells whether it was so.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from s3mount.core.answers import doubt_stat, same_etag
from s3mount.core.contents import content_of, holds, is_made_of
from s3mount.core.objects import Body, ObjectHeaders, ObjectStat, PartTag
from s3mount.core.retries import Fault
from s3mount.errors import BadAnswer, NotFound
from s3mount.store.fields import response_headers, stat_of_head
from s3mount.store.listing_xml import NS_PER_S
from s3mount.store.retry import fault_of
from s3mount.store.translate import error_code, translate

log = logging.getLogger(__name__)

PIECE_BYTES: Final = 1024 * 1024
CLOCK_GRAIN_S: Final = 2.0
"""Date and Last-Modified are both cut to whole seconds, so an age is exact to two."""

_AFTER_A_PUT: Final = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict"})
_AFTER_A_COMPLETE: Final = _AFTER_A_PUT | {"NoSuchUpload"}


@dataclass(slots=True)
class Tries:
    """What the requests of one call came to so far; whoever repeats requests counts in it.

    ``unanswered`` are the tries before this one that the server may have carried out although it
    answered no success: the connection broke, no answer came in time, or it was a 5xx.
    """

    unanswered: int = 0
    began_s: float = field(default_factory=time.monotonic)


class LostAnswers:
    """Settles such failures with one HEAD; in the worker thread of the write.

    What is there is ours only if it has the checksum, the metadata and the age that ours must have.
    """

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def of_put(
        self, failure: ClientError, key: str, body: Body, headers: ObjectHeaders, tries: Tries
    ) -> dict[str, Any] | None:
        """Return an answer in place of *failure* where *key* holds exactly what was sent, else None."""
        if error_code(failure.response) not in _AFTER_A_PUT:
            return None

        def is_ours(stat: ObjectStat) -> bool:
            if not _has_metadata(stat, headers):
                return False
            said = holds(stat, content_of(_pieces(body)))
            return self._has_bytes(stat, body) if said is None else said

        return self._settled(key, tries, is_ours)

    def of_complete(
        self, failure: ClientError, key: str, parts: Sequence[PartTag], tries: Tries
    ) -> dict[str, Any] | None:
        """Return an answer in place of *failure* where *key* is made of exactly *parts*, else None."""
        if error_code(failure.response) not in _AFTER_A_COMPLETE:
            return None
        return self._settled(key, tries, lambda stat: is_made_of(stat, parts))

    def of_copy(
        self,
        failure: ClientError,
        source_key: str,
        target_key: str,
        headers: ObjectHeaders | None,
        tries: Tries,
    ) -> dict[str, Any] | None:
        """Return an answer in place of *failure* where the target is the copy that was asked for, else None.

        Where a copy cannot have its source's checksums, as of an object made of parts, nothing tells.
        """
        if error_code(failure.response) not in _AFTER_A_PUT or not tries.unanswered:
            return None
        try:
            source = stat_of_head(source_key, self._head(source_key))
        except ClientError:
            return None
        asked = headers or source.headers or ObjectHeaders()

        def is_ours(stat: ObjectStat) -> bool:
            same_bytes = same_etag(stat.etag, source.etag) or stat.crc32 == source.crc32 is not None
            return stat.size == source.size and same_bytes and _has_metadata(stat, asked)

        found = self._settled(target_key, tries, is_ours)
        return None if found is None else {**found, "CopyObjectResult": {"ETag": found.get("ETag")}}

    def of_delete(self, failure: ClientError, key: str) -> dict[str, Any] | None:
        """Return an answer in place of *failure* where *key* is gone, as SeaweedFS fails with 412, else None.

        Whoever deleted it: this delete, whose answer was lost, or another.
        """
        if error_code(failure.response) not in _AFTER_A_PUT:
            return None
        try:
            self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError as found:
            return {} if isinstance(translate(found, "HeadObject", key), NotFound) else None
        return None

    def _settled(
        self, key: str, tries: Tries, is_ours: Callable[[ObjectStat], bool]
    ) -> dict[str, Any] | None:
        """Return what a HEAD of *key* answers if that object is ours, else None.

        Raises: what the HEAD met: whose object it is nobody knows then, and another try may tell.
        """
        if not tries.unanswered:
            return None
        try:
            answer = self._head(key)
            if doubt_stat(stat_of_head(key, answer), key) is not None:
                answer = self._head(key)  # what garbles one answer may garble all: only once more
        except ClientError as exc:
            failure = translate(exc, "HeadObject", key)
            if fault_of(failure) is Fault.PERMANENT:
                return None  # nothing is there, or nobody may look: the refusal stands
            raise failure from exc
        stat = stat_of_head(key, answer)
        if (doubt := doubt_stat(stat, key)) is not None:
            raise BadAnswer(f"HEAD {key!r} {doubt}")
        if _is_older(answer, stat, time.monotonic() - tries.began_s) or not is_ours(stat):
            return None
        log.debug("%r is what a try whose answer was lost has stored", key)
        return answer

    def _head(self, key: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.head_object(
            Bucket=self._bucket, Key=key, ChecksumMode="ENABLED"
        )
        return answer

    def _has_bytes(self, stat: ObjectStat, body: Body) -> bool:
        """Compare byte by byte: with SSE-KMS and without checksums nothing else tells."""
        try:
            found = self._client.get_object(Bucket=self._bucket, Key=stat.key, IfMatch=stat.etag)["Body"]
            with found:
                return all(found.read(len(piece)) == piece for piece in _pieces(body)) and not found.read(1)
        except (ClientError, BotoCoreError, HTTPError, OSError):
            return False


def _is_older(answer: dict[str, Any], stat: ObjectStat, since_s: float) -> bool:
    """Return whether the object was there before the first try, by the server's own clock."""
    try:
        now = parsedate_to_datetime(response_headers(answer).get("date") or "").timestamp()
    except ValueError:
        return False
    return now - stat.last_modified_ns / NS_PER_S > since_s + CLOCK_GRAIN_S


def _has_metadata(stat: ObjectStat, headers: ObjectHeaders) -> bool:
    if stat.key.endswith("/"):
        return True  # SeaweedFS stores none with a directory's marker
    assert stat.headers is not None
    return dict(stat.headers.metadata) == {name.lower(): value for name, value in headers.metadata.items()}


def _pieces(body: Body) -> Iterator[bytes]:
    if isinstance(body, bytes):
        yield body
        return
    position = body.span.start
    while position < body.span.stop:
        piece = os.pread(body.fd, min(PIECE_BYTES, body.span.stop - position), position)
        if not piece:
            return
        position += len(piece)
        yield piece
