"""A store whose requests wait for memory: no number of them at once takes more than the budget gives."""

from __future__ import annotations

from s3mount.core.objects import (
    Body,
    ListPage,
    MultipartUpload,
    ObjectHeaders,
    PartTag,
    WriteAnswer,
    body_size,
)
from s3mount.data.budget import Budget, Use
from s3mount.store.base import ObjectStore

MIB = 1 << 20

BODY_BYTES = 3 * MIB
"""What a body costs while it is sent, however long it is: it is read in pieces of 1 MiB, for the checksum
and for the socket. Measured with 16 parts of 16 MiB at once: 2.8 MiB of resident memory each."""

PAGE_BYTES_PER_KEY = 4096
"""What a page costs for each key that it may have, while it is read and parsed. Measured: 2.5 KiB with
keys of 40 bytes and MinIO's metadata, the XML twice included; 7 KiB with keys of nearly 1,024 bytes."""


def body_cost(size: int) -> int:
    """Return what a body of *size* bytes costs while it is sent: short ones are in memory twice."""
    return min(BODY_BYTES, 2 * size)


class BudgetedStore:
    """Wraps an :class:`~s3mount.store.base.ObjectStore`, and is one.

    GETs fill a buffer that the caller has, and has the memory for; the other requests have no bodies.
    What waits for memory holds none, and is no request yet: the server does not see it.
    """

    def __init__(self, inner: ObjectStore, budget: Budget) -> None:
        self._inner = inner
        self._budget = budget
        self.head = inner.head
        self.get_into = inner.get_into
        self.create_multipart = inner.create_multipart
        self.copy_part = inner.copy_part
        self.complete_multipart = inner.complete_multipart
        self.abort_multipart = inner.abort_multipart
        self.list_parts = inner.list_parts
        self.list_multipart_uploads = inner.list_multipart_uploads
        self.copy = inner.copy
        self.delete = inner.delete
        self.delete_many = inner.delete_many

    async def list_page(
        self,
        prefix: str,
        *,
        delimiter: str = "/",
        token: str | None = None,
        start_after: str | None = None,
        max_keys: int = 1000,
    ) -> ListPage:
        async with self._budget.reserved(Use.PAGES, max_keys * PAGE_BYTES_PER_KEY):
            return await self._inner.list_page(
                prefix, delimiter=delimiter, token=token, start_after=start_after, max_keys=max_keys
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
        async with self._budget.reserved(Use.BODIES, body_cost(body_size(body))):
            return await self._inner.put(key, body, headers, if_match=if_match, if_none_match=if_none_match)

    async def upload_part(self, upload: MultipartUpload, number: int, body: Body) -> PartTag:
        async with self._budget.reserved(Use.BODIES, body_cost(body_size(body))):
            return await self._inner.upload_part(upload, number, body)
