"""Is the object in the store the one that was to be written? By checksums, never by size alone."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from s3mount.core.answers import same_etag
from s3mount.core.objects import ObjectStat, PartTag


@dataclass(frozen=True, slots=True)
class Content:
    """What identifies bytes: their number, CRC32 (base64, as S3 writes it) and MD5 (hexadecimal)."""

    size: int
    crc32: str
    md5: str


def content_of(pieces: Iterable[bytes]) -> Content:
    """Return what identifies the bytes of all *pieces*."""
    size = crc32 = 0
    md5 = hashlib.md5(usedforsecurity=False)
    for piece in pieces:
        size += len(piece)
        crc32 = zlib.crc32(piece, crc32)
        md5.update(piece)
    return Content(size, crc32_text(crc32), md5.hexdigest())


def holds(stat: ObjectStat, content: Content) -> bool | None:
    """Return whether the object has exactly *content*; None where the server gave nothing to tell by.

    The ETag is an MD5 only of what was stored in one request and without SSE-KMS, and the CRC32 is of the
    bytes only where the object was not made of parts, so either may say yes and neither alone no.
    """
    if stat.size != content.size:
        return False
    if same_etag(stat.etag, content.md5) or stat.crc32 == content.crc32:
        return True
    return False if stat.crc32 is not None and "-" not in stat.crc32 else None


def is_made_of(stat: ObjectStat, parts: Sequence[PartTag]) -> bool:
    """Return whether the object is certainly what Complete makes of *parts*."""
    if stat.size != sum(part.size for part in parts):
        return False
    etag, crc32 = etag_of_parts(parts), crc32_of_parts(parts)
    # Some servers give a checksum of checksums without the number of parts behind it.
    found = (stat.crc32 or "").partition("-")[0]
    return (etag is not None and same_etag(stat.etag, etag)) or (crc32 is not None and found == crc32)


def has_bytes_of(stat: ObjectStat, source: ObjectStat) -> bool:
    """Return whether the object certainly has the bytes of *source*, as a copy made in one request has."""
    same_crc32 = stat.crc32 is not None and stat.crc32 == source.crc32
    return stat.size == source.size and (same_etag(stat.etag, source.etag) or same_crc32)


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


def crc32_of_parts(parts: Sequence[PartTag]) -> str | None:
    """Return S3's composite CRC32 of *parts*, without the number of parts; None where one has none."""
    value = 0
    for part in parts:
        if part.crc32 is None:
            return None
        value = zlib.crc32(base64.b64decode(part.crc32), value)
    return crc32_text(value) if parts else None


def crc32_text(value: int) -> str:
    """Return a CRC32 as S3 writes it: base64 of four bytes, the highest first."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()
