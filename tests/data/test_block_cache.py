"""The block cache on schedules that no server gives on demand."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from s3mount.core.objects import ByteRange, ObjectStat, RangeAnswer
from s3mount.core.readahead import Readahead
from s3mount.data.block_cache import HINTS_PER_BACKGROUND_RUN, BlockCache
from s3mount.data.budget import Budget, Use
from s3mount.data.reader import ObjectReader
from s3mount.data.run import SMALL_RUN_OVERHEAD_BYTES
from s3mount.errors import BadAnswer, FsError, StaleObject, StoreError, StoreTimeout, StoreUnavailable
from tests.data.stores import Get, GetStore

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


def test_a_read_is_exact_at_any_place() -> None:
    """Any span gives the object's bytes of it, up to the end, and nothing beyond."""

    async def main() -> None:
        store = GetStore()
        data = content(5 * BLOCK + 77)
        stat = store.store("k", data)
        async with BlockCache.open(store, memory(4 * BLOCK), block_size=BLOCK) as cache:
            chance = random.Random(7)
            for _ in range(300):
                start = chance.randrange(6 * BLOCK)
                span = ByteRange(start, start + chance.choice([0, 1, 100, BLOCK, 3 * BLOCK, 9 * BLOCK]))
                assert bytes(await cache.read(stat, span)) == data[span.start : span.stop]
                cache.check()

    trio.run(main)


def test_an_empty_object_costs_no_request() -> None:
    """A ranged GET of nothing is an error at the server; there is nothing to ask."""

    async def main() -> None:
        store = GetStore()
        stat = store.store("empty", b"")
        async with BlockCache.open(store, memory(BLOCK + KIB), block_size=BLOCK) as cache:
            assert await cache.read(stat, ByteRange(0, 100)) == b""
        assert store.gets == []

    trio.run(main)


def test_what_was_just_written_is_not_asked_for() -> None:
    """A small object that is kept, and a copy that has its bytes, cost no GET; larger ones are left out."""

    async def main() -> None:
        store = GetStore()
        async with BlockCache.open(store, memory(3 * BLOCK), block_size=BLOCK) as cache:
            small, large = content(BLOCK), content(BLOCK + 1)
            first = store.store("k", small)
            cache.keep(first, small)
            copy = store.store("copy", small)
            cache.carry_over(first, copy)
            cache.keep(store.store("large", large), large)
            cache.check()
            assert await cache.read(first, ByteRange(0, BLOCK)) == small
            assert await cache.read(copy, ByteRange(5, 9)) == small[5:9]
            assert store.gets == []
            assert await cache.read(store.stat("large"), ByteRange(0, 3)) == large[:3]
            assert [get.key for get in store.gets] == ["large"]

    trio.run(main)


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


def test_two_readers_of_one_block_share_one_get() -> None:
    """Whoever comes while a block is being fetched waits for that fetch."""

    async def main() -> None:
        gate = Gate()
        store = GetStore(gate)
        data = content(2 * BLOCK)
        stat = store.store("k", data)
        async with (
            BlockCache.open(store, memory(4 * BLOCK), block_size=BLOCK) as cache,
            trio.open_nursery() as nursery,
        ):
            readers = [Reader(cache, stat, ByteRange(n, n + 10)) for n in (0, 100, BLOCK - 10)]
            for reader in readers:
                nursery.start_soon(reader.run)
            await wait_all_tasks_blocked()
            gate.open()
        assert [get.span for get in store.gets] == [blocks(0, 1)]
        assert [r.got for r in readers] == [data[r.span.start : r.span.stop] for r in readers]

    trio.run(main)


def test_adjacent_misses_of_one_read_are_one_get() -> None:
    """A read over three missing blocks costs one request, and around one that is here two."""

    async def main() -> None:
        store = GetStore()
        stat = store.store("k", content(8 * BLOCK))
        async with BlockCache.open(store, memory(16 * BLOCK), block_size=BLOCK) as cache:
            await cache.read(stat, blocks(2, 3))
            await cache.read(stat, blocks(0, 6))
            assert {get.span for get in store.gets} == {blocks(2, 3), blocks(0, 2), blocks(3, 6)}

    trio.run(main)


def test_a_run_is_never_longer_than_allowed() -> None:
    """A large read is fetched in runs of the largest size, side by side."""

    async def main() -> None:
        store = GetStore()
        stat = store.store("k", content(8 * BLOCK))
        async with BlockCache.open(
            store, memory(16 * BLOCK), block_size=BLOCK, max_run_bytes=3 * BLOCK
        ) as cache:
            await cache.read(stat, blocks(0, 8))
        spans = sorted((get.span for get in store.gets), key=lambda span: span.start)
        assert spans == [blocks(0, 3), blocks(3, 6), blocks(6, 8)]

    trio.run(main)


def test_a_read_within_one_run_is_not_copied() -> None:
    """The reply is a window on the run's own memory."""

    async def main() -> None:
        store = GetStore()
        stat = store.store("k", content(4 * BLOCK))
        async with BlockCache.open(store, memory(16 * BLOCK), block_size=BLOCK) as cache:
            await cache.read(stat, blocks(0, 4))
            one, other = await cache.read(stat, blocks(0, 2)), await cache.read(stat, blocks(1, 3))
            assert isinstance(one, memoryview)
            assert isinstance(other, memoryview)
            assert one.readonly
            assert one.obj is other.obj

    trio.run(main)


