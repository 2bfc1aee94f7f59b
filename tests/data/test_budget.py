"""One bound for all memory: whoever finds no room waits, in turn, and nobody starves or waits for ever."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from s3mount.core.objects import ByteRange, ObjectHeaders
from s3mount.core.readahead import Readahead
from s3mount.data.block_cache import BlockCache
from s3mount.data.budget import Budget, Use
from s3mount.data.budgeted_store import BODY_BYTES, PAGE_BYTES_PER_KEY, BudgetedStore, body_cost
from s3mount.data.reader import ObjectReader
from s3mount.errors import StoreUnavailable
from s3mount.store.base import ObjectStore
from tests.support.memory_store import Call, MemoryStore

FLOORS = {Use.BLOCKS: 40, Use.BODIES: 20, Use.PAGES: 20}
KIB = 1 << 10
BLOCK = 64 * KIB


class Taker:
    """A task that takes, holds until it is told, and gives back."""

    def __init__(self, budget: Budget, use: Use, size: int) -> None:
        self.budget, self.use, self.size = budget, use, size
        self.has = False
        self.let_go = trio.Event()
        self.scope = trio.CancelScope()

    async def run(self) -> None:
        """Take and give back."""
        with self.scope:
            await self.budget.take(self.use, self.size)
            self.has = True
            await self.let_go.wait()
        if self.has:
            self.budget.give_back(self.use, self.size)
            self.has = False


async def started(nursery: trio.Nursery, *takers: Taker) -> None:
    """Start them one after the other."""
    for taker in takers:
        nursery.start_soon(taker.run)
        await wait_all_tasks_blocked()
        taker.budget.check()


async def finish(*takers: Taker) -> None:
    """Let all of them go."""
    for taker in takers:
        taker.let_go.set()
        await wait_all_tasks_blocked()
        taker.budget.check()


def test_who_finds_no_room_waits_until_others_give_back() -> None:
    """Nothing is refused, and never more than the total is taken."""

    async def main() -> None:
        budget = Budget(100, floors={})
        takers = [Taker(budget, use, 60) for use in (Use.BLOCKS, Use.BODIES, Use.PAGES)]
        async with trio.open_nursery() as nursery:
            await started(nursery, *takers)
            for number in range(3):
                assert [taker.has for taker in takers] == [number == n for n in range(3)]
                await finish(takers[number])
        assert budget.used_bytes == 0

    trio.run(main)


def test_room_is_given_in_the_order_of_asking_across_uses() -> None:
    """One who needs much is not passed for ever by those who need little, whatever they need it for."""

    async def main() -> None:
        budget = Budget(100, floors={})
        first, large = Taker(budget, Use.BLOCKS, 50), Taker(budget, Use.BODIES, 80)
        small = [Taker(budget, use, 10) for use in (Use.BODIES, Use.PAGES, Use.BLOCKS)]
        async with trio.open_nursery() as nursery:
            await started(nursery, first, large, *small)
            assert not any(taker.has for taker in (large, *small))
            assert not budget.try_take(Use.BODIES, 1)
            await finish(first)
            assert [taker.has for taker in (large, *small)] == [True, True, True, False]
            await finish(large, *small)

    trio.run(main)


@pytest.mark.parametrize("use", list(Use))
def test_a_floor_is_free_whatever_the_others_hold_and_wait_for(use: Use) -> None:
    """Reads cannot starve uploads or listings, nor the reverse."""

    async def main() -> None:
        budget = Budget(100, floors=FLOORS)
        others = [other for other in Use if other is not use]
        async with trio.open_nursery() as nursery:
            greedy = [Taker(budget, other, 10) for other in others for _ in range(20)]
            await started(nursery, *greedy)
            assert sum(taker.size for taker in greedy if taker.has) == 100 - FLOORS[use]
            own = [Taker(budget, use, FLOORS[use] // 2) for _ in range(3)]
            await started(nursery, *own)
            assert [taker.has for taker in own] == [True, True, False]
            await finish(*greedy, *own)
        assert budget.used_bytes == 0

    trio.run(main)


def test_who_needs_more_than_its_floor_gets_it_in_turn() -> None:
    """A body larger than the floor of bodies waits for the shared room, ahead of readers who come later."""

    async def main() -> None:
        budget = Budget(100, floors=FLOORS)
        early, body = Taker(budget, Use.BLOCKS, 60), Taker(budget, Use.BODIES, 40)
        late = [Taker(budget, Use.BLOCKS, 20) for _ in range(4)]
        async with trio.open_nursery() as nursery:
            await started(nursery, early, body, *late)
            assert [taker.has for taker in (body, *late)] == [False] * 5
            await finish(early)
            assert [taker.has for taker in (body, *late)] == [True, True, True, False, False]
            await finish(body, *late)

    trio.run(main)


def test_who_gives_up_waiting_takes_nothing_and_lets_the_next_in() -> None:
    """A cancel at any moment leaves no byte taken."""

    async def main() -> None:
        budget = Budget(100, floors={})
        holder, large, small = (Taker(budget, Use.BODIES, size) for size in (50, 80, 40))
        async with trio.open_nursery() as nursery:
            await started(nursery, holder, large, small)
            large.scope.cancel()
            await wait_all_tasks_blocked()
            assert small.has
            # Let in and cancelled in the same moment.
            unlucky = Taker(budget, Use.BODIES, 30)
            await started(nursery, unlucky)
            holder.let_go.set()
            unlucky.scope.cancel()
            await wait_all_tasks_blocked()
            assert budget.taken_bytes(Use.BODIES) == 40
            await finish(small)
        assert budget.used_bytes == 0
        assert budget.waiting(Use.BODIES) == 0

    trio.run(main)


def test_a_reservation_of_more_than_there_is_takes_all_that_it_can() -> None:
    """A request that is too large for the memory is made all the same, alone; take() calls it a mistake."""

    async def main() -> None:
        budget = Budget(100, floors=FLOORS)
        async with budget.reserved(Use.PAGES, 1000):
            assert budget.taken_bytes(Use.PAGES) == budget.most_bytes(Use.PAGES) == 40
        assert budget.used_bytes == 0
        with pytest.raises(ValueError, match="1000 bytes for pages of at most 40"):
            await budget.take(Use.PAGES, 1000)

    trio.run(main)


def test_floors_must_fit() -> None:
    """A wrong configuration is an error at once."""
    with pytest.raises(ValueError, match="floors"):
        Budget(99, floors={Use.BLOCKS: 50, Use.BODIES: 50})


def test_cached_blocks_make_room_for_requests_down_to_the_readers_floor() -> None:
    """Memory that nobody needs is cache; an upload takes it back, but not what is the readers' own."""

    async def main() -> None:
        store = MemoryStore()
        stat = store.store("k", bytes(16 * BLOCK))
        budget = Budget(16 * BLOCK, floors={Use.BLOCKS: 8 * BLOCK})
        async with BlockCache.open(store, budget, block_size=BLOCK, max_run_bytes=BLOCK) as cache:
            for number in range(16):
                await cache.read(stat, ByteRange(number * BLOCK, (number + 1) * BLOCK))
            assert cache.used_bytes == 16 * BLOCK
            async with budget.reserved(Use.BODIES, 3 * BLOCK):
                assert cache.used_bytes == 13 * BLOCK
                assert budget.room_bytes(Use.BODIES) == 5 * BLOCK
                cache.check()
            async with budget.reserved(Use.BODIES, 100 * BLOCK):
                assert cache.used_bytes == 8 * BLOCK
            cache.check()
            assert cache.statistics().evicted_runs == 8

    trio.run(main)


