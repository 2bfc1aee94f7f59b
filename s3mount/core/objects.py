"""The records that every layer speaks: objects, ranges, pages, parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``start`` up to, not including, ``stop``."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop:
            raise ValueError(f"not a range: {self.start} to {self.stop}")

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class ObjectHeaders:
    """What travels with an object beside its bytes.

    ``metadata`` holds the user metadata with lower-case names and no ``x-amz-meta-`` prefix.
    """

    content_type: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    storage_class: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """One version of one object, as the store described it.

    ``etag`` is kept as the server sent it, quotes included. ``last_modified_ns`` is in whole seconds
    (as nanoseconds since the epoch): HEAD gives seconds, LIST of some servers milliseconds, and one
    object must not have two times. ``headers`` is None where the answer did not carry them
    (a plain LIST). ``crc32`` is what a HEAD that asked for checksums was told: base64, with a number of
    parts behind it where it is a checksum of checksums. ``has_tags`` is known from a HEAD only. Which
    version it is depends on neither.
    """

    key: str
    size: int
    etag: str
    last_modified_ns: int
    headers: ObjectHeaders | None = None
    storage_class: str | None = None
    crc32: str | None = field(default=None, compare=False)
    has_tags: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class ListPage:
    """One answer to ListObjectsV2.

    ``prefixes`` are the common prefixes, whole keys ending in the delimiter. ``echoed_prefix``,
    ``key_count``, ``truncated`` and ``bucket`` are what the server claims, for whoever checks the
    answer; None where it did not say.
    """

    objects: tuple[ObjectStat, ...]
    prefixes: tuple[str, ...]
    next_token: str | None
    truncated: bool
    echoed_prefix: str | None = None
    key_count: int | None = None
    bucket: str | None = None


@dataclass(frozen=True, slots=True)
class RangeAnswer:
    """What a ranged GET claims to have delivered.

    ``span`` and ``total_size`` come from Content-Range (from Content-Length on a 200), ``received``
    is the number of bytes that arrived in the buffer.
    """

    etag: str | None
    span: ByteRange | None
    total_size: int | None
    received: int


@dataclass(frozen=True, slots=True)
class WriteAnswer:
    """What PUT, Copy and Complete claim: the new ETag, and the server's clock (Date header)."""

    etag: str | None
    server_time_ns: int | None = None


@dataclass(frozen=True, slots=True)
class WriteCondition:
    """What must hold of a key when a write to it takes effect; empty: whatever is there is replaced.

    ``if_match`` is the ETag that the object there must still have, quotes included; ``if_none_match``
    says that there must be none. At most one of the two.
    """

    if_match: str | None = None
    if_none_match: bool = False

    def __post_init__(self) -> None:
        if self.if_match is not None and self.if_none_match:
            raise ValueError("an object cannot both be there and not be there")

    def __bool__(self) -> bool:
        return self.if_match is not None or self.if_none_match


@dataclass(frozen=True, slots=True)
class MultipartUpload:
    """An upload that was begun and must be completed or aborted.

    ``begun_ns`` is when, by the server's clock; only a listing of uploads tells it. Which upload it is
    does not depend on it.
    """

    key: str
    upload_id: str
    begun_ns: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class PartTag:
    """One part that the server has: its number (from 1), ETag, size, and CRC32 (base64) if known."""

    number: int
    etag: str | None
    size: int
    crc32: str | None = None


@dataclass(frozen=True, slots=True)
class FileSlice:
    """A stretch of an open file, as the body of a PUT or a part; read with pread, so shareable."""

    fd: int
    span: ByteRange


Body = bytes | FileSlice


def body_size(body: Body) -> int:
    """Return the number of bytes in *body*."""
    return len(body) if isinstance(body, bytes) else body.span.size
