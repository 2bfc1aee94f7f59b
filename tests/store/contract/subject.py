"""What is checked, and how a check is one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from s3mount.core.objects import (
    Body,
    ByteRange,
    ListPage,
    ObjectHeaders,
)
from s3mount.errors import (
    FsError,
)
from s3mount.store.base import ObjectStore

PLAIN = ObjectHeaders()

RICH = ObjectHeaders(
    content_type="text/x-test; charset=utf-8",
    cache_control="max-age=60",
    content_disposition='inline; filename="x y.txt"',
    content_encoding="br",
    content_language="de",
    metadata={"mode": "33188", "mtime": "1700000000.123456789", "with-dash": "a b  c"},
)

WRONG_ETAG = '"00000000000000000000000000000000"'

DAY_NS = 24 * 3600 * 1_000_000_000


@dataclass(frozen=True)
class Subject:
    """A store to check, its bucket empty.

    Args:
        part_bytes: smallest part that may stand before another.
        list_metadata: LIST carries headers.
    """

    store: ObjectStore
    part_bytes: int
    list_metadata: bool

    async def put(self, key: str, body: Body = b"", headers: ObjectHeaders = PLAIN) -> str:
        """Store an object; return its ETag."""
        answer = await self.store.put(key, body, headers)
        assert answer.etag
        return answer.etag

    async def get(self, key: str, span: ByteRange | None = None, if_match: str | None = None) -> bytes:
        """Read a range, or all."""
        if span is None:
            span = ByteRange(0, (await self.store.head(key)).size)
            if not span.size:
                return b""
        buffer = bytearray(span.size)
        await self.store.get_into(key, span, memoryview(buffer), if_match=if_match)
        return bytes(buffer)

    async def pages(
        self, prefix: str, *, delimiter: str = "/", start_after: str | None = None, max_keys: int = 1000
    ) -> list[ListPage]:
        """List to the end."""
        pages = [
            await self.store.list_page(
                prefix, delimiter=delimiter, start_after=start_after, max_keys=max_keys
            )
        ]
        while pages[-1].truncated:
            page = await self.store.list_page(
                prefix, delimiter=delimiter, token=pages[-1].next_token, max_keys=max_keys
            )
            pages.append(page)
        return pages

    async def names(self, prefix: str = "", *, delimiter: str = "") -> tuple[list[str], list[str]]:
        """Return the keys and common prefixes of a whole listing."""
        pages = await self.pages(prefix, delimiter=delimiter)
        return (
            [one.key for page in pages for one in page.objects],
            [one for page in pages for one in page.prefixes],
        )


Check = Callable[[Subject], Awaitable[None]]

CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Add *function* to the contract."""
    name = function.__name__
    assert name not in CHECKS
    CHECKS[name] = function
    return function


async def raises(expected: type[FsError], call: Awaitable[object]) -> None:
    """Fail unless *call* raises exactly *expected*."""
    try:
        await call
    except FsError as exc:
        assert type(exc) is expected, f"{exc!r} instead of {expected.__name__}"
        return
    raise AssertionError(f"no {expected.__name__}")


async def many(subject: Subject, keys: list[str]) -> None:
    """Store empty objects, eight at a time."""
    waiting = iter(keys)

    async def work() -> None:
        for key in waiting:
            await subject.put(key)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(work)