class Load(MemoryStore):
    """Counts what runs at once of each method, and holds it until it is told to go on."""

    def __init__(self) -> None:
        super().__init__(before=self._enter, after=self._leave)
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.go_on = trio.Event()

    async def _enter(self, call: Call) -> None:
        self.now[call.method] += 1
        self.most[call.method] = max(self.most[call.method], self.now[call.method])
        await self.go_on.wait()

    async def _leave(self, call: Call) -> None:
        self.now[call.method] -= 1


def test_only_so_many_bodies_and_pages_are_under_way() -> None:
    """A hundred uploads and listings at once take the memory of those that it has room for; all are done."""

    async def main() -> None:
        load = Load()
        budget = Budget(16 * BODY_BYTES)
        store: ObjectStore = BudgetedStore(load, budget)
        body = bytes(BODY_BYTES)
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(store.put, f"k{number}", body, ObjectHeaders())
                nursery.start_soon(store.list_page, f"p{number}/")
            await wait_all_tasks_blocked()
            budget.check()
            taken = load.now["put"] * BODY_BYTES + load.now["list_page"] * 1000 * PAGE_BYTES_PER_KEY
            assert budget.used_bytes == taken
            assert 8 * BODY_BYTES - 1000 * PAGE_BYTES_PER_KEY < taken <= 8 * BODY_BYTES
            # Half is for readers, whoever waits.
            assert budget.try_take(Use.BLOCKS, 8 * BODY_BYTES)
            budget.give_back(Use.BLOCKS, 8 * BODY_BYTES)
            load.go_on.set()
        assert len(load.keys()) == 100
        assert budget.used_bytes == 0

    trio.run(main)


