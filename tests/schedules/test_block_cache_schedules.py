"""Block cache, read-ahead and eviction while objects change: every read is of one version, or an error."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from s3mount.core.objects import ByteRange, ObjectStat
from s3mount.core.readahead import Readahead
from s3mount.data.block_cache import BlockCache
from s3mount.data.budget import Budget, Use
from s3mount.data.reader import ObjectReader
from s3mount.errors import StaleObject, StoreTimeout, StoreUnavailable, collapsed
from tests.schedules.schedule import Weather, run_seeded, sleep
from tests.support.memory_store import MemoryStore

KIB = 1 << 10
BLOCK = 4 * KIB
KEYS = ("a", "b", "c")
IN_CI, IN_ALL = 200, 4000
BATCH = 100


@dataclass
class World:
    """The store, every version that it ever had, and since when each is not there any more."""

    rng: random.Random
    store: MemoryStore
    bodies: dict[str, bytes] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    reads: int = 0

    def put(self, key: str) -> ObjectStat:
        """Store a new version, as another host would."""
        self.remove(key)
        size = self.rng.choice((1, BLOCK - 1, BLOCK, BLOCK + 1, self.rng.randrange(1, 24 * BLOCK)))
        stat = self.store.store(key, self.rng.randbytes(size))
        self.bodies[stat.etag] = self.store.body(key)
        return stat

    def has(self, key: str) -> bool:
        """Whether the object is there."""
        return key in set(self.store.keys())

    def remove(self, key: str) -> None:
        """Take the object away, if there is one."""
        if self.has(key):
            self.ended.add(self.store.stat(key).etag)
            self.store.remove(key)


async def pause(rng: random.Random) -> None:
    """Wait for as long as chance says."""
    await sleep(rng, (0.0, 0.001, 0.02, 0.3))


async def change(world: World) -> None:
    """Replace and remove objects."""
    for _ in range(world.rng.randrange(8)):
        await pause(world.rng)
        key = world.rng.choice(KEYS)
        if world.rng.random() < 0.25:
            world.remove(key)
        else:
            world.put(key)


async def read(world: World, cache: BlockCache) -> None:
    """Open objects and read each as one program would: on and on, here and there, sometimes giving up."""
    for _ in range(world.rng.randrange(1, 4)):
        key = world.rng.choice(KEYS)
        if not world.has(key):
            await pause(world.rng)
            continue
        reader = ObjectReader(cache, world.store.stat(key))
        ahead = Readahead(BLOCK, start_bytes=BLOCK, cap_bytes=8 * BLOCK, tolerance_bytes=2 * BLOCK)
        position = 0
        for _ in range(world.rng.randrange(1, 12)):
            if world.rng.random() < 0.2:
                position = world.rng.randrange(reader.stat.size + 1)
            span = ByteRange(position, position + world.rng.choice((1, 700, BLOCK, 3 * BLOCK, 9 * BLOCK)))
            patience = world.rng.choice((0.0, 0.005, 0.5, math.inf, math.inf))
            with trio.move_on_after(patience):
                if not await read_once(world, reader, span, ahead):
                    break
            position = span.stop
            if world.rng.random() < 0.3:
                await pause(world.rng)


async def read_once(world: World, reader: ObjectReader, span: ByteRange, ahead: Readahead) -> bool:
    """Read and judge; whether it is any use to go on."""
    etag = reader.stat.etag
    try:
        got = await reader.read(span, ahead)
    except StaleObject:
        assert etag in world.ended, "called stale, and nothing has changed"
        return False
    except (StoreUnavailable, StoreTimeout):
        return True
    body = world.bodies[etag]
    assert bytes(got) == body[span.start : span.stop]
    await trio.lowlevel.checkpoint()
    # The reply is written out a moment later, and until then nobody else may have the memory.
    assert bytes(got) == body[span.start : span.stop]
    world.reads += 1
    return True


async def meddle(world: World, cache: BlockCache, budget: Budget) -> None:
    """Do what the rest of a mount does to the cache: keep what was written, carry over, forget, need room."""
    for _ in range(world.rng.randrange(10)):
        await pause(world.rng)
        key = world.rng.choice(KEYS)
        what = world.rng.randrange(4)
        if what == 0:
            cache.forget(key)
        elif what == 1:
            stat = world.put(key)
            cache.keep(stat, world.store.body(key))
        elif what == 2 and world.has(key):
            old = world.store.stat(key)
            copy = world.store.store("copy", world.store.body(key))
            world.bodies[copy.etag] = world.store.body("copy")
            cache.carry_over(old, copy)
            assert bytes(await cache.read(copy, ByteRange(0, 0))) == b""
        else:
            async with budget.reserved(Use.BODIES, world.rng.randrange(1, 30 * BLOCK)):
                await pause(world.rng)
        cache.check()
        budget.check()


async def history(rng: random.Random) -> None:
    """Let readers, changers and the rest of a mount go on at once; then nothing is held any more."""
    weather = Weather(rng, rng.choice((0.0, 0.1, 0.4)))
    world = World(rng, MemoryStore(before=weather, after=weather))
    for key in KEYS:
        world.put(key)
    budget = Budget(rng.choice((24, 40, 100)) * BLOCK)
    async with BlockCache.open(
        world.store, budget, block_size=BLOCK, max_run_bytes=rng.choice((1, 4, 8)) * BLOCK, background_runs=2
    ) as cache:
        with collapsed():
            async with trio.open_nursery() as nursery:
                for _ in range(rng.randrange(1, 7)):
                    nursery.start_soon(read, world, cache)
                nursery.start_soon(change, world)
                nursery.start_soon(meddle, world, cache, budget)
        weather.failing = 0.0
        for key in KEYS:
            stat = world.put(key)
            whole = await ObjectReader(cache, stat).read(ByteRange(0, min(stat.size, 8 * BLOCK)))
            assert bytes(whole) == world.bodies[stat.etag][: 8 * BLOCK]
        await wait_all_tasks_blocked(0.0)
        await trio.sleep(60)  # what was fetched ahead arrives
        cache.check()
        budget.check()
        assert budget.waiting(Use.BLOCKS) == budget.waiting(Use.BODIES) == 0
        assert budget.taken_bytes(Use.BODIES) == budget.taken_bytes(Use.BLOCKS) == 0
        for key in (*KEYS, "copy"):
            cache.forget(key)
        assert budget.used_bytes == 0


def test_a_sample_of_schedules() -> None:
    """The first 200 seeds."""
    for seed in range(IN_CI):
        run_seeded(seed, history)


@pytest.mark.heavy
@pytest.mark.parametrize("first", range(IN_CI, IN_ALL, BATCH))
def test_schedules(first: int) -> None:
    """Thousands of seeds."""
    for seed in range(first, first + BATCH):
        run_seeded(seed, history)


def test_a_seed_gives_the_same_history_twice() -> None:
    """What a failing seed has shown can be looked at again."""

    def told(seed: int) -> list[str]:
        calls: list[str] = []

        async def record(rng: random.Random) -> None:
            weather = Weather(rng, 0.2)
            world = World(rng, MemoryStore(before=weather, after=weather))
            for key in KEYS:
                world.put(key)
            budget = Budget(24 * BLOCK)
            async with (
                BlockCache.open(world.store, budget, block_size=BLOCK) as cache,
                trio.open_nursery() as nursery,
            ):
                for _ in range(4):
                    nursery.start_soon(read, world, cache)
                nursery.start_soon(change, world)
            calls.extend(f"{call.method} {call.key}" for call in world.store.calls)

        run_seeded(seed, record)
        return calls

    assert told(7) == told(7)
    assert told(7) != told(8)
