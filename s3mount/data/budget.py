"""The memory of a mount, shared by what reads, what sends and what lists."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio


class Use(enum.Enum):
    """What memory is taken for."""

    BLOCKS = "blocks"  # read from objects: on their way, being taken by readers, or cached
    BODIES = "bodies"  # of requests, while they are sent
    PAGES = "pages"  # of listings, while they are read and parsed


FLOORS = {Use.BLOCKS: 2, Use.BODIES: 8, Use.PAGES: 8}
"""The part of all memory, one in so many, that the other uses leave alone.

Readers get half: what they look ahead is up to a quarter of the memory for each. An eighth of the smallest
memory, 16 MiB, is most of one body or a half of one page: so neither ever waits for what only readers hold.
"""


@dataclass(eq=False, slots=True)
class _Waiter:
    use: Use
    size: int
    is_served: trio.Event = field(default_factory=trio.Event)


class Budget:
    """Bytes of memory, at most ``total_bytes`` of them; who finds no room waits, and nobody is refused.

    What is *taken* is given back by whoever took it. What is *cached* (blocks that nobody is reading) is
    evicted when somebody needs the room. Each use has a floor that the others leave free; above the
    floors, first come first served.

    Nobody waits for ever, if these rules of the callers hold:

    1. Who waits holds nothing. A request takes once, all that it needs; a reader takes the bytes that it
       has waited for, and leaves them, before it queues for more.
    2. Who holds waits for the server or the local disk only, and that has a deadline: a body is read from
       the spool, a fetch and a listing need no other memory.

    So an arrow of "waits for memory of" leads from one who waits to one who holds, and none leads on: there
    is no ring, and all that is taken is given back in time. It goes to the first in the queue: who came
    later is let in only where the first has no claim. So the first always comes in once those who hold are
    done, cached blocks count as free, and an upload, whose need is never more than ``most_bytes``, makes
    progress whatever readers and listings do.

    Everything but :meth:`take` is sync, and giving back is too.

    INVARIANT: the sum over all uses, of what is taken or the floor if that is more, is at most the total.
    INVARIANT: what is taken and what is cached is at most the total.

    Args:
        floors: in bytes by use; without it those of :data:`FLOORS`.

    Raises: ValueError (the floors are more than the total).
    """

    def __init__(self, total_bytes: int, *, floors: Mapping[Use, int] | None = None) -> None:
        self._given_floors = floors
        self.total_bytes = self._wanted_bytes = total_bytes
        self._floors = self._floors_of(total_bytes)
        self._taken = dict.fromkeys(Use, 0)
        self._cached = 0
        self._waiters: list[_Waiter] = []  # in the order in which they came
        self._evict: Callable[[int], None] | None = None

    def _floors_of(self, total_bytes: int) -> dict[Use, int]:
        parts = {use: total_bytes // part for use, part in FLOORS.items()}
        given = parts if self._given_floors is None else self._given_floors
        floors = {use: given.get(use, 0) for use in Use}
        if sum(floors.values()) > total_bytes:
            raise ValueError(f"floors of {floors} in {total_bytes} bytes")
        return floors

    def resize(self, total_bytes: int) -> None:
        """Let there be *total_bytes* from now on.

        Cached blocks go at once. What is taken, and what somebody waits for already, is still served: until
        then the total is as much more as that needs.

        Raises: ValueError (the floors are more than that).
        """
        self._floors = self._floors_of(total_bytes)
        self._wanted_bytes = total_bytes
        self._settle_total()
        self._serve()

    def _settle_total(self) -> None:
        held = sum(max(self._taken[use], self._floors[use]) for use in Use)
        all_floors = sum(self._floors.values())
        needs = [waiter.size + all_floors - self._floors[waiter.use] for waiter in self._waiters]
        self.total_bytes = max(self._wanted_bytes, held, *needs)
        self._evict_excess()

    @property
    def used_bytes(self) -> int:
        """What is taken and what is cached."""
        return sum(self._taken.values()) + self._cached

    def taken_bytes(self, use: Use) -> int:
        """Return what is taken for *use*."""
        return self._taken[use]

    def waiting(self, use: Use) -> int:
        """Return how many wait for room for *use*."""
        return sum(waiter.use is use for waiter in self._waiters)

    def most_bytes(self, use: Use) -> int:
        """Return the most that one could ever take for *use*."""
        return self.total_bytes - sum(floor for other, floor in self._floors.items() if other is not use)

    def room_bytes(self, use: Use) -> int:
        """Return what could be taken for *use* at once: nothing while others wait for it."""
        passed = self._first_waiting()
        return 0 if use in passed else max(0, self._room(use, passed))

    def try_take(self, use: Use, size: int) -> bool:
        """Take *size* bytes if there is room for them; whether they were taken."""
        if size > self.room_bytes(use):
            return False
        self._take(use, size)
        return True

    async def take(self, use: Use, size: int) -> None:
        """Take *size* bytes as soon as there is room, in the order of calls.

        Hold no other bytes of the same use meanwhile. Not a checkpoint if there is room at once.

        Cancel: nothing is taken.
        Raises: ValueError (*size* is more than ever fits: ``most_bytes``).
        """
        if size > self.most_bytes(use):
            raise ValueError(f"{size} bytes for {use.value} of at most {self.most_bytes(use)}")
        if self.try_take(use, size):
            return
        waiter = _Waiter(use, size)
        self._waiters.append(waiter)
        try:
            await waiter.is_served.wait()
        except BaseException:
            if waiter.is_served.is_set():
                self.give_back(use, size)
            else:
                self._waiters.remove(waiter)
                self._shrink_and_serve()
            raise

    def give_back(self, use: Use, size: int) -> None:
        """Give *size* bytes back that were taken for *use*."""
        assert size <= self._taken[use]
        self._taken[use] -= size
        self._shrink_and_serve()

    @asynccontextmanager
    async def reserved(self, use: Use, size: int) -> AsyncIterator[None]:
        """Hold *size* bytes while the block runs, or the most that ever fits if that is less.

        Cancel: while waiting, nothing is taken.
        """
        size = min(size, self.most_bytes(use))
        await self.take(use, size)
        try:
            yield
        finally:
            self.give_back(use, size)

    # For the one cache.

    def on_need(self, evict: Callable[[int], None]) -> None:
        """Have *evict* called when that many cached bytes must go; it calls :meth:`evicted`."""
        assert self._evict is None, "there is one cache"
        self._evict = evict

    def cache(self, size: int) -> None:
        """Say that *size* bytes taken for blocks are only cached from now on."""
        self._cached += size
        self.give_back(Use.BLOCKS, size)

    def evicted(self, size: int) -> None:
        """Say that *size* cached bytes are gone."""
        assert size <= self._cached
        self._cached -= size

    def check(self) -> None:
        """Assert the invariants; for tests."""
        assert sum(max(self._taken[use], self._floors[use]) for use in Use) <= self.total_bytes
        assert 0 <= self.used_bytes <= self.total_bytes
        assert all(size >= 0 for size in self._taken.values())
        passed: dict[Use, int] = {}
        for waiter in self._waiters:
            assert not waiter.is_served.is_set()
            assert waiter.use in passed or waiter.size > self._room(waiter.use, passed)
            passed.setdefault(waiter.use, waiter.size)

    def _first_waiting(self) -> dict[Use, int]:
        """Return what the first in the queue of each use waits for."""
        first: dict[Use, int] = {}
        for waiter in self._waiters:
            first.setdefault(waiter.use, waiter.size)
        return first

    def _room(self, use: Use, passed: Mapping[Use, int]) -> int:
        """Return the room for *use* after those who came before and wait, *passed*, have theirs.

        The floor is there for its use whoever waits: nobody else can get it.
        """
        others = sum(
            max(self._taken[other] + passed.get(other, 0), floor)
            for other, floor in self._floors.items()
            if other is not use
        )
        return max(self.total_bytes - others, self._floors[use]) - self._taken[use]

    def _take(self, use: Use, size: int) -> None:
        self._taken[use] += size
        self._evict_excess()

    def _evict_excess(self) -> None:
        excess = self.used_bytes - self.total_bytes
        if excess > 0:
            assert self._evict is not None
            self._evict(excess)
            assert self.used_bytes <= self.total_bytes, "the cache has not evicted what was needed"

    def _shrink_and_serve(self) -> None:
        if self.total_bytes > self._wanted_bytes:
            self._settle_total()
        self._serve()

    def _serve(self) -> None:
        """Let in whoever has room by now, without passing over those who came before."""
        passed: dict[Use, int] = {}
        for waiter in list(self._waiters):
            if waiter.use in passed or waiter.size > self._room(waiter.use, passed):
                passed.setdefault(waiter.use, waiter.size)
                if len(passed) == len(Use):
                    return
                continue
            self._waiters.remove(waiter)
            self._take(waiter.use, waiter.size)
            waiter.is_served.set()
