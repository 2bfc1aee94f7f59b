"""One ranged GET into a buffer, resumed where it broke off."""

from __future__ import annotations

import logging
import zlib
from dataclasses import replace
from typing import Any

from urllib3.exceptions import ReadTimeoutError

from s3mount.core.contents import crc32_text
from s3mount.core.objects import ByteRange, RangeAnswer
from s3mount.errors import BadAnswer, StoreError, StoreTimeout, StoreUnavailable
from s3mount.store.bodies import Received, parse_content_range, read_body
from s3mount.store.etags import quoted

log = logging.getLogger(__name__)


class RangedGet:
    """The attempts of one call; see :meth:`s3mount.store.base.ObjectStore.get_into`.

    Each attempt runs in a worker thread, one after the other. What the earlier ones brought is kept: the
    next begins after it, bound to the ETag of the beginning.
    """

    def __init__(
        self,
        client: Any,
        bucket: str,
        key: str,
        span: ByteRange,
        buffer: memoryview,
        *,
        if_match: str | None,
        is_whole: bool,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._span = span
        self._buffer = buffer
        self._if_match = if_match
        self._is_whole = is_whole
        self._received = 0
        self._crc32: str | None = None

    def attempt(self) -> RangeAnswer:
        """Fetch what is missing. What may be wrong with the answer's head is for CheckedStore to say.

        Raises: StoreUnavailable, StoreTimeout (broke off, what came is kept), BadAnswer (the object's own
            checksum says otherwise, nothing is kept), botocore's exceptions.
        """
        rest = ByteRange(self._span.start + self._received, self._span.stop)
        answer, body = self._ask(rest)
        if body is None:
            return answer
        self._received += body.size
        if answer.etag is not None:
            self._if_match = answer.etag
        if self._received < self._span.size and answer.etag is not None:
            raise self._broken_off(body.failure)
        whole = replace(answer, span=self._span, received=self._received)
        self._verify(whole)
        return whole

    def _ask(self, span: ByteRange) -> tuple[RangeAnswer, Received | None]:
        """Send one request; the body is None where it is not what was asked for, and was not read."""
        asked = {} if self._if_match is None else {"IfMatch": self._if_match}
        if span.start == 0:
            # It may be all of the object, and then there is a checksum to be had, for a header.
            asked["ChecksumMode"] = "ENABLED"
        if span.start or not self._is_whole:
            # AWS tells the checksum with a range that is all of the object, MinIO and SeaweedFS do not.
            asked["Range"] = f"bytes={span.start}-{span.stop - 1}"
        answer = self._client.get_object(Bucket=self._bucket, Key=self._key, **asked)
        length: int | None = answer.get("ContentLength")
        is_part = answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        # A 200 needs none; one that says it is something else than the whole is not believed.
        if is_part or answer.get("ContentRange") is not None:
            answered, total = parse_content_range(answer.get("ContentRange")) or (None, None)
        else:
            answered, total = (None if length is None else ByteRange(0, length)), length
        head = RangeAnswer(quoted(answer.get("ETag")), answered, total, 0)
        with answer["Body"] as raw:
            if answered != span or length not in (None, span.size):
                return head, None
            body = read_body(raw, self._buffer[self._received :])
        if span.start == 0:
            self._crc32 = _crc32_of(answer)
        return head, body

    def _verify(self, answer: RangeAnswer) -> None:
        """Compare the object's checksum, if it was told and all of the object is here."""
        crc32 = self._crc32
        if crc32 is None or self._span.start or answer.total_size != self._span.size:
            return
        found = crc32_text(zlib.crc32(self._buffer))
        if found != crc32:
            self._received = 0
            raise BadAnswer(f"GetObject {self._key!r}: the bytes have CRC32 {found}, the object {crc32}")

    def _broken_off(self, failure: Exception | None) -> StoreError:
        message = f"GetObject {self._key!r} {self._span.start}-{self._span.stop}: "
        message += f"broke off after {self._received} bytes: {failure!r}"
        if isinstance(failure, TimeoutError | ReadTimeoutError):
            return StoreTimeout(message)
        return StoreUnavailable(message)


def _crc32_of(answer: dict[str, Any]) -> str | None:
    """Return the CRC32 of all the object's bytes, if that is what the answer tells."""
    crc32: str | None = answer.get("ChecksumCRC32")
    # Not every server marks a checksum of the parts' checksums as one.
    of_parts = "-" in (answer.get("ETag") or "") and answer.get("ChecksumType") != "FULL_OBJECT"
    return None if of_parts or answer.get("ChecksumType") == "COMPOSITE" else crc32
