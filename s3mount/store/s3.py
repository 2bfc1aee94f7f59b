"""The object store of a real server: every call is one thread hop that ends in one botocore call."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar

import trio
from botocore.parsers import ResponseParserError

from s3mount.core.answers import doubt_bucket
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
from s3mount.core.progress import Sending
from s3mount.core.retries import RetryPolicy
from s3mount.core.status import ProcessRequests, RequestStatus
from s3mount.errors import BadAnswer, IllegalName, NotFound
from s3mount.store.base import Breaker
from s3mount.store.bodies import request_body
from s3mount.store.breaker import CircuitBreaker
from s3mount.store.caller import Caller, Repair, Settle
from s3mount.store.checksums import ChecksumSwitch
from s3mount.store.client import ClientOptions, credentials_of, is_aws
from s3mount.store.deletes import delete_keys
from s3mount.store.etags import quoted
from s3mount.store.fields import header_fields, stat_of_head, write_answer
from s3mount.store.hooks import metadata_in_list, page_of
from s3mount.store.limits import Gate, Limits
from s3mount.store.lost_answers import LostAnswers
from s3mount.store.ranged_get import RangedGet
from s3mount.store.retry import Retrier
from s3mount.store.server_clock import ServerClock
from s3mount.store.turns import Turns
from s3mount.store.uploads import list_parts, list_uploads

log = logging.getLogger(__name__)
T = TypeVar("T")

PROBE_S: Final = 10.0
"""How long a probe waits for an answer: a server that takes longer for a HEAD of its bucket is not back."""
COPY_BYTES: Final = 160 * 1024 * 1024
"""What a copy inside the server counts as: at 16 MiB/s, S3's largest, of 5 GiB, takes as long."""


