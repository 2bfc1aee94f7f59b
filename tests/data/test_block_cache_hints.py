"""Hints to the block cache: dropped, shared out, failed, and never in a reader's way."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from s3mount.core.objects import ByteRange
from s3mount.core.readahead import Readahead
from s3mount.data.block_cache import HINTS_PER_BACKGROUND_RUN, BlockCache
from s3mount.data.reader import ObjectReader
from s3mount.errors import StaleObject, StoreError, StoreTimeout, StoreUnavailable
from tests.data.blocks import BLOCK, Gate, Reader, blocks, content, memory
from tests.data.stores import Get, GetStore


@pytest.mark.parametrize("failure", [StoreUnavailable, StoreTimeout])
def test_a_reader_does_not_suffer_from_a_failed_hint(failure: type[StoreError]) -> None:
    """A reader that joined a hint's fetch asks for itself when that fails for a passing reason."""

    async def main() -> None:
        gate = Gate()
        store = GetStore(gate)
        data = content(BLOCK)
        stat = store.store("k", data)
        async with (
            BlockCache.open(store, memory(4 * BLOCK), block_size=BLOCK) as cache,
            trio.open_nursery() as nursery,
        ):
            cache.offer(stat, range(1))
            reader = Reader(cache, stat, blocks(0, 1))
            nursery.start_soon(reader.run)
            await wait_all_tasks_blocked()

            def only_for_hints() -> Exception:
                gate.open()
                return failure("shed")

            gate.open(only_for_hints)
        assert reader.got == data
        assert [get.background for get in store.gets] == [True, False]

    trio.run(main)


def test_a_reader_does_not_follow_failing_hints_for_ever() -> None:
    """If the hint it joined and the next one both fail, the reader gets the failure."""

    async def main() -> None:
        first, second = trio.Event(), trio.Event()

        async def gate(get: Get) -> None:
            await (first if get.key == "other" else second).wait()
            if get.key == "k":
                raise StoreUnavailable("shed")

        store = GetStore(gate)
        other, stat = store.store("other", content(BLOCK)), store.store("k", content(BLOCK))
        async with (
            BlockCache.open(store, memory(8 * BLOCK), block_size=BLOCK, background_runs=1) as cache,
            trio.open_nursery() as nursery,
        ):
            for hinted in (other, stat, stat):
                cache.offer(hinted, range(1))
            first.set()
            await wait_all_tasks_blocked()
            reader = Reader(cache, stat, blocks(0, 1))
            nursery.start_soon(reader.run)
            await wait_all_tasks_blocked()
            second.set()
        assert str(reader.error) == "shed"
        assert [get.background for get in store.gets] == [True, True, True]

    trio.run(main)


def test_a_hint_that_fails_for_good_fails_its_readers() -> None:
    """If the object has changed, asking again as a reader would not help."""

    async def main() -> None:
        gate = Gate()
        store = GetStore(gate)
        stat = store.store("k", content(BLOCK))
        async with (
            BlockCache.open(store, memory(4 * BLOCK), block_size=BLOCK) as cache,
            trio.open_nursery() as nursery,
        ):
            cache.offer(stat, range(1))
            reader = Reader(cache, stat, blocks(0, 1))
            nursery.start_soon(reader.run)
            await wait_all_tasks_blocked()
            gate.open(lambda: StaleObject("another ETag"))
        assert isinstance(reader.error, StaleObject)
        assert len(store.gets) == 1

    trio.run(main)