def test_a_shared_fetch_outlives_a_cancelled_reader() -> None:
    """The reader that began a fetch may go; the other still gets the block from it."""

    async def main() -> None:
        gate = Gate()
        store = GetStore(gate)
        data = content(BLOCK)
        stat = store.store("k", data)
        async with (
            BlockCache.open(store, memory(4 * BLOCK), block_size=BLOCK) as cache,
            trio.open_nursery() as nursery,
        ):
            first, second = (Reader(cache, stat, blocks(0, 1)) for _ in range(2))
            nursery.start_soon(first.run)
            await wait_all_tasks_blocked()
            nursery.start_soon(second.run)
            await wait_all_tasks_blocked()
            first.scope.cancel()
            await wait_all_tasks_blocked()
            gate.open()
            await wait_all_tasks_blocked()
            cache.check()
        assert (first.got, second.got) == (None, data)
        assert len(store.gets) == 1

    trio.run(main)


def test_a_failure_reaches_every_waiter_and_is_not_kept() -> None:
    """Both readers see the error of the shared fetch, each its own; the next read asks again."""

    async def main() -> None:
        gate = Gate()
        store = GetStore(gate)
        data = content(BLOCK)
        stat = store.store("k", data)
        async with BlockCache.open(store, memory(4 * BLOCK), block_size=BLOCK) as cache:
            readers = [Reader(cache, stat, blocks(0, 1)) for _ in range(2)]
            async with trio.open_nursery() as nursery:
                for reader in readers:
                    nursery.start_soon(reader.run)
                await wait_all_tasks_blocked()
                gate.open(lambda: StoreUnavailable("broke off"))
            assert [str(reader.error) for reader in readers] == ["broke off"] * 2
            assert readers[0].error is not readers[1].error
            assert cache.used_bytes == 0
            gate.open()
            assert await cache.read(stat, blocks(0, 1)) == data
        assert len(store.gets) == 2

    trio.run(main)


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


def test_an_object_that_changed_is_stale() -> None:
    """A reader of the old version gets an error for what it has not read yet, never new bytes."""

    async def main() -> None:
        store = GetStore()
        old = content(2 * BLOCK)
        stat = store.store("k", old)
        async with BlockCache.open(store, memory(8 * BLOCK), block_size=BLOCK) as cache:
            assert await cache.read(stat, blocks(0, 1)) == old[:BLOCK]
            changed = store.store("k", content(2 * BLOCK, seed=2))
            assert await cache.read(stat, blocks(0, 1)) == old[:BLOCK]
            with pytest.raises(StaleObject):
                await cache.read(stat, blocks(1, 2))
            assert await cache.read(changed, blocks(0, 2)) == store.body("k")

    trio.run(main)


@pytest.mark.parametrize("size", [None, 10])
def test_an_object_that_vanished_or_shrank_is_stale(size: int | None) -> None:
    """A file that is open has not ceased to exist: ESTALE, not ENOENT or EINVAL."""

    async def main() -> None:
        store = GetStore()
        stat = store.store("k", content(2 * BLOCK))
        if size is None:
            store.remove("k")
        else:
            # A server that looks at the range before it looks at the condition.
            stat = replace(store.store("k", content(size)), size=2 * BLOCK)
        async with BlockCache.open(store, memory(8 * BLOCK), block_size=BLOCK) as cache:
            with pytest.raises(StaleObject):
                await cache.read(stat, blocks(1, 2))

    trio.run(main)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"received": BLOCK - 1}, "65535 bytes arrived of 65536"),
        ({"span": ByteRange(1, BLOCK + 1)}, "answered bytes 1-65537"),
        ({"etag": '"other"'}, 'has ETag "other"'),
    ],
)
def test_an_answer_that_cannot_be_true_is_an_error(change: dict[str, object], message: str) -> None:
    """Short, shifted and foreign bodies are never given to a reader, nor kept."""

    class Liar(GetStore):
        async def get_into(self, *args: object, **options: object) -> RangeAnswer:
            return replace(await super().get_into(*args, **options), **change)  # type: ignore[arg-type]

    async def main() -> None:
        store = Liar()
        stat = store.store("k", content(BLOCK))
        async with BlockCache.open(store, memory(8 * BLOCK), block_size=BLOCK) as cache:
            with pytest.raises(BadAnswer, match=message):
                await cache.read(stat, blocks(0, 1))
            assert cache.used_bytes == 0

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


def test_readers_of_a_cache_that_closes_get_an_error() -> None:
    """Closing cancels fetches; who waits for one from elsewhere is told, not left hanging."""

    async def main() -> None:
        store = GetStore(Gate())
        stat = store.store("k", content(BLOCK))
        async with trio.open_nursery() as nursery:  # noqa: SIM117
            async with BlockCache.open(store, memory(2 * BLOCK), block_size=BLOCK) as cache:
                reader = Reader(cache, stat, blocks(0, 1))
                nursery.start_soon(reader.run)
                await wait_all_tasks_blocked()
        assert isinstance(reader.error, StoreUnavailable)

    trio.run(main)


def test_an_error_inside_the_block_escapes_as_itself() -> None:
    """The cache's nursery does not show: an error is not wrapped in a group."""

    async def main() -> None:
        async with BlockCache.open(GetStore(), memory(2 * BLOCK), block_size=BLOCK):
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
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