class S3Store:
    """One bucket behind a botocore client; an :class:`~s3mount.store.base.ObjectStore`.

    Every answer is passed on as it came: wrap it in :class:`~s3mount.store.checked.CheckedStore`.

    Args:
        client: from :func:`~s3mount.store.client.build_client`, of the same *options*; closed by
            :meth:`close`.
        list_metadata: ask for MinIO's metadata in LIST; None asks every server that is not AWS.
        breaker: None for one of its own.
    """

    def __init__(
        self,
        client: Any,
        options: ClientOptions,
        *,
        list_metadata: bool | None = None,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self._client = client
        self._bucket = options.bucket
        self._list_metadata = not is_aws(client.meta.endpoint_url) if list_metadata is None else list_metadata
        self._checksums = ChecksumSwitch(client, may_stop=options.checksums == "auto")
        self._lost = LostAnswers(client, options.bucket)
        self._get_limiter = trio.CapacityLimiter(options.connections.get)
        self._background_limiter = trio.CapacityLimiter(options.connections.background_get)
        self._upload_limiter = trio.CapacityLimiter(options.connections.upload)
        self._meta_limiter = trio.CapacityLimiter(options.connections.meta)
        self._breaker = breaker or CircuitBreaker(client.meta.endpoint_url)
        #: Bytes and requests a second; may be changed at any time.
        self.limits = Limits(
            Gate(options.upload_limit), Gate(options.download_limit), Gate(options.requests_limit)
        )
        self._turns = Turns(options.connections.total)
        self._caller = Caller(
            Retrier(RetryPolicy(options.attempts)),
            self._turns,
            self._breaker,
            timeout_s=options.deadline_s,
            repairs=_repairs(client),
            limits=self.limits,
        )

    def close(self) -> None:
        """Close the connections; nothing may be under way."""
        self._client.close()

    @property
    def breaker(self) -> Breaker:
        """Whether the server is out of reach; it is found to be so inside :meth:`probing` only."""
        return self._breaker

    def requests(self) -> RequestStatus:
        """Return what has been asked so far, and what is being asked."""
        return RequestStatus(
            running=self._turns.running,
            limit=self._turns.limit,
            most=self._turns.most,
            counts=self._caller.counts.snapshot(),
        )

    def sending(self) -> Sending:
        """Return what is on its way to the server."""
        return self._caller.sending()

    def requests_by_process(self) -> list[ProcessRequests]:
        """Return the same, by the processes for which it was asked."""
        return self._caller.counts.by_process()

    async def renew_credentials(self) -> bool:
        """Look for the keys again; whether there are others.

        Cancel: goes on in its thread.
        """
        found = credentials_of(self._client)
        if found is None:
            return False
        return await trio.to_thread.run_sync(found.renew, abandon_on_cancel=True)

    def probing(self) -> AbstractAsyncContextManager[None]:
        """While the block runs, let requests fail at once when the server is out of reach; look for it."""
        call = functools.partial(self._client.head_bucket, Bucket=self._bucket)
        return self._breaker.probing(
            functools.partial(self._caller.probe, "HeadBucket", call, within_s=PROBE_S)
        )

    async def head(self, key: str, *, checksum: bool = False) -> ObjectStat:
        asked = {"ChecksumMode": "ENABLED"} if checksum else {}
        call = functools.partial(self._client.head_object, Bucket=self._bucket, Key=_sendable(key), **asked)
        return stat_of_head(key, await self._caller.read("HeadObject", key, call, self._meta_limiter))

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
        return await self._caller.read("ListObjectsV2", prefix, call, self._meta_limiter)

    async def get_into(
        self,
        key: str,
        span: ByteRange,
        buffer: memoryview,
        *,
        if_match: str | None,
        is_whole: bool = False,
        background: bool = False,
    ) -> RangeAnswer:
        get = RangedGet(
            self._client, self._bucket, _sendable(key), span, buffer, if_match=if_match, is_whole=is_whole
        )
        limiter = self._background_limiter if background else self._get_limiter
        return await self._caller.read(
            "GetObject", key, get.attempt, limiter, size=span.size, background=background
        )

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
        answer = await self._upload(
            "PutObject",
            key,
            lambda: call(Body=request_body(body)),
            size=body_size(body),
            settle=lambda failure, tries: self._lost.of_put(failure, key, body, headers, tries),
        )
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
        answer = await self._upload(
            "UploadPart", upload.key, lambda: call(Body=request_body(body)), size=body_size(body)
        )
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
        answer = await self._caller.write(
            "UploadPartCopy", source_key, call, self._upload_limiter, size=span.size
        )
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
        answer = await self._caller.write(
            "CompleteMultipartUpload",
            upload.key,
            call,
            self._upload_limiter,
            size=sum(part.size for part in parts),
            settle=lambda failure, tries: self._lost.of_complete(failure, upload.key, parts, tries),
        )
        return write_answer(answer, answer.get("ETag"))

    async def abort_multipart(self, upload: MultipartUpload) -> None:
        call = functools.partial(
            self._client.abort_multipart_upload,
            Bucket=self._bucket,
            Key=_sendable(upload.key),
            UploadId=upload.upload_id,
        )
        try:
            await self._caller.write("AbortMultipartUpload", upload.key, call, self._meta_limiter)
        except NotFound:
            log.debug("upload %s of %r is gone already", upload.upload_id, upload.key)

    async def list_parts(self, upload: MultipartUpload) -> list[PartTag]:
        call = functools.partial(
            list_parts, self._client, self._bucket, _sendable(upload.key), upload.upload_id
        )
        return await self._caller.read("ListParts", upload.key, call, self._meta_limiter)

    async def list_multipart_uploads(self, prefix: str) -> list[MultipartUpload]:
        call = functools.partial(self._list_uploads, _sendable(prefix))
        return await self._caller.read("ListMultipartUploads", prefix, call, self._meta_limiter)

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
        answer = await self._caller.write(
            "CopyObject",
            source_key,
            call,
            self._upload_limiter,
            size=COPY_BYTES,
            settle=lambda failure, tries: self._lost.of_copy(failure, source_key, target_key, headers, tries),
        )
        return write_answer(answer, (answer.get("CopyObjectResult") or {}).get("ETag"))

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        call = functools.partial(
            self._client.delete_object,
            Bucket=self._bucket,
            Key=_sendable(key),
            **_conditions(if_match, False),
        )
        try:
            await self._caller.write(
                "DeleteObject",
                key,
                call,
                self._meta_limiter,
                settle=lambda failure, _: self._lost.of_delete(failure, key),
            )
        except NotFound:
            log.debug("%r is gone already", key)

    async def delete_many(self, keys: Sequence[str]) -> list[str]:
        for key in keys:
            _sendable(key)
        call = functools.partial(delete_keys, self._client, self._bucket, keys)
        return await self._caller.write("DeleteObjects", keys[0] if keys else "", call, self._meta_limiter)

    def _upload(
        self,
        operation: str,
        key: str,
        call: Callable[[], T],
        *,
        size: int = 0,
        settle: Settle[T] | None = None,
    ) -> Awaitable[T]:
        """Write what carries a checksum that the server may refuse."""
        send = functools.partial(self._checksums.call, call)
        return self._caller.write(
            operation, key, send, self._upload_limiter, size=size, sends=size, settle=settle
        )

    def _list(self, **parameters: Any) -> ListPage:
        with metadata_in_list(self._list_metadata):
            try:
                return self._page(parameters)
            except BadAnswer:
                if not self._list_metadata:
                    raise
                # MinIO makes XML elements of metadata names; where one is like "a!b" it answers an
                # empty 500. One object's odd metadata must not make its directory unreadable.
                log.debug("LIST %r is unreadable with metadata; asking without", parameters["Prefix"])
        return self._page(parameters)

    def _page(self, parameters: dict[str, Any]) -> ListPage:
        page = page_of(self._client.list_objects_v2(**parameters))
        doubt = doubt_bucket(page, self._bucket)
        if doubt is not None:
            raise BadAnswer(f"the answer to LIST {parameters['Prefix']!r} {doubt}")
        return page

    def _list_uploads(self, prefix: str) -> list[MultipartUpload]:
        try:
            return list_uploads(self._client, self._bucket, prefix, encoded=False)
        except ResponseParserError:
            # A key with a control character; not asked for at once, since SeaweedFS says that it encodes
            # and does not.
            return list_uploads(self._client, self._bucket, prefix, encoded=True)


def _repairs(client: Any) -> list[Repair]:
    credentials = credentials_of(client)
    return [ServerClock(client)] if credentials is None else [ServerClock(client), credentials]


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
