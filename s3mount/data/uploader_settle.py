"""Is what the bucket has now what a try stored whose answer was lost, or another writer's?"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import trio

from s3mount.core.contents import (
    Content,
    content_of,
    crc32_of_parts,
    crc32_text,
    etag_of_parts,
    holds,
)
from s3mount.core.objects import ByteRange, FileSlice, ObjectStat, PartTag, WriteAnswer
from s3mount.core.parts import Multipart
from s3mount.core.spool_record import Fingerprint
from s3mount.data.uploader_requests import Requests
from s3mount.errors import FsError, NotFound, StaleObject
from s3mount.store.base import ObjectStore

PIECE_BYTES = 1 << 20
COMPARE_BYTES = 8 << 20
"""So much is fetched at once where only the bytes themselves can tell."""


class Source(Protocol):
    """What can be uploaded: a file of a known size that does not change meanwhile."""

    @property
    def size(self) -> int:
        """In bytes."""

    def slice(self, span: ByteRange) -> FileSlice:
        """Return a stretch of it as a request's body. Raises: FsError if it must not be sent."""


async def content(source: Source) -> Content:
    """Return what identifies the bytes of *source*: some 2 ms a megabyte, in a thread.

    Raises: FsError of *source*, or if the disk fails.
    """
    if not source.size:
        return content_of(())
    body = source.slice(ByteRange(0, source.size))
    return await trio.to_thread.run_sync(_content, body)


def fingerprint_of_parts(tags: Sequence[PartTag]) -> Fingerprint | None:
    """Return what tells the object of these parts; None if their ETags are no MD5s."""
    etag = etag_of_parts(tags)
    if etag is None:
        return None
    return Fingerprint(sum(tag.size for tag in tags), f'"{etag}"', crc32_of_parts(tags))


def fingerprint_of(content: Content) -> Fingerprint:
    """Return what tells an object with *content* that was stored in one request."""
    return Fingerprint(content.size, f'"{content.md5}"', content.crc32)


async def is_part_of(tag: PartTag, source: Source, span: ByteRange) -> bool:
    """Return whether the server's part *tag* has the bytes *span* of *source*; no if nothing tells.

    Raises: FsError of *source*, or if the disk fails.
    """
    if tag.size != span.size:
        return False
    return await trio.to_thread.run_sync(_is_same_part, tag, source.slice(span))


async def parts_of(source: Source, parts: Multipart) -> list[PartTag]:
    """Return what the server answers for each part of *source*, where it encrypts nothing with SSE-KMS.

    Cancel: between two parts. Raises: FsError of *source*, or if the disk fails.
    """
    tags = []
    for number, span in enumerate(parts, 1):
        found = await trio.to_thread.run_sync(_content, source.slice(span))
        tags.append(PartTag(number, f'"{found.md5}"', found.size, found.crc32))
    return tags


async def has_same_bytes(requests: Requests, stat: ObjectStat, source: Source) -> bool:
    """Return whether the object has exactly the bytes of *source*.

    By checksums where the server gives any that tell, else by reading the object.
    Raises: what the store raises; FsError of *source*.
    """
    if stat.size != source.size:
        return False
    if not source.size:
        return True
    said = holds(stat, await content(source))
    return await _has_bytes(requests.store, stat, source) if said is None else said


def written(stat: ObjectStat) -> WriteAnswer:
    """Return the answer that was lost, of a write that made *stat*."""
    return WriteAnswer(stat.etag, stat.last_modified_ns)


async def _has_bytes(store: ObjectStore, stat: ObjectStat, source: Source) -> bool:
    """Compare byte by byte: with SSE-KMS, or of unlike parts, nothing else tells."""
    buffer = bytearray(COMPARE_BYTES)
    for start in range(0, stat.size, COMPARE_BYTES):
        span = ByteRange(start, min(start + COMPARE_BYTES, stat.size))
        view = memoryview(buffer)[: span.size]
        try:
            await store.get_into(stat.key, span, view, if_match=stat.etag)
        except (NotFound, StaleObject):
            return False
        body = source.slice(span)
        if not await trio.to_thread.run_sync(_equals, body, view):
            return False
    return True


def _content(body: FileSlice) -> Content:
    return content_of(_pieces(body))


def _equals(body: FileSlice, view: memoryview) -> bool:
    position = 0
    for piece in _pieces(body):
        if view[position : position + len(piece)] != piece:
            return False
        position += len(piece)
    return position == len(view)


def _is_same_part(tag: PartTag, body: FileSlice) -> bool:
    if tag.crc32 is None:
        return (tag.etag or "").strip('"') == _content(body).md5
    value = 0
    for piece in _pieces(body):  # ten times as fast as the MD5
        value = zlib.crc32(piece, value)
    return crc32_text(value) == tag.crc32


def _pieces(body: FileSlice) -> Iterator[bytes]:
    position = body.span.start
    while position < body.span.stop:
        try:
            piece = os.pread(body.fd, min(PIECE_BYTES, body.span.stop - position), position)
        except OSError as exc:
            raise FsError(f"the spool's disk failed: {exc.strerror}") from exc
        if not piece:
            raise FsError(f"the file ended {body.span.stop - position} bytes too early")
        position += len(piece)
        yield piece