def test_a_failed_request_gives_its_memory_back() -> None:
    """So does one that is cancelled."""

    async def main() -> None:
        async def fail(call: Call) -> None:
            if call.key == "hang":
                await trio.sleep_forever()
            raise StoreUnavailable("broke off")

        budget = Budget(16 * BODY_BYTES)
        store = BudgetedStore(MemoryStore(before=fail), budget)
        with pytest.raises(StoreUnavailable):
            await store.put("k", b"x" * 1000, ObjectHeaders())
        with pytest.raises(StoreUnavailable):
            await store.list_page("")
        with trio.move_on_after(0):
            await store.list_page("hang")
        assert budget.used_bytes == 0

    trio.run(main)


def test_a_body_costs_what_is_in_memory_of_it() -> None:
    """A part is read piece by piece, so a large one costs no more than a middling one; nothing, nothing."""
    assert [body_cost(size) for size in (0, 1000, 16 << 20, 5 << 30)] == [0, 2000, BODY_BYTES, BODY_BYTES]


@pytest.mark.parametrize("seed", range(12))
def test_readers_uploads_and_listings_all_finish_in_a_tiny_memory(seed: int) -> None:
    """Any schedule: no deadlock, no starvation, never a byte above the total, right bytes, all given back."""

    async def main() -> None:
        chance = random.Random(seed)
        total = chance.choice([8, 12, 40]) * BLOCK

        async def some_turns(call: Call) -> None:
            budget.check()
            for _ in range(chance.randrange(8)):
                await trio.lowlevel.checkpoint()
            if chance.random() < 0.03:
                raise StoreUnavailable("shed")

        inner = MemoryStore()
        budget = Budget(total)
        bodies = {f"k{n}": random.Random(n).randbytes(chance.randrange(1, 20 * BLOCK)) for n in range(5)}
        stats = {key: inner.store(key, body) for key, body in bodies.items()}
        inner.before = some_turns
        store = BudgetedStore(inner, budget)
        done: Counter[str] = Counter()

        async def read(cache: BlockCache) -> None:
            key = chance.choice(list(bodies))
            reader, readahead = ObjectReader(cache, stats[key]), Readahead(BLOCK, cap_bytes=4 * BLOCK)
            for at in range(0, len(bodies[key]), 2 * BLOCK):
                span = ByteRange(at, at + 2 * BLOCK)
                assert await reader.read(span, readahead) == bodies[key][span.start : span.stop]
            done["read"] += 1

        async def upload(number: int) -> None:
            # Small ones, and some that need more than the floor of bodies.
            body = bytes(chance.choice([0, 100, BLOCK // 2, 4 * BLOCK]))
            await store.put(f"u{number}", body, ObjectHeaders())
            done["upload"] += 1

        async def one(cache: BlockCache, number: int) -> None:
            with trio.CancelScope() as scope:
                if chance.random() < 0.1:
                    scope.cancel()
                try:
                    match number % 3:
                        case 0:
                            await read(cache)
                        case 1:
                            await upload(number)
                        case _:
                            await store.list_page("", max_keys=chance.choice([1, 20, 1000]))
                            done["list"] += 1
                except StoreUnavailable:
                    return

        async with BlockCache.open(store, budget, block_size=BLOCK, max_run_bytes=4 * BLOCK) as cache:
            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    for number in range(90):
                        nursery.start_soon(one, cache, number)
            await wait_all_tasks_blocked()
            budget.check()
            cache.check()
            assert [budget.taken_bytes(use) for use in Use] == [0, 0, 0]
        assert done["upload"] > 15, done
        assert done["list"] > 15, done
        assert done["read"] > 5, done

    print(f"seed {seed}")
    trio.run(main)


@dataclass(frozen=True)
class Step:
    """What one step of a schedule does: ask, let the n-th who holds go, cancel the n-th who waits, cache."""

    what: str
    use: Use = Use.BLOCKS
    number: int = 0


STEPS = st.one_of(
    st.builds(Step, st.just("ask"), st.sampled_from(list(Use)), st.integers(0, 60)),
    st.builds(Step, st.sampled_from(["let go", "cancel", "cache", "resize"]), number=st.integers(0, 20)),
)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEPS, max_size=30), order=st.randoms(use_true_random=False))
def test_whatever_was_asked_for_everybody_comes_in(steps: list[Step], order: random.Random) -> None:
    """Any calls in any order: the bound holds at each step, and once holders end, every waiter is served.

    While anybody waits somebody holds, so there is always one whose end lets others in.
    """

    async def main() -> None:
        budget = Budget(100, floors=FLOORS)
        cached: list[int] = []

        def evict(size: int) -> None:
            while size > 0:
                gone = cached.pop(0)
                budget.evicted(gone)
                size -= gone

        budget.on_need(evict)
        everybody: list[Taker] = []
        wanted = [100]

        def who(*, has: bool) -> list[Taker]:
            return [one for one in everybody if one.has is has and not one.let_go.is_set()]

        async def take_step(step: Step, nursery: trio.Nursery) -> None:
            match step.what:
                case "ask":
                    size = min(step.number, budget.most_bytes(step.use))
                    everybody.append(Taker(budget, step.use, size))
                    nursery.start_soon(everybody[-1].run)
                case "resize":
                    wanted.append(80 + 3 * step.number)
                    budget.resize(wanted[-1])
                case "cache":
                    if budget.try_take(Use.BLOCKS, step.number):
                        budget.cache(step.number)
                        cached.append(step.number)
                case _:
                    if some := who(has=step.what == "let go"):
                        one = some[step.number % len(some)]
                        if step.what == "cancel":
                            one.scope.cancel()
                        one.let_go.set()
            await wait_all_tasks_blocked()
            budget.check()

        async with trio.open_nursery() as nursery:
            for step in steps:
                await take_step(step, nursery)
            while waiting := who(has=False):
                holding = who(has=True)
                assert holding, f"{[(one.use, one.size) for one in waiting]} wait, and nobody holds"
                await finish(order.choice(holding))
            await finish(*everybody)
        assert [budget.taken_bytes(use) for use in Use] == [0, 0, 0]
        assert budget.used_bytes == sum(cached)
        assert budget.total_bytes == wanted[-1]

    trio.run(main)


def test_a_smaller_size_evicts_at_once_and_is_reached_when_what_is_taken_is_given_back() -> None:
    """Nobody is cut off, and nobody comes in beyond the new size."""

    async def main() -> None:
        budget = Budget(128)
        gone: list[int] = []

        def evict(size: int) -> None:
            gone.append(size)
            budget.evicted(size)

        budget.on_need(evict)
        assert budget.try_take(Use.BLOCKS, 64)
        budget.cache(64)
        holder, waiter = Taker(budget, Use.BODIES, 48), Taker(budget, Use.BODIES, 40)
        async with trio.open_nursery() as nursery:
            await started(nursery, holder, waiter)
            assert holder.has
            assert not waiter.has
            budget.resize(64)
            budget.check()
            assert gone == [64 + 48 - (48 + 32 + 8)]
            assert budget.total_bytes == 48 + 32 + 8  # what is held, and the floors of the others
            assert not budget.try_take(Use.PAGES, 9)
            await finish(holder)
            assert waiter.has
            assert budget.total_bytes == 40 + 32 + 8
            await finish(waiter)
        assert budget.total_bytes == 64
        budget.resize(1 << 20)
        assert budget.most_bytes(Use.BLOCKS) == (1 << 20) * 3 // 4

    trio.run(main)
