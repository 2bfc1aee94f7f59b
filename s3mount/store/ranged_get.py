"""One ranged GET into a buffer, resumed where it broke off."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from urllib3.exceptions import ReadTimeoutError

from s3mount.core.objects import ByteRange, RangeAnswer
from s3mount.errors import StoreError, StoreTimeout, StoreUnavailable
from s3mount.store.bodies import Exchange, Received, parse_content_range, read_body
from s3mount.store.etags import quoted

log = logging.getLogger(__name__)


class RangedGet:
    """Runs in a worker thread. botocore retries until the headers are there; this resumes the body."""

    def __init__(self, client: Any, bucket: str, *, attempts: int) -> None:
        self._client = client
        self._bucket = bucket
        self._attempts = attempts

    def run(
        self, key: str, span: ByteRange, buffer: memoryview, if_match: str | None, exchange: Exchange
    ) -> RangeAnswer:
        """Fill *buffer*; see :meth:`s3mount.store.base.ObjectStore.get_into`.

        A body that ends early is resumed after its last byte, bound to the ETag of its beginning. What
        else may be wrong with an answer is for CheckedStore to say.
        """
        answer, body = self._once(key, span, buffer, if_match, exchange)
        for _ in range(1, self._attempts):
            if not _ended_early(answer, span) or exchange.aborted or answer.etag is None:
                break
            rest = ByteRange(span.start + answer.received, span.stop)
            log.debug("GET %r %d-%d broke off (%r); resuming", key, rest.start, rest.stop, body.failure)
            more, body = self._once(key, rest, buffer[answer.received :], answer.etag, exchange)
            if more.span != rest or more.etag != answer.etag:
                return replace(more, received=0)
            answer = replace(answer, received=answer.received + more.received)
        if body.failure is not None and answer.received < span.size:
            raise _translate_failure(body.failure, key, span, answer.received)
        return answer

    def _once(
        self, key: str, span: ByteRange, buffer: memoryview, if_match: str | None, exchange: Exchange
    ) -> tuple[RangeAnswer, Received]:
        condition = {} if if_match is None else {"IfMatch": if_match}
        answer = self._client.get_object(
            Bucket=self._bucket, Key=key, Range=f"bytes={span.start}-{span.stop - 1}", **condition
        )
        length: int | None = answer.get("ContentLength")
        if answer["ResponseMetadata"]["HTTPStatusCode"] == 206:
            answered, total = parse_content_range(answer.get("ContentRange")) or (None, None)
        else:
            answered, total = (None if length is None else ByteRange(0, length)), length
        with answer["Body"] as raw:
            if answered is None or not _fits(answered, span) or length not in (None, answered.size):
                # Not what was asked for: nothing of it may reach the buffer.
                body = Received(0, None)
            else:
                body = read_body(raw, buffer[: answered.size], exchange)
        return RangeAnswer(quoted(answer.get("ETag")), answered, total, body.size), body


def _fits(answered: ByteRange, span: ByteRange) -> bool:
    return answered.start == span.start and answered.stop <= span.stop


def _ended_early(answer: RangeAnswer, span: ByteRange) -> bool:
    return answer.span == span and answer.received < span.size


def _translate_failure(failure: Exception, key: str, span: ByteRange, received: int) -> StoreError:
    message = f"GetObject {key!r} {span.start}-{span.stop}: broke off after {received} bytes: {failure!r}"
    if isinstance(failure, TimeoutError | ReadTimeoutError):
        return StoreTimeout(message)
    return StoreUnavailable(message)
