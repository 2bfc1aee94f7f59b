"""Bytes of the object that lies under a spool file."""

from __future__ import annotations

from s3mount.core.objects import ByteRange, ObjectStat
from s3mount.data.spool_loader import Fetch
from s3mount.store.base import ObjectStore


def fetch_from(store: ObjectStore, base: ObjectStat) -> Fetch:
    """Return what fetches bytes of exactly the version *base*.

    It raises StaleObject or NotFound if the bucket has it no more.
    """

    async def fetch(span: ByteRange) -> memoryview:
        buffer = memoryview(bytearray(span.size))
        is_whole = span == ByteRange(0, base.size)
        await store.get_into(base.key, span, buffer, if_match=base.etag, is_whole=is_whole)
        return buffer

    return fetch
