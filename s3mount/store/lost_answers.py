"""A write whose first try was carried out and whose answer was lost fails when it is tried again:
its condition no longer holds, or its upload is gone. The object itself tells whether it was so.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from s3mount.core.answers import same_etag
from s3mount.core.objects import Body, PartTag, body_size
from s3mount.errors import NotFound
from s3mount.store.translate import error_code, translate

log = logging.getLogger(__name__)

PIECE_BYTES: Final = 1024 * 1024
_AFTER_A_PUT: Final = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict"})
_AFTER_A_COMPLETE: Final = _AFTER_A_PUT | {"NoSuchUpload"}


class LostAnswers:
    """Settles such failures with one HEAD; in the worker thread of the write."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def of_put(self, failure: ClientError, key: str, body: Body) -> dict[str, Any] | None:
        """Return an answer in place of *failure* where *key* holds exactly *body*, else None."""
        if not _was_retried(failure) or error_code(failure.response) not in _AFTER_A_PUT:
            return None
        found = self._head(key)
        if found is None or found.get("ContentLength") != body_size(body):
            return None
        crc32 = found.get("ChecksumCRC32")
        if crc32 is not None and found.get("ChecksumType") != "COMPOSITE":
            same = crc32 == _crc32(body)
        else:
            same = same_etag(found.get("ETag") or "", _md5(body))
        return self._settled(key, found) if same else None

    def of_complete(self, failure: ClientError, key: str, parts: Sequence[PartTag]) -> dict[str, Any] | None:
        """Return an answer in place of *failure* where *key* is made of exactly *parts*, else None."""
        if not _was_retried(failure) or error_code(failure.response) not in _AFTER_A_COMPLETE:
            return None
        expected = etag_of_parts(parts)
        found = self._head(key)
        if expected is None or found is None or not same_etag(found.get("ETag") or "", expected):
            return None
        return self._settled(key, found)

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

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = self._client.head_object(
                Bucket=self._bucket, Key=key, ChecksumMode="ENABLED"
            )
        except ClientError:
            return None
        return answer

    def _settled(self, key: str, found: dict[str, Any]) -> dict[str, Any]:
        log.debug("%r is what a try whose answer was lost has stored", key)
        return found


def etag_of_parts(parts: Sequence[PartTag]) -> str | None:
    """Return the ETag that S3 gives an object of *parts*; None where their ETags are no MD5 (SSE-KMS)."""
    digest = hashlib.md5(usedforsecurity=False)
    for part in parts:
        try:
            raw = bytes.fromhex((part.etag or "").strip('"'))
        except ValueError:
            return None
        if len(raw) != 16:
            return None
        digest.update(raw)
    return f"{digest.hexdigest()}-{len(parts)}"


def _was_retried(failure: ClientError) -> bool:
    return bool(failure.response.get("ResponseMetadata", {}).get("RetryAttempts"))


def _crc32(body: Body) -> str:
    value = 0
    for piece in _pieces(body):
        value = zlib.crc32(piece, value)
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def _md5(body: Body) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for piece in _pieces(body):
        digest.update(piece)
    return digest.hexdigest()


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
