"""The memory of the block cache: which runs are in it, and which of them go when memory is needed."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from cachetools import LRUCache

from s3mount.data.budget import Budget, Use
from s3mount.data.run import Run


class RunShelf:
    """Runs that are here or on their way, their memory taken from *budget*.

    A run is *reserved* from the moment its fetch begins, and *settled* when it is filled and every
    reader that waited has its bytes; only settled runs are evicted, the least recently used first and
    always whole, so a buffer's memory really goes. Everything here is sync.

    INVARIANT: ``used_bytes`` is the cost of all runs, reserved and settled; for the budget the first are
    taken and the others cached.
    INVARIANT: every indexed run is reserved or settled, and not forgotten.
    """

    def __init__(self, budget: Budget) -> None:
        self.evicted_runs = 0
        self._budget = budget
        self._reserved_bytes = 0
        # The budget bounds it, and may be given another size.
        self._settled: LRUCache[Run, Run] = LRUCache(sys.maxsize, getsizeof=lambda run: run.cost)
        self._index: dict[str, dict[tuple[str, int], Run]] = {}
        self._hinted: dict[str, int] = {}
        budget.on_need(self._evict)

    @property
    def used_bytes(self) -> int:
        """Memory in use, in-flight runs included."""
        return self._reserved_bytes + int(self._settled.currsize)

    def find(self, key: str, etag: str, number: int) -> Run | None:
        """Return the run with this block, here or on its way."""
        blocks = self._index.get(key)
        return None if blocks is None else blocks.get((etag, number))

    def missing(self, key: str, etag: str, numbers: Iterable[int]) -> list[int]:
        """Return those of *numbers* that are neither here nor on their way."""
        blocks = self._index.get(key, {})
        return [number for number in numbers if (etag, number) not in blocks]

    def touch(self, run: Run, number: int) -> None:
        """Note that a reader took block *number*."""
        if run.is_settled:
            self._settled[run]  # looking it up makes it the most recently used
        if number in run.unread:
            run.unread.remove(number)
            self._unhint(run, 1)

    def reserve(self, run: Run) -> None:
        """Take *run* in before its fetch begins; the caller has taken its cost from the budget."""
        self._reserved_bytes += run.cost
        blocks = self._index.setdefault(run.key, {})
        for number in run.blocks:
            blocks[run.etag, number] = run
        if run.unread:
            self._hinted[run.key] = self._hinted.get(run.key, 0) + self._block_cost(run) * len(run.unread)

    def settle(self, run: Run) -> None:
        """A filled run that nobody waits for any more may be evicted from now on."""
        self._reserved_bytes -= run.cost
        if run.is_forgotten:
            self._budget.give_back(Use.BLOCKS, run.cost)
        else:
            run.is_settled = True
            self._settled[run] = run
            self._budget.cache(run.cost)

    def release(self, run: Run) -> None:
        """Take a run out whose fetch failed."""
        self._reserved_bytes -= run.cost
        self._dropped(run)
        self._budget.give_back(Use.BLOCKS, run.cost)

    def forget(self, key: str) -> None:
        """Drop every block of *key*; a run in flight still reaches those who wait for it."""
        for run in set(self._index.get(key, {}).values()):
            if run.is_settled:
                del self._settled[run]
                self._budget.evicted(run.cost)
            run.is_forgotten = True
            self._dropped(run)

    def hint_room(self, key: str) -> int:
        """Return how many bytes may be fetched ahead for *key* now.

        What was fetched ahead and not read yet takes at most half of the memory, in equal shares for
        all objects that are being read so: otherwise many readers' windows would evict each other
        before anyone reads them.
        """
        budget = self._budget.total_bytes // 2
        own = self._hinted.get(key, 0)
        readers = len(self._hinted) + (key not in self._hinted)
        return max(0, min(budget - sum(self._hinted.values()), budget // readers - own))

    def check(self) -> None:
        """Assert the invariants."""
        indexed = {run for blocks in self._index.values() for run in blocks.values()}
        settled = set(self._settled)
        assert settled <= indexed
        assert all(run.is_settled and run.is_ready and not run.waiters for run in settled)
        assert not any(run.is_forgotten for run in indexed)
        in_flight = sum(run.cost for run in indexed - settled)
        assert in_flight <= self._reserved_bytes  # forgotten runs in flight are no longer indexed
        assert sum(run.cost for run in settled) == self._settled.currsize
        assert self._reserved_bytes <= self._budget.taken_bytes(Use.BLOCKS)
        self._budget.check()
        hinted: dict[str, int] = {}
        for run in indexed:
            if run.unread:
                hinted[run.key] = hinted.get(run.key, 0) + self._block_cost(run) * len(run.unread)
        assert hinted == self._hinted

    def _evict(self, size: int) -> None:
        """Let at least *size* bytes of settled runs go."""
        while size > 0:
            victim, _ = self._settled.popitem()
            self._dropped(victim)
            self.evicted_runs += 1
            self._budget.evicted(victim.cost)
            size -= victim.cost

    def _dropped(self, run: Run) -> None:
        """Forget where the blocks of *run* are."""
        run.is_settled = False
        blocks = self._index.get(run.key, {})
        for number in run.blocks:
            if blocks.get((run.etag, number)) is run:
                del blocks[run.etag, number]
        if not blocks:
            self._index.pop(run.key, None)
        self._unhint(run, len(run.unread))
        run.unread.clear()

    def _unhint(self, run: Run, count: int) -> None:
        if count:
            self._hinted[run.key] -= self._block_cost(run) * count
            if not self._hinted[run.key]:
                del self._hinted[run.key]

    @staticmethod
    def _block_cost(run: Run) -> int:
        return -(-run.cost // len(run.blocks))
