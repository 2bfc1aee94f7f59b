"""The block cache's memory: what is charged, what is evicted, and who waits for room."""

from __future__ import annotations

import errno
import random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from s3mount.core.objects import ByteRange
from s3mount.core.readahead import Readahead
from s3mount.data.block_cache import BlockCache
from s3mount.data.budget import Use
from s3mount.data.reader import ObjectReader
from s3mount.data.run import SMALL_RUN_OVERHEAD_BYTES
from s3mount.errors import StoreUnavailable
from tests.data.blocks import BLOCK, Gate, Reader, blocks, content, memory
from tests.data.stores import Get, GetStore


def test_keeping_never_takes_more_than_the_capacity() -> None:
    """What is kept makes room by eviction, as what is read does."""

    async def main() -> None:
        store = GetStore()
        async with BlockCache.open(store, memory(3 * BLOCK), block_size=BLOCK) as cache:
            for number in range(10):
                data = content(BLOCK, number)
                cache.keep(store.store(f"k{number}", data), data)
                cache.check()
                assert cache.used_bytes <= 3 * BLOCK
            assert await cache.read(store.stat("k9"), ByteRange(0, BLOCK)) == content(BLOCK, 9)
            assert store.gets == []

    trio.run(main)


def test_eviction_is_exact_whole_runs_and_least_recently_used() -> None:
    """The run that was not used longest goes, with all its blocks; the bytes in use are its bytes less."""

    async def main() -> None:
        store = GetStore()
        stat = store.store("k", content(16 * BLOCK))
        async with BlockCache.open(store, memory(6 * BLOCK), block_size=BLOCK) as cache:
            await cache.read(stat, blocks(0, 2))
            await cache.read(stat, blocks(2, 5))
            await cache.read(stat, blocks(5, 6))
            assert cache.used_bytes == 6 * BLOCK
            await cache.read(stat, blocks(0, 1))  # now 2-5 is the oldest
            await cache.read(stat, blocks(6, 7))
            assert cache.used_bytes == 4 * BLOCK
            asked = len(store.gets)
            await cache.read(stat, blocks(0, 2))
            await cache.read(stat, blocks(5, 7))
            assert len(store.gets) == asked
            await cache.read(stat, blocks(4, 5))
            assert len(store.gets) == asked + 1
            assert cache.statistics().evicted_runs == 1
            cache.check()

    trio.run(main)


def test_tiny_objects_are_charged_for_what_they_take() -> None:
    """A cache full of one-byte files is bounded by what Python needs for them, not by their bytes."""

    async def main() -> None:
        store = GetStore()
        stats = [store.store(f"k{n}", b"x") for n in range(1000)]
        async with BlockCache.open(store, memory(2 * BLOCK), block_size=BLOCK) as cache:
            for stat in stats:
                assert await cache.read(stat, ByteRange(0, 10)) == b"x"
                assert cache.used_bytes <= 2 * BLOCK
            assert cache.used_bytes // (1 + SMALL_RUN_OVERHEAD_BYTES) == 127

    trio.run(main)


def test_forget_drops_every_version_and_its_memory() -> None:
    """After forget the next read asks the store; a fetch in flight still reaches who waits for it."""

    async def main() -> None:
        gate = Gate()
        gate.open()
        store = GetStore(gate)
        data = content(2 * BLOCK)
        stat = store.store("k", data)
        async with (
            BlockCache.open(store, memory(8 * BLOCK), block_size=BLOCK) as cache,
            trio.open_nursery() as nursery,
        ):
            await cache.read(stat, blocks(0, 1))
            gate.close()
            reader = Reader(cache, stat, blocks(1, 2))
            nursery.start_soon(reader.run)
            await wait_all_tasks_blocked()
            cache.forget("k")
            cache.check()
            assert cache.used_bytes == BLOCK
            gate.open()
            await wait_all_tasks_blocked()
            assert reader.got == data[BLOCK:]
            assert cache.used_bytes == 0
            await cache.read(stat, blocks(0, 2))
            assert [get.span for get in store.gets] == [blocks(0, 1), blocks(1, 2), blocks(0, 2)]

    trio.run(main)


def test_a_reader_waits_for_room_and_goes_on() -> None:
    """With the memory full of fetches, the next reader waits; it is served when one of them is done."""

    async def main() -> None:
        gate = Gate()
        store = GetStore(gate)
        data = content(8 * BLOCK)
        stat = store.store("k", data)
        async with (
            BlockCache.open(store, memory(2 * BLOCK), block_size=BLOCK) as cache,
            trio.open_nursery() as nursery,
        ):
            readers = [Reader(cache, stat, blocks(n, n + 1)) for n in range(8)]
            for reader in readers:
                nursery.start_soon(reader.run)
            await wait_all_tasks_blocked()
            assert len(store.gets) == 2
            assert cache.used_bytes == 2 * BLOCK
            gate.open()
        assert [reader.got for reader in readers] == [data[n * BLOCK :][:BLOCK] for n in range(8)]

    trio.run(main)