def test_a_hint_without_room_is_dropped() -> None:
    """Blocks fetched ahead take at most half of the memory until somebody reads them."""

    async def main() -> None:
        store = GetStore()
        stat = store.store("k", content(20 * BLOCK))
        async with BlockCache.open(
            store, memory(8 * BLOCK), block_size=BLOCK, max_run_bytes=2 * BLOCK
        ) as cache:
            cache.offer(stat, range(12))
            await wait_all_tasks_blocked()
            assert cache.used_bytes == 4 * BLOCK
            assert cache.statistics().dropped_hints == 4
            await cache.read(stat, blocks(0, 1))
            cache.offer(stat, range(12, 14))
            await wait_all_tasks_blocked()
            assert cache.used_bytes == 5 * BLOCK
            cache.check()
        assert {get.span.start // BLOCK for get in store.gets} == {0, 2, 12}
        assert all(get.background for get in store.gets)

    trio.run(main)


def test_hints_of_several_objects_get_equal_shares() -> None:
    """The second reader's window is not starved by the first's once that one goes on."""

    async def main() -> None:
        store = GetStore()
        stats = [store.store(name, content(20 * BLOCK)) for name in "ab"]
        async with BlockCache.open(
            store, memory(16 * BLOCK), block_size=BLOCK, max_run_bytes=2 * BLOCK
        ) as cache:
            cache.offer(stats[0], range(6))
            cache.offer(stats[1], range(6))
            await wait_all_tasks_blocked()
            fetched = [(get.key, get.span.size // BLOCK) for get in store.gets]
            assert sum(n for key, n in fetched if key == "a") == 6
            assert sum(n for key, n in fetched if key == "b") == 2
            await cache.read(stats[0], blocks(0, 4))
            cache.offer(stats[0], range(6, 12))
            cache.offer(stats[1], range(2, 8))
            await wait_all_tasks_blocked()
            cache.check()
            fetched = [(get.key, get.span.size // BLOCK) for get in store.gets]
            assert sum(n for key, n in fetched if key == "a") == 8
            assert sum(n for key, n in fetched if key == "b") == 4

    trio.run(main)


def test_only_so_many_hints_are_fetched_at_once_and_wait() -> None:
    """Background fetches are few, their queue is short, and the rest is dropped."""

    async def main() -> None:
        gate = Gate()
        store = GetStore(gate)
        stat = store.store("k", content(40 * BLOCK))
        async with BlockCache.open(
            store, memory(200 * BLOCK), block_size=BLOCK, max_run_bytes=BLOCK, background_runs=2
        ) as cache:
            cache.offer(stat, range(40))
            await wait_all_tasks_blocked()
            assert len(store.gets) == 2
            gate.open()
            await wait_all_tasks_blocked()
            assert len(store.gets) == 2 * HINTS_PER_BACKGROUND_RUN
            assert cache.statistics().dropped_hints == 40 - 2 * HINTS_PER_BACKGROUND_RUN

    trio.run(main)


def test_a_reader_does_not_wait_for_a_hint_that_waits() -> None:
    """A hint in the queue holds nothing: the reader fetches its block at once, and the hint the rest."""

    async def main() -> None:
        gate = Gate()
        store = GetStore(gate)
        data = content(8 * BLOCK)
        stat = store.store("k", data)
        async with (
            BlockCache.open(
                store, memory(64 * BLOCK), block_size=BLOCK, max_run_bytes=4 * BLOCK, background_runs=1
            ) as cache,
            trio.open_nursery() as nursery,
        ):
            cache.offer(stat, range(8))
            reader = Reader(cache, stat, blocks(4, 5))
            nursery.start_soon(reader.run)
            await wait_all_tasks_blocked()
            assert store.gets == [Get("k", blocks(0, 4), True), Get("k", blocks(4, 5), False)]
            gate.open()
            await wait_all_tasks_blocked()
            assert reader.got == data[4 * BLOCK : 5 * BLOCK]
            assert store.gets[2:] == [Get("k", blocks(5, 8), True)]

    trio.run(main)


def test_a_hint_with_a_block_that_came_meanwhile_still_brings_the_others() -> None:
    """What a reader fetched for itself splits the hint; both sides are fetched."""

    async def main() -> None:
        gate = Gate()
        store = GetStore(gate)
        other, stat = store.store("other", content(BLOCK)), store.store("k", content(8 * BLOCK))
        async with (
            BlockCache.open(store, memory(64 * BLOCK), block_size=BLOCK, background_runs=1) as cache,
            trio.open_nursery() as nursery,
        ):
            cache.offer(other, range(1))
            cache.offer(stat, range(8))
            nursery.start_soon(Reader(cache, stat, blocks(3, 4)).run)
            await wait_all_tasks_blocked()
            gate.open()
            await wait_all_tasks_blocked()
            assert [get.span for get in store.gets[2:]] == [blocks(0, 3), blocks(4, 8)]

    trio.run(main)


def test_a_sequential_reader_is_ahead_of_its_reads() -> None:
    """With read-ahead, nearly all bytes of a file come in large background GETs, each byte once."""

    async def main() -> None:
        store = GetStore()
        data = content(200 * BLOCK)
        stat = store.store("k", data)
        async with BlockCache.open(
            store, memory(128 * BLOCK), block_size=BLOCK, max_run_bytes=16 * BLOCK
        ) as cache:
            reader = ObjectReader(cache, stat)
            readahead = Readahead(BLOCK, start_bytes=2 * BLOCK, cap_bytes=32 * BLOCK)
            for at in range(0, len(data), BLOCK // 2):
                await reader.read(ByteRange(at, at + BLOCK // 2), readahead)
                await wait_all_tasks_blocked()
            assert cache.statistics().fetched_bytes == len(data)
            assert cache.statistics().dropped_hints == 0
        assert sum(not get.background for get in store.gets) <= 3
        assert len(store.gets) < 30

    trio.run(main)
