"""The object store of a real server: every call is one thread hop that ends in one botocore call."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import trio
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from s3mount.core.objects import (
    Body,
    ByteRange,
    ListPage,
    MultipartUpload,
    ObjectHeaders,
    ObjectStat,
    PartTag,
    RangeAnswer,
    WriteAnswer,
    body_size,
)
from s3mount.errors import BadAnswer, IllegalName, NotFound, StoreTimeout
from s3mount.store.bodies import Exchange, request_body
from s3mount.store.checksums import ChecksumSwitch
from s3mount.store.client import ClientOptions, is_aws
from s3mount.store.deletes import delete_keys
from s3mount.store.etags import quoted
from s3mount.store.fields import header_fields, stat_of_head, write_answer
from s3mount.store.hooks import metadata_in_list, page_of
from s3mount.store.lost_answers import LostAnswers, Tries
from s3mount.store.ranged_get import RangedGet
from s3mount.store.translate import translate
from s3mount.store.uploads import list_parts, list_uploads

log = logging.getLogger(__name__)
T = TypeVar("T")


class S3Store:
    """One bucket behind a botocore client; an :class:`~s3mount.store.base.ObjectStore`.

    Every answer is passed on as it came: wrap it in :class:`~s3mount.store.checked.CheckedStore`.

    Args:
        client: from :func:`~s3mount.store.client.build_client`, of the same *options*; closed by
            :meth:`close`.
        list_metadata: ask for MinIO's metadata in LIST; None asks every server that is not AWS.
    """

    def __init__(self, client: Any, options: ClientOptions, *, list_metadata: bool | None = None) -> None:
        self._client = client
        self._bucket = options.bucket
        self._deadline_s = options.deadline_s
        self._list_metadata = not is_aws(client.meta.endpoint_url) if list_metadata is None else list_metadata
        self._get = RangedGet(client, options.bucket, attempts=options.attempts)
        self._checksums = ChecksumSwitch(client, may_stop=options.checksums == "auto")
        self._lost = LostAnswers(client, options.bucket)
        self._get_limiter = trio.CapacityLimiter(options.connections.get)
        self._background_limiter = trio.CapacityLimiter(options.connections.background_get)
        self._upload_limiter = trio.CapacityLimiter(options.connections.upload)
        self._meta_limiter = trio.CapacityLimiter(options.connections.meta)

    def close(self) -> None:
        """Close the connections; nothing may be under way."""
        self._client.close()

    async def head(self, key: str, *, checksum: bool = False) -> ObjectStat:
        asked = {"ChecksumMode": "ENABLED"} if checksum else {}
        call = functools.partial(self._client.head_object, Bucket=self._bucket, Key=_sendable(key), **asked)
        return stat_of_head(key, await self._read("HeadObject", key, call))

    async def list_page(
        self,
        prefix: str,
        *,
        delimiter: str = "/",
        token: str | None = None,
        start_after: str | None = None,
        max_keys: int = 1000,
    ) -> ListPage:
        wanted = {"Delimiter": delimiter, "ContinuationToken": token, "StartAfter": start_after}
        call = functools.partial(
            self._list,
            Bucket=self._bucket,
            Prefix=_sendable(prefix),
            MaxKeys=max_keys,
            EncodingType="url",
            **{name: _sendable(value) for name, value in wanted.items() if value},
        )
        return await self._read("ListObjectsV2", prefix, call)

    async def get_into(
        self,
        key: str,
        span: ByteRange,
        buffer: memoryview,
        *,
        if_match: str | None,
        background: bool = False,
    ) -> RangeAnswer:
        exchange = Exchange()
        call = functools.partial(self._get.run, _sendable(key), span, buffer, if_match, exchange)
        limiter = self._background_limiter if background else self._get_limiter
        try:
            return await self._read("GetObject", key, call, limiter)
        except BaseException:
            # Cancelled, or out of time: the thread that was left behind must not read on.
            exchange.abort()
            raise

    async def put(
        self,
        key: str,
        body: Body,
        headers: ObjectHeaders,
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> WriteAnswer:
        call = functools.partial(
            self._client.put_object,
            Bucket=self._bucket,
            Key=_sendable(key),
            **header_fields(headers),
            **_conditions(if_match, if_none_match),
        )
        send = functools.partial(self._checksums.call, lambda: call(Body=request_body(body)))
        settled = _settling(
            send, lambda failure, tries: self._lost.of_put(failure, key, body, headers, tries)
        )
        answer = await self._write("PutObject", key, settled, self._upload_limiter)
        return write_answer(answer, answer.get("ETag"))

    async def create_multipart(self, key: str, headers: ObjectHeaders) -> MultipartUpload:
        call = functools.partial(
            self._client.create_multipart_upload,
            Bucket=self._bucket,
            Key=_sendable(key),
            **header_fields(headers),
        )
        answer = await self._upload("CreateMultipartUpload", key, call)
        upload_id = answer.get("UploadId")
        if not upload_id:
            raise BadAnswer(f"CreateMultipartUpload {key!r}: no upload id")
        return MultipartUpload(key, upload_id)

    async def upload_part(self, upload: MultipartUpload, number: int, body: Body) -> PartTag:
        call = functools.partial(
            self._client.upload_part,
            Bucket=self._bucket,
            Key=_sendable(upload.key),
            UploadId=upload.upload_id,
            PartNumber=number,
        )
        answer = await self._upload("UploadPart", upload.key, lambda: call(Body=request_body(body)))
        return PartTag(number, quoted(answer.get("ETag")), body_size(body), answer.get("ChecksumCRC32"))

    async def copy_part(
        self, upload: MultipartUpload, number: int, source_key: str, span: ByteRange, *, if_match: str
    ) -> PartTag:
        call = functools.partial(
            self._client.upload_part_copy,
            Bucket=self._bucket,
            Key=_sendable(upload.key),
            UploadId=upload.upload_id,
            PartNumber=number,
            CopySource={"Bucket": self._bucket, "Key": _sendable(source_key)},
            CopySourceRange=f"bytes={span.start}-{span.stop - 1}",
            CopySourceIfMatch=if_match,
        )
        answer = await self._write("UploadPartCopy", source_key, call, self._upload_limiter)
        copied = answer.get("CopyPartResult") or {}
        return PartTag(number, quoted(copied.get("ETag")), span.size, copied.get("ChecksumCRC32"))

    async def complete_multipart(
        self,
        upload: MultipartUpload,
        parts: Sequence[PartTag],
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> WriteAnswer:
        call = functools.partial(
            self._client.complete_multipart_upload,
            Bucket=self._bucket,
            Key=_sendable(upload.key),
            UploadId=upload.upload_id,
            MultipartUpload={"Parts": [_part_fields(part) for part in parts]},
            **_conditions(if_match, if_none_match),
        )
        settled = _settling(
            call, lambda failure, tries: self._lost.of_complete(failure, upload.key, parts, tries)
        )
        answer = await self._write("CompleteMultipartUpload", upload.key, settled, self._upload_limiter)
        return write_answer(answer, answer.get("ETag"))

    async def abort_multipart(self, upload: MultipartUpload) -> None:
        call = functools.partial(
            self._client.abort_multipart_upload,
            Bucket=self._bucket,
            Key=_sendable(upload.key),
            UploadId=upload.upload_id,
        )
        try:
            await self._write("AbortMultipartUpload", upload.key, call, self._meta_limiter)
        except NotFound:
            log.debug("upload %s of %r is gone already", upload.upload_id, upload.key)

    async def list_parts(self, upload: MultipartUpload) -> list[PartTag]:
        call = functools.partial(
            list_parts, self._client, self._bucket, _sendable(upload.key), upload.upload_id
        )
        return await self._read("ListParts", upload.key, call)

    async def list_multipart_uploads(self, prefix: str) -> list[MultipartUpload]:
        call = functools.partial(self._list_uploads, _sendable(prefix))
        return await self._read("ListMultipartUploads", prefix, call)

    async def copy(
        self,
        source_key: str,
        target_key: str,
        *,
        if_match: str | None,
        headers: ObjectHeaders | None,
        storage_class: str | None = None,
        if_none_match: bool = False,
    ) -> WriteAnswer:
        fields: dict[str, Any] = {"MetadataDirective": "COPY"}
        if headers is not None:
            fields = {"MetadataDirective": "REPLACE", **header_fields(headers)}
        if storage_class is not None:
            fields["StorageClass"] = storage_class
        if if_match is not None:
            fields["CopySourceIfMatch"] = if_match
        call = functools.partial(
            self._client.copy_object,
            Bucket=self._bucket,
            Key=_sendable(target_key),
            CopySource={"Bucket": self._bucket, "Key": _sendable(source_key)},
            **fields,
            **_conditions(None, if_none_match),
        )
        settled = _settling(
            call, lambda failure, tries: self._lost.of_copy(failure, source_key, target_key, headers, tries)
        )
        answer = await self._write("CopyObject", source_key, settled, self._upload_limiter)
        return write_answer(answer, (answer.get("CopyObjectResult") or {}).get("ETag"))

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        call = functools.partial(
            self._client.delete_object,
            Bucket=self._bucket,
            Key=_sendable(key),
            **_conditions(if_match, False),
        )
        settled = _settling(call, lambda failure, _: self._lost.of_delete(failure, key))
        try:
            await self._write("DeleteObject", key, settled, self._meta_limiter)
        except NotFound:
            log.debug("%r is gone already", key)

    async def delete_many(self, keys: Sequence[str]) -> list[str]:
        for key in keys:
            _sendable(key)
        call = functools.partial(delete_keys, self._client, self._bucket, keys)
        return await self._write("DeleteObjects", keys[0] if keys else "", call, self._meta_limiter)

    async def _read(
        self,
        operation: str,
        key: str,
        call: Callable[[], T],
        limiter: trio.CapacityLimiter | None = None,
    ) -> T:
        """Run *call* in a thread that may be left behind, for at most the deadline."""
        with trio.move_on_after(self._deadline_s):
            return await trio.to_thread.run_sync(
                functools.partial(_translated, operation, key, call),
                limiter=limiter or self._meta_limiter,
                abandon_on_cancel=True,
            )
        raise StoreTimeout(f"{operation} {key!r}: no whole answer within {self._deadline_s} s")

    async def _write(
        self, operation: str, key: str, call: Callable[[], T], limiter: trio.CapacityLimiter
    ) -> T:
        """Run *call* to its end in a thread: what a write that was left behind did, nobody would know."""
        return await trio.to_thread.run_sync(
            functools.partial(_translated, operation, key, call), limiter=limiter
        )

    def _upload(self, operation: str, key: str, call: Callable[[], T]) -> Awaitable[T]:
        """Like :meth:`_write`, for what carries a checksum that the server may refuse."""
        send = functools.partial(self._checksums.call, call)
        return self._write(operation, key, send, self._upload_limiter)

    def _list(self, **parameters: Any) -> ListPage:
        with metadata_in_list(self._list_metadata):
            try:
                return page_of(self._client.list_objects_v2(**parameters))
            except BadAnswer:
                if not self._list_metadata:
                    raise
                # MinIO makes XML elements of metadata names; where one is like "a!b" it answers an
                # empty 500. One object's odd metadata must not make its directory unreadable.
                log.debug("LIST %r is unreadable with metadata; asking without", parameters["Prefix"])
        return page_of(self._client.list_objects_v2(**parameters))

    def _list_uploads(self, prefix: str) -> list[MultipartUpload]:
        try:
            return list_uploads(self._client, self._bucket, prefix, encoded=False)
        except ResponseParserError:
            # A key with a control character; not asked for at once, since SeaweedFS says that it encodes
            # and does not.
            return list_uploads(self._client, self._bucket, prefix, encoded=True)


def _translated(operation: str, key: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except Exception as exc:
        ours = translate(exc, operation, key)
        if ours is exc:
            raise
        raise ours from exc


def _settling(call: Callable[[], T], settle: Callable[[ClientError, Tries], T | None]) -> Callable[[], T]:
    """Return *call*, with *settle* asked whether a failure is none."""

    def settled() -> T:
        tries = Tries()
        try:
            return call()
        except ClientError as failure:
            # botocore counts its repetitions, all of which followed a failure that may have been none.
            tries.unanswered += failure.response.get("ResponseMetadata", {}).get("RetryAttempts") or 0
            answer = settle(failure, tries)
            if answer is None:
                raise
            return answer

    return settled


def _sendable(key: str) -> str:
    """Return *key*; raise IllegalName where its bytes are not UTF-8, for such a key cannot be asked for."""
    try:
        key.encode()
    except UnicodeEncodeError as exc:
        raise IllegalName(f"{key!r} is not UTF-8") from exc
    return key


def _conditions(if_match: str | None, if_none_match: bool) -> dict[str, str]:
    conditions = {}
    if if_match is not None:
        conditions["IfMatch"] = if_match
    if if_none_match:
        conditions["IfNoneMatch"] = "*"
    return conditions


def _part_fields(part: PartTag) -> dict[str, Any]:
    fields: dict[str, Any] = {"PartNumber": part.number, "ETag": part.etag}
    if part.crc32 is not None:
        fields["ChecksumCRC32"] = part.crc32
    return fields