def test_room_is_given_first_come_first_served() -> None:
    """A reader of much is not overtaken for ever by readers of little, nor by hints."""

    async def main() -> None:
        gate = Gate()
        store = GetStore(gate)
        stat = store.store("k", content(8 * BLOCK))
        async with (
            BlockCache.open(store, memory(3 * BLOCK), block_size=BLOCK) as cache,
            trio.open_nursery() as nursery,
        ):
            for span in (blocks(0, 2), blocks(2, 4), blocks(4, 5)):
                nursery.start_soon(Reader(cache, stat, span).run)
                await wait_all_tasks_blocked()
            cache.offer(stat, range(5, 6))
            await wait_all_tasks_blocked()
            assert [get.span for get in store.gets] == [blocks(0, 2)]
            assert cache.statistics().dropped_hints == 1
            gate.open()
        assert {get.span for get in store.gets[1:]} == {blocks(2, 4), blocks(4, 5)}

    trio.run(main)


def test_a_reader_who_gives_up_waiting_for_room_blocks_nobody() -> None:
    """The first in the queue for room is cancelled; the second gets it."""

    async def main() -> None:
        gate = Gate()
        store = GetStore(gate)
        data = content(8 * BLOCK)
        stat = store.store("k", data)
        async with (
            BlockCache.open(store, memory(BLOCK), block_size=BLOCK) as cache,
            trio.open_nursery() as nursery,
        ):
            readers = [Reader(cache, stat, blocks(n, n + 1)) for n in range(3)]
            for reader in readers:
                nursery.start_soon(reader.run)
                await wait_all_tasks_blocked()
            readers[1].scope.cancel()
            await wait_all_tasks_blocked()
            gate.open()
        assert [reader.got for reader in readers] == [data[:BLOCK], None, data[2 * BLOCK : 3 * BLOCK]]

    trio.run(main)


def test_a_read_larger_than_the_memory_is_served() -> None:
    """A read never holds memory while it waits for more, so it cannot wait for itself or for its like."""

    async def main() -> None:
        store = GetStore()
        data = content(9 * BLOCK)
        stat = store.store("k", data)
        async with (
            BlockCache.open(store, memory(2 * BLOCK), block_size=BLOCK) as cache,
            trio.open_nursery() as nursery,
        ):
            readers = [Reader(cache, stat, blocks(0, 9)) for _ in range(5)]
            for reader in readers:
                nursery.start_soon(reader.run)
        assert all(reader.got == data for reader in readers)

    trio.run(main)


def test_a_cache_that_cannot_hold_a_block_is_refused() -> None:
    """A wrong configuration is an error at once, not a reader that waits for ever."""

    async def main() -> None:
        async with BlockCache.open(GetStore(), memory(BLOCK - 1), block_size=BLOCK):
            pass

    with pytest.raises(ValueError, match="cannot hold one block"):
        trio.run(main)


def test_a_system_without_memory_fails_the_read_and_drops_the_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives less than was promised, a read is EIO, and the cache goes on afterwards."""

    async def main() -> None:
        store = GetStore()
        body = content(4 * BLOCK)
        stat = store.store("k", body)
        budget = memory(8 * BLOCK)
        async with BlockCache.open(store, budget, block_size=BLOCK) as cache:
            with monkeypatch.context() as patch:
                patch.setattr("mmap.mmap", no_memory)
                cache.offer(stat, range(2, 4))
                with pytest.raises(StoreUnavailable, match="no memory"):
                    await cache.read(stat, blocks(0, 1))
                cache.check()
                assert budget.used_bytes == 0
                assert store.gets == []
            assert await cache.read(stat, blocks(0, 4)) == body

    def no_memory(*_: object, **__: object) -> object:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    trio.run(main)


@pytest.mark.parametrize("seed", range(8))
def test_32_mixed_readers_under_a_tiny_capacity_get_the_right_bytes(seed: int) -> None:
    """Sequential and random readers, failures, cancels, forgets: bytes right, memory never above the cap."""

    async def main() -> None:
        chance = random.Random(seed)
        capacity = chance.choice([1, 3, 7, 20]) * BLOCK
        budget = memory(capacity)

        async def gate(get: Get) -> None:
            cache.check()
            for _ in range(chance.randrange(6)):
                await trio.lowlevel.checkpoint()
            if chance.random() < 0.05:
                raise StoreUnavailable("shed")

        store = GetStore(gate)
        bodies = {f"k{n}": content(chance.randrange(30 * BLOCK), seed=n) for n in range(6)}
        stats = {key: store.store(key, body) for key, body in bodies.items()}
        served = 0

        async def use(number: int) -> None:
            nonlocal served
            key = chance.choice(list(bodies))
            reader, body = ObjectReader(cache, stats[key]), bodies[key]
            readahead = Readahead(BLOCK, start_bytes=BLOCK, cap_bytes=8 * BLOCK)
            at = 0
            for _ in range(25):
                size = chance.choice([100, BLOCK // 2, 2 * BLOCK])
                span = ByteRange(at, at + size)
                with trio.CancelScope() as scope:
                    if chance.random() < 0.1:
                        scope.cancel()
                    try:
                        got = await reader.read(span, readahead)
                    except StoreUnavailable:
                        continue
                    assert got == body[span.start : span.stop]
                    served += 1
                cache.check()
                assert cache.used_bytes <= capacity
                if chance.random() < 0.05:
                    cache.forget(key)
                at = at + size if number % 2 else chance.randrange(max(1, len(body)))

        async with BlockCache.open(
            store, memory(capacity), block_size=BLOCK, max_run_bytes=4 * BLOCK
        ) as cache:
            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    for number in range(32):
                        nursery.start_soon(use, number)
            await wait_all_tasks_blocked()
            assert budget.taken_bytes(Use.BLOCKS) == 0
            cache.check()
        assert served > 400

    trio.run(main)
