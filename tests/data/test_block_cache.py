"""The block cache on schedules that no server gives on demand."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from s3mount.core.objects import ByteRange, RangeAnswer
from s3mount.data.block_cache import BlockCache
from s3mount.errors import BadAnswer, StaleObject, StoreUnavailable
from tests.data.blocks import BLOCK, KIB, Gate, Reader, blocks, content, memory
from tests.data.stores import GetStore


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
