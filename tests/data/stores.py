"""In-memory stores that tell what was fetched, and wait where a test says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from s3mount.core.objects import ByteRange, RangeAnswer
from tests.support.memory_store import MemoryStore


@dataclass(frozen=True, slots=True)
class Get:
    """One ranged GET that was asked for."""

    key: str
    span: ByteRange
    background: bool


async def _at_once(_: Get) -> None:
    await trio.lowlevel.checkpoint()


class GetStore(MemoryStore):
    """Records every GET; ``gate`` is awaited before each and may raise in its place."""

    def __init__(self, gate: Callable[[Get], Awaitable[None]] = _at_once) -> None:
        super().__init__()
        self.gate = gate
        self.gets: list[Get] = []

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
        """Record, wait, and answer."""
        get = Get(key, span, background)
        self.gets.append(get)
        await self.gate(get)
        return await super().get_into(
            key, span, buffer, if_match=if_match, is_whole=is_whole, background=background
        )
