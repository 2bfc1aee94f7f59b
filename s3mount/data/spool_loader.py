"""Fetching what a changed file still lacks of the object underneath, each byte once, whoever asks for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import trio

from s3mount.core.objects import ByteRange
from s3mount.errors import collapsed

Buffer = bytes | memoryview
Fetch = Callable[[ByteRange], Awaitable[Buffer]]
"""Gives the exact bytes of a span of the object underneath."""

FETCH_BYTES = 8 << 20
"""The most that is asked for at once of the object underneath."""

FETCHES_AT_ONCE = 4


@dataclass(slots=True)
class _Claim:
    """A stretch that somebody is fetching."""

    span: ByteRange
    done: trio.Event = field(default_factory=trio.Event)


class Loader:
    """Loads one file.

    Args:
        missing: tells what of a span is neither here nor written over by now.
        keep: takes the bytes that came for a span, and keeps what of them is still missing.
    """

    def __init__(
        self,
        missing: Callable[[ByteRange], list[ByteRange]],
        keep: Callable[[ByteRange, memoryview], Awaitable[None]],
    ) -> None:
        self._missing = missing
        self._keep = keep
        self._claims: list[_Claim] = []

    async def load(self, span: ByteRange, fetch: Fetch) -> None:
        """Fetch what is missing of *span*, several pieces at once; without a checkpoint if nothing is.

        Raises: what *fetch* and *keep* raise.
        """
        gaps = self._missing(span)
        if not gaps:
            return
        pieces = _pieces(gaps)

        async def work() -> None:
            for piece in pieces:
                await self._load_piece(piece, fetch)

        with collapsed():
            async with trio.open_nursery() as nursery:
                for _ in range(min(FETCHES_AT_ONCE, 1 + sum(gap.size for gap in gaps) // FETCH_BYTES)):
                    nursery.start_soon(work)

    async def _load_piece(self, piece: ByteRange, fetch: Fetch) -> None:
        """Fetch what is missing of *piece*, waiting for those who already fetch some of it."""
        while gaps := self._missing(piece):
            gap = gaps[0]
            for claim in self._claims:
                if claim.span.start < gap.stop and gap.start < claim.span.stop:
                    await claim.done.wait()
                    break
            else:
                await self._fetch(gap, fetch)

    async def _fetch(self, gap: ByteRange, fetch: Fetch) -> None:
        claim = _Claim(gap)
        self._claims.append(claim)
        try:
            await self._keep(gap, memoryview(await fetch(gap)))
        finally:
            self._claims.remove(claim)
            claim.done.set()


def _pieces(gaps: list[ByteRange]) -> Iterator[ByteRange]:
    for gap in gaps:
        for start in range(gap.start, gap.stop, FETCH_BYTES):
            yield ByteRange(start, min(start + FETCH_BYTES, gap.stop))
