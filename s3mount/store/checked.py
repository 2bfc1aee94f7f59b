"""A store that believes nothing: any answer that cannot be true is an error, not data."""

from __future__ import annotations

from collections.abc import Sequence

from s3mount.core.answers import (
    doubt_deletion,
    doubt_page,
    doubt_part,
    doubt_parts,
    doubt_range,
    doubt_stat,
    doubt_write,
)
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
from s3mount.errors import BadAnswer
from s3mount.store.base import ObjectStore


class CheckedStore:
    """Wraps an :class:`~s3mount.store.base.ObjectStore`, and is one.

    Each call raises BadAnswer where *inner*'s answer cannot be true. After a BadAnswer to a read its
    buffer is garbage; after one to a write nobody knows what the bucket holds.
    """

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner

    async def head(self, key: str, *, checksum: bool = False) -> ObjectStat:
        stat = await self._inner.head(key, checksum=checksum)
        _believe(f"HEAD {key!r}", doubt_stat(stat, key))
        return stat

    async def list_page(
        self,
        prefix: str,
        *,
        delimiter: str = "/",
        token: str | None = None,
        start_after: str | None = None,
        max_keys: int = 1000,
    ) -> ListPage:
        page = await self._inner.list_page(
            prefix, delimiter=delimiter, token=token, start_after=start_after, max_keys=max_keys
        )
        doubt = doubt_page(page, prefix=prefix, delimiter=delimiter, token=token, max_keys=max_keys)
        _believe(f"LIST {prefix!r}", doubt)
        return page

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
        answer = await self._inner.get_into(
            key, span, buffer, if_match=if_match, is_whole=is_whole, background=background
        )
        _believe(f"GET {key!r}", doubt_range(answer, span=span, if_match=if_match))
        return answer

    async def put(
        self,
        key: str,
        body: Body,
        headers: ObjectHeaders,
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> WriteAnswer:
        answer = await self._inner.put(key, body, headers, if_match=if_match, if_none_match=if_none_match)
        _believe(f"PUT {key!r}", doubt_write(answer.etag))
        return answer

    async def create_multipart(self, key: str, headers: ObjectHeaders) -> MultipartUpload:
        upload = await self._inner.create_multipart(key, headers)
        _believe(f"upload of {key!r}", None if upload.upload_id else "has no id")
        return upload

    async def upload_part(self, upload: MultipartUpload, number: int, body: Body) -> PartTag:
        part = await self._inner.upload_part(upload, number, body)
        _believe(f"part {number} of {upload.key!r}", doubt_part(part, number=number, size=body_size(body)))
        return part

    async def copy_part(
        self, upload: MultipartUpload, number: int, source_key: str, span: ByteRange, *, if_match: str
    ) -> PartTag:
        part = await self._inner.copy_part(upload, number, source_key, span, if_match=if_match)
        _believe(f"copied part {number} of {upload.key!r}", doubt_part(part, number=number, size=span.size))
        return part

    async def complete_multipart(
        self,
        upload: MultipartUpload,
        parts: Sequence[PartTag],
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> WriteAnswer:
        answer = await self._inner.complete_multipart(
            upload, parts, if_match=if_match, if_none_match=if_none_match
        )
        _believe(f"finished upload of {upload.key!r}", doubt_write(answer.etag))
        return answer

    async def abort_multipart(self, upload: MultipartUpload) -> None:
        await self._inner.abort_multipart(upload)

    async def list_parts(self, upload: MultipartUpload) -> list[PartTag]:
        parts = await self._inner.list_parts(upload)
        _believe(f"list of the parts of {upload.key!r}", doubt_parts(parts))
        return parts

    async def list_multipart_uploads(self, prefix: str) -> list[MultipartUpload]:
        uploads = await self._inner.list_multipart_uploads(prefix)
        strangers = [one.key for one in uploads if not one.key.startswith(prefix)]
        _believe(f"uploads under {prefix!r}", f"have {strangers[0]!r}" if strangers else None)
        return uploads

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
        answer = await self._inner.copy(
            source_key,
            target_key,
            if_match=if_match,
            headers=headers,
            storage_class=storage_class,
            if_none_match=if_none_match,
        )
        _believe(f"copy of {source_key!r}", doubt_write(answer.etag))
        return answer

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        await self._inner.delete(key, if_match=if_match)

    async def delete_many(self, keys: Sequence[str]) -> list[str]:
        left = await self._inner.delete_many(keys)
        _believe("DeleteObjects", doubt_deletion(left, keys))
        return left


def _believe(request: str, doubt: str | None) -> None:
    if doubt is not None:
        raise BadAnswer(f"the answer to {request} {doubt}")
