"""An object store in memory, for schedules and failures that no server gives on demand.

It behaves as AWS does (tests/store/test_contract.py holds it to that): keys in byte order, any UTF-8
key, conditions, ranges, parts. It is one dictionary: nothing in it awaits unless a hook does.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
import zlib
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import trio

from s3mount.core.contents import crc32_of_parts, crc32_text, etag_of_parts
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
)
from s3mount.errors import (
    ConditionFailed,
    IllegalName,
    InvalidArgument,
    NameTooLong,
    NotFound,
    StaleObject,
    StoreError,
)

MAX_KEY_BYTES = 1024
MAX_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Call:
    """One call that is about to be carried out, or was: the method's name and its key (or prefix)."""

    method: str
    key: str


Hook = Callable[[Call], Awaitable[None]]


async def _nothing(_: Call) -> None:
    await trio.lowlevel.checkpoint()


@dataclass(slots=True)
class _Stored:
    body: bytes
    etag: str
    modified_ns: int
    headers: ObjectHeaders
    crc32: str


@dataclass(slots=True)
class _Upload:
    key: str
    headers: ObjectHeaders
    begun_ns: int
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)


class MemoryStore:
    """See the module.

    Args:
        list_metadata: LIST carries headers, as MinIO's does.
        min_part_bytes: smallest part that may stand before another (5 MiB at AWS).
        before: awaited before each call takes effect; it may raise in the call's place.
        after: awaited after each call took effect; what it raises is a lost answer.
        now_ns: the store's clock.
        ignores: the facts of s3mount.core.server_facts that do not hold of it, and "put_if_match_of_absent"
            and "complete_if_match_of_absent": If-Match creates what is not there, as an old MinIO did.
    """

    def __init__(
        self,
        *,
        list_metadata: bool = False,
        min_part_bytes: int = 0,
        before: Hook = _nothing,
        after: Hook = _nothing,
        now_ns: Callable[[], int] = time.time_ns,
        ignores: Collection[str] = (),
    ) -> None:
        self.list_metadata = list_metadata
        self.min_part_bytes = min_part_bytes
        self.before = before
        self.after = after
        self.now_ns = now_ns
        self.ignores = frozenset(ignores)
        self.calls: list[Call] = []
        self._objects: dict[str, _Stored] = {}
        self._listed: dict[str, _Stored] = {}
        self._late: set[str] = set()
        self._uploads: dict[str, _Upload] = {}
        self._numbers = itertools.count(1)

    # What tests look at and prepare, with no call being made.

    def keys(self) -> list[str]:
        """Return all keys in the order of their bytes."""
        return sorted(self._objects, key=str.encode)

    def body(self, key: str) -> bytes:
        """Return an object's bytes."""
        return self._objects[key].body

    def stat(self, key: str) -> ObjectStat:
        """Describe an object."""
        return _stat(key, self._objects[key], with_headers=True)

    def store(self, key: str, body: bytes, headers: ObjectHeaders | None = None) -> ObjectStat:
        """Store an object, as another client would."""
        self._put(key, body, headers or ObjectHeaders())
        return self.stat(key)

    def remove(self, key: str) -> None:
        """Remove an object, as another client would."""
        del self._objects[key]

    @contextmanager
    def lagging(self, *, head: bool = False) -> Iterator[None]:
        """While the block runs, LIST (*head*: and HEAD) answers what it would have when it began."""
        self._late = {"list_page", "head"} if head else {"list_page"}
        self._listed = dict(self._objects)
        try:
            yield
        finally:
            self._late = set()

    def uploads(self) -> list[MultipartUpload]:
        """Return the unfinished uploads."""
        return [MultipartUpload(upload.key, name, upload.begun_ns) for name, upload in self._uploads.items()]

    # The contract.

    async def head(self, key: str, *, checksum: bool = False) -> ObjectStat:
        call = await self._begin("head", key)
        stored = self._shown("head").get(key)
        if stored is None:
            raise NotFound(key)
        stat = _stat(key, stored, with_headers=True)
        if checksum and "head_checksum" not in self.ignores:
            stat = replace(stat, crc32=stored.crc32)
        await self.after(call)
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
        call = await self._begin("list_page", prefix)
        page = self._list(prefix, delimiter, token, start_after, min(max_keys, MAX_PAGE))
        await self.after(call)
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
        call = await self._begin("get_into", key)
        stored = self._need(key)
        if if_match is not None and stored.etag != if_match:
            raise StaleObject(key)
        size = len(stored.body)
        if span.start >= size:
            raise InvalidArgument(f"{key!r} ends before {span.start}")
        answered = ByteRange(span.start, min(span.stop, size))
        buffer[: answered.size] = stored.body[answered.start : answered.stop]
        await self.after(call)
        return RangeAnswer(stored.etag, answered, size, answered.size)

    async def put(
        self,
        key: str,
        body: Body,
        headers: ObjectHeaders,
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> WriteAnswer:
        call = await self._begin("put", key)
        data = _bytes_of(body)
        self._check("put", key, if_match, if_none_match)
        stored = self._put(key, data, headers)
        await self.after(call)
        return WriteAnswer(stored.etag, stored.modified_ns)

    async def create_multipart(self, key: str, headers: ObjectHeaders) -> MultipartUpload:
        call = await self._begin("create_multipart", key)
        upload_id = f"upload-{next(self._numbers)}"
        self._uploads[upload_id] = _Upload(key, headers, self.now_ns())
        await self.after(call)
        return MultipartUpload(key, upload_id)

    async def upload_part(self, upload: MultipartUpload, number: int, body: Body) -> PartTag:
        call = await self._begin("upload_part", upload.key)
        tag = self._put_part(upload, number, _bytes_of(body))
        await self.after(call)
        return tag

    async def copy_part(
        self, upload: MultipartUpload, number: int, source_key: str, span: ByteRange, *, if_match: str
    ) -> PartTag:
        call = await self._begin("copy_part", upload.key)
        source = self._need(source_key)
        if source.etag != if_match and "copy_part_source_if_match" not in self.ignores:
            raise ConditionFailed(source_key)
        if span.stop > len(source.body):
            raise InvalidArgument(f"{source_key!r} ends before {span.stop}")
        tag = self._put_part(upload, number, source.body[span.start : span.stop])
        await self.after(call)
        return tag

    async def complete_multipart(
        self,
        upload: MultipartUpload,
        parts: Sequence[PartTag],
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> WriteAnswer:
        call = await self._begin("complete_multipart", upload.key)
        begun = self._need_upload(upload)
        self._check("complete", upload.key, if_match, if_none_match)
        bodies = []
        for part in parts:
            etag, data = begun.parts.get(part.number, (None, b""))
            if etag is None or etag != part.etag:
                raise StoreError(f"InvalidPart: {part.number}")
            if len(data) < self.min_part_bytes and part is not parts[-1]:
                raise StoreError(f"EntityTooSmall: part {part.number} has {len(data)} bytes")
            bodies.append(data)
        if not bodies:
            raise StoreError("MalformedXML: no parts")
        del self._uploads[upload.upload_id]
        stored = self._put(upload.key, b"".join(bodies), begun.headers)
        stored.etag = f'"{etag_of_parts(parts)}"'
        stored.crc32 = f"{crc32_of_parts(parts)}-{len(bodies)}"
        await self.after(call)
        return WriteAnswer(stored.etag, stored.modified_ns)

    async def abort_multipart(self, upload: MultipartUpload) -> None:
        call = await self._begin("abort_multipart", upload.key)
        self._uploads.pop(upload.upload_id, None)
        await self.after(call)

    async def list_parts(self, upload: MultipartUpload) -> list[PartTag]:
        call = await self._begin("list_parts", upload.key)
        begun = self._need_upload(upload)
        tags = [
            PartTag(
                number,
                etag,
                len(data),
                None if "part_checksums" in self.ignores else crc32_text(zlib.crc32(data)),
            )
            for number, (etag, data) in sorted(begun.parts.items())
        ]
        await self.after(call)
        return tags

    async def list_multipart_uploads(self, prefix: str) -> list[MultipartUpload]:
        call = await self._begin("list_multipart_uploads", prefix)
        found = [one for one in self.uploads() if one.key.startswith(prefix)]
        await self.after(call)
        return sorted(found, key=lambda one: one.key.encode())

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
        call = await self._begin("copy", source_key)
        source = self._need(source_key)
        if if_match is not None and source.etag != if_match and "copy_source_if_match" not in self.ignores:
            raise ConditionFailed(source_key)
        if if_none_match and target_key in self._objects and "copy_if_none_match" not in self.ignores:
            raise ConditionFailed(target_key)
        if source_key == target_key and headers is None and storage_class is None:
            raise StoreError("InvalidRequest: a copy onto itself that changes nothing")
        kept = source.headers if headers is None else headers
        new_class = storage_class or (None if headers is None else headers.storage_class)
        stored = self._put(target_key, source.body, replace(kept, storage_class=new_class))
        await self.after(call)
        return WriteAnswer(stored.etag, stored.modified_ns)

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        call = await self._begin("delete", key)
        is_other = key in self._objects and self._objects[key].etag != if_match
        if if_match is not None and is_other and "delete_if_match" not in self.ignores:
            raise ConditionFailed(key)
        self._objects.pop(key, None)
        await self.after(call)

    async def delete_many(self, keys: Sequence[str]) -> list[str]:
        call = await self._begin("delete_many", keys[0] if keys else "")
        for key in keys:
            self._objects.pop(key, None)
        await self.after(call)
        return []

    async def _begin(self, method: str, key: str) -> Call:
        try:
            key.encode()
        except UnicodeEncodeError as exc:
            raise IllegalName(f"{key!r} is not UTF-8") from exc
        call = Call(method, key)
        self.calls.append(call)
        await self.before(call)
        return call

    def _need(self, key: str) -> _Stored:
        if key not in self._objects:
            raise NotFound(key)
        return self._objects[key]

    def _need_upload(self, upload: MultipartUpload) -> _Upload:
        found = self._uploads.get(upload.upload_id)
        if found is None or found.key != upload.key:
            raise NotFound(f"NoSuchUpload: {upload.upload_id}")
        return found

    def _check(self, method: str, key: str, if_match: str | None, if_none_match: bool) -> None:
        found = self._objects.get(key)
        if if_none_match and found is not None and f"{method}_if_none_match" not in self.ignores:
            raise ConditionFailed(key)
        if if_match is None or f"{method}_if_match" in self.ignores:
            return
        if found is None:
            if f"{method}_if_match_of_absent" in self.ignores:
                return
            raise NotFound(key)
        if found.etag != if_match:
            raise ConditionFailed(key)

    def _put(self, key: str, body: bytes, headers: ObjectHeaders) -> _Stored:
        if len(key.encode()) > MAX_KEY_BYTES:
            raise NameTooLong(key)
        if headers.content_type is None:
            headers = replace(headers, content_type="binary/octet-stream")
        lowered = {name.lower(): value for name, value in headers.metadata.items()}
        stored = _Stored(
            body=body,
            etag=f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"',
            modified_ns=self.now_ns() // 1_000_000_000 * 1_000_000_000,
            headers=replace(headers, metadata=lowered),
            crc32=crc32_text(zlib.crc32(body)),
        )
        self._objects[key] = stored
        return stored

    def _put_part(self, upload: MultipartUpload, number: int, data: bytes) -> PartTag:
        begun = self._need_upload(upload)
        if not 1 <= number <= 10_000:
            raise InvalidArgument(f"part {number}")
        etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        begun.parts[number] = (etag, data)
        return PartTag(number, etag, len(data), crc32_text(zlib.crc32(data)))

    def _shown(self, method: str) -> dict[str, _Stored]:
        return self._listed if method in self._late else self._objects

    def _list(
        self, prefix: str, delimiter: str, token: str | None, start_after: str | None, limit: int
    ) -> ListPage:
        by_bytes = "lists_in_byte_order" not in self.ignores

        def place(key: str) -> bytes:
            return (key if by_bytes else key.replace("/", "\0")).encode()

        after = place(token if token is not None else start_after or "")
        objects: list[ObjectStat] = []
        prefixes: list[str] = []
        last = ""
        truncated = False
        listed = self._shown("list_page")
        for key in sorted(listed, key=place):
            if not key.startswith(prefix):
                continue
            rest, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            shown = prefix + rest + cut if cut else key
            # What is shown counts: after "d/a/" or "d/a/1" the common prefix "d/a/" does not come again.
            if place(shown) <= after or (prefixes and prefixes[-1] == shown):
                continue
            if len(objects) + len(prefixes) == limit:
                truncated = True
                break
            if cut:
                prefixes.append(shown)
            else:
                objects.append(_stat(key, listed[key], with_headers=self.list_metadata))
            last = shown
        return ListPage(
            objects=tuple(objects),
            prefixes=tuple(prefixes),
            next_token=last if truncated else None,
            truncated=truncated,
            echoed_prefix=prefix,
            key_count=len(objects) + len(prefixes),
        )


def _stat(key: str, stored: _Stored, *, with_headers: bool) -> ObjectStat:
    return ObjectStat(
        key=key,
        size=len(stored.body),
        etag=stored.etag,
        last_modified_ns=stored.modified_ns,
        headers=stored.headers if with_headers else None,
        storage_class=stored.headers.storage_class,
    )


def _bytes_of(body: Body) -> bytes:
    if isinstance(body, bytes):
        return body
    data = os.pread(body.fd, body.span.size, body.span.start)
    if len(data) != body.span.size:
        raise StoreError(f"the file ended {body.span.size - len(data)} bytes before the slice did")
    return data
