"""The contract of an object store, as the rest of s3mount sees it.

Async, silent about threads and about HTTP libraries. An implementation translates its own errors
into ``s3mount.errors``; whether an answer can be true is judged above it, by
:class:`s3mount.store.checked.CheckedStore`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Protocol

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

ON_BEHALF_OF: ContextVar[int | None] = ContextVar("ON_BEHALF_OF", default=None)
"""The process for which the current task makes its requests; None: s3mount itself.

Tasks have it from the one that started them, so that a fetch counts for the reader who began it.
"""


class Breaker(Protocol):
    """Whether the store is out of reach for the time being: all that is asked of it then is Unreachable."""

    @property
    def is_open(self) -> bool:
        """It is."""

    async def wait_open(self) -> None:
        """Return when it is, at once where that is now."""

    async def wait_closed(self) -> None:
        """Return when it is not, at once where that is now."""


class ObjectStore(Protocol):
    """One bucket. Keys are whole keys: a mount's prefix is none of the store's business.

    Every method raises AccessDenied, StoreUnavailable, StoreTimeout or BadAnswer beside what it
    lists. Reads (head, list, get) may be cancelled at any time; writes run to their end once begun, or to
    their deadline or their caller's, and nobody knows then what they did (StoreTimeout).
    """

    async def head(self, key: str, *, checksum: bool = False) -> ObjectStat:
        """Describe *key*, headers included, and *checksum* too where the server keeps one.

        Raises: NotFound.
        """

    async def list_page(
        self,
        prefix: str,
        *,
        delimiter: str = "/",
        token: str | None = None,
        start_after: str | None = None,
        max_keys: int = 1000,
    ) -> ListPage:
        """Return one page of the keys under *prefix*; an empty *delimiter* lists the whole subtree."""

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
        """Fill *buffer* (exactly ``span.size`` bytes, at least 1) with *key* from byte ``span.start``.

        The body is bound to ETag *if_match*, so one read never mixes two versions. *is_whole*: *span* is all
        of the object, as far as the caller knows; then its checksum is compared, where the server tells one.
        *background* marks a hint (read-ahead) that must not delay a waiting reader.

        Cancel: returns at once; the request is ended, and may still write into *buffer*: never reuse it.
        Raises: NotFound, StaleObject (412), InvalidArgument (416: beyond the end).
        """

    async def put(
        self,
        key: str,
        body: Body,
        headers: ObjectHeaders,
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> WriteAnswer:
        """Store *body* as *key* in one request, replacing what is there.

        Raises: ConditionFailed, NotFound (If-Match on an absent key).
        """

    async def create_multipart(self, key: str, headers: ObjectHeaders) -> MultipartUpload:
        """Begin an upload in parts."""

    async def upload_part(self, upload: MultipartUpload, number: int, body: Body) -> PartTag:
        """Send part *number* (from 1).

        Raises: NotFound (the upload is gone).
        """

    async def copy_part(
        self, upload: MultipartUpload, number: int, source_key: str, span: ByteRange, *, if_match: str
    ) -> PartTag:
        """Make part *number* of *span* of another object, inside the server.

        Raises: NotFound, ConditionFailed (the source is no longer *if_match*).
        """

    async def complete_multipart(
        self,
        upload: MultipartUpload,
        parts: Sequence[PartTag],
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> WriteAnswer:
        """Publish the object.

        Raises: NotFound (the upload is gone), ConditionFailed.
        """

    async def abort_multipart(self, upload: MultipartUpload) -> None:
        """Drop the upload and its parts; one that is gone already is fine."""

    async def list_parts(self, upload: MultipartUpload) -> list[PartTag]:
        """Return the parts that the server has, each number once, in the order of their numbers.

        Each can be completed as it is listed. Compare its checksum before you take it for yours: of a
        part that was sent twice within a second, SeaweedFS may show the first.

        Raises: NotFound (the upload is gone).
        """

    async def list_multipart_uploads(self, prefix: str) -> list[MultipartUpload]:
        """Return the unfinished uploads of keys under *prefix*, with the times they were begun.

        MinIO finds those of the key *prefix* and no others.
        """

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
        """Copy inside the server, up to 5 GiB. *headers* None keeps the source's, else replaces them.

        S3 never keeps the storage class of itself: without *storage_class* (or one in *headers*) the
        copy is STANDARD. *if_none_match* is about the target: there must be none.

        Raises: NotFound, ConditionFailed (the source is no longer *if_match*, or there is a target).
        """

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        """Delete *key*; one that is absent is fine.

        Raises: ConditionFailed (it is no longer *if_match*; many servers ignore this condition).
        """

    async def delete_many(self, keys: Sequence[str]) -> list[str]:
        """Delete up to 1,000 keys in one request; return those the server did not delete."""
