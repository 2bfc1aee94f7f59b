"""Blocks for tests of the cache: what is in them, who reads them, and what holds their GETs."""

from __future__ import annotations

import random
from collections.abc import Callable

import trio

from s3mount.core.objects import ByteRange, ObjectStat
from s3mount.data.block_cache import BlockCache
from s3mount.data.budget import Budget
from s3mount.errors import FsError
from tests.data.stores import Get

KIB = 1 << 10

BLOCK = 64 * KIB


def content(size: int, seed: int = 1) -> bytes:
    """Return *size* bytes in which every place looks different."""
    return random.Random(seed).randbytes(size)


def blocks(first: int, stop: int) -> ByteRange:
    """Return the bytes of whole blocks."""
    return ByteRange(first * BLOCK, stop * BLOCK)


def memory(size: int) -> Budget:
    """Return a budget that is for blocks alone."""
    return Budget(size, floors={})


class Gate:
    """Holds GETs until the test lets them go on, and can let them fail."""

    def __init__(self) -> None:
        self.is_open = False
        self.failure: Callable[[], Exception] | None = None
        self._changed = trio.Event()

    async def __call__(self, get: Get) -> None:
        while not self.is_open:
            await self._changed.wait()
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure()

    def open(self, failure: Callable[[], Exception] | None = None) -> None:
        """Let all go on."""
        self.is_open = True
        self.failure = failure
        self._changed.set()

    def close(self) -> None:
        """Hold from now on."""
        self.is_open = False
        self.failure = None
        self._changed = trio.Event()


class Reader:
    """A task's read, and what came of it."""

    def __init__(self, cache: BlockCache, stat: ObjectStat, span: ByteRange) -> None:
        self.cache, self.stat, self.span = cache, stat, span
        self.got: bytes | None = None
        self.error: FsError | None = None
        self.scope = trio.CancelScope()

    async def run(self) -> None:
        """Read."""
        with self.scope:
            try:
                self.got = bytes(await self.cache.read(self.stat, self.span))
            except FsError as exc:
                self.error = exc
