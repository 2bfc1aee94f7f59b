"""Verified blocks in memory: one fetch per missing run, shared by all who want it."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import trio

from s3mount.core.blocks import blocks_of, clip, runs_of, span_of
from s3mount.core.objects import ByteRange, ObjectStat
from s3mount.data.budget import Budget, Use
from s3mount.data.cache_statistics import CacheStatistics
from s3mount.data.reply import Reply
from s3mount.data.run import Run, run_cost
from s3mount.data.shelf import RunShelf
from s3mount.errors import (
    BadAnswer,
    InvalidArgument,
    NotFound,
    StaleObject,
    StoreTimeout,
    StoreUnavailable,
    collapsed,
)
from s3mount.store.base import ObjectStore

MIB = 1 << 20

Buffer = bytes | memoryview

PASSING = (StoreUnavailable, StoreTimeout)
"""Failures of a hint that say nothing about whether a reader's own fetch would fail."""

HINTS_PER_BACKGROUND_RUN = 4
"""Hints that may wait for each background fetch; what waits longer than that comes too late."""


class BlockCache:
    """Blocks by key, ETag and number, in memory that a :class:`Budget` gives.

    What is missing is fetched a run at a time (see :mod:`s3mount.data.run`), bound to the ETag of the
    caller's stat. A fetch belongs to the cache's own nursery, so it survives the reader that began it.
    A reader who finds no room waits in the budget's queue, holding nothing meanwhile; a hint that finds
    none is dropped.

    INVARIANT: a run that waits to be filled or taken is reserved on the shelf.
    """

    def __init__(
        self,
        store: ObjectStore,
        nursery: trio.Nursery,
        budget: Budget,
        *,
        block_size: int = MIB,
        max_run_bytes: int = 8 * MIB,
        background_runs: int = 8,
    ) -> None:
        """Use :meth:`open`."""
        most = budget.most_bytes(Use.BLOCKS)
        if most < run_cost(block_size):
            raise ValueError(f"a cache of {most} bytes cannot hold one block of {block_size}")
        self.block_size = block_size
        self._store = store
        self._nursery = nursery
        self._budget = budget
        self._shelf = RunShelf(budget)
        self._overhead = run_cost(block_size) - block_size
        self._max_run_bytes = max_run_bytes
        self._background_runs = background_runs
        self._background_now = 0
        self._hints: deque[tuple[ObjectStat, range]] = deque()
        self._hits = self._misses = self._gets = self._fetched_bytes = 0
        self._background_gets = self._dropped_hints = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        store: ObjectStore,
        budget: Budget,
        *,
        block_size: int = MIB,
        max_run_bytes: int = 8 * MIB,
        background_runs: int = 8,
    ) -> AsyncIterator[BlockCache]:
        """Open a cache; what it still fetches when the block is left is cancelled.

        Args:
            budget: gives the memory for blocks, fetches in flight included; at least one block's.
            block_size: in bytes; the unit of what is known to be here.
            max_run_bytes: the most that one GET fetches.
            background_runs: how many hints are fetched at once.
        """
        with collapsed():
            async with trio.open_nursery() as nursery:
                yield cls(
                    store,
                    nursery,
                    budget,
                    block_size=block_size,
                    max_run_bytes=max_run_bytes,
                    background_runs=background_runs,
                )
                nursery.cancel_scope.cancel()

    @property
    def _max_blocks(self) -> int:
        most = min(self._max_run_bytes, self._budget.most_bytes(Use.BLOCKS) - self._overhead)
        return max(1, most // self.block_size)

    @property
    def used_bytes(self) -> int:
        """Memory in use, fetches in flight included."""
        return self._shelf.used_bytes

    def statistics(self) -> CacheStatistics:
        """Return the counts so far."""
        return CacheStatistics(
            hits=self._hits,
            misses=self._misses,
            gets=self._gets,
            fetched_bytes=self._fetched_bytes,
            background_gets=self._background_gets,
            dropped_hints=self._dropped_hints,
            evicted_runs=self._shelf.evicted_runs,
            used_bytes=self._shelf.used_bytes,
            capacity_bytes=self._budget.total_bytes,
        )

    def check(self) -> None:
        """Assert the invariants; for tests."""
        self._shelf.check()

    def forget(self, key: str) -> None:
        """Drop what is known of *key*, every version."""
        self._shelf.forget(key)

    async def read(self, stat: ObjectStat, span: ByteRange) -> Buffer:
        """Return the bytes of *span* that lie within the object, exactly; empty beyond its end.

        A memoryview keeps a run's memory: use it up, do not keep it. Blocks that are here are returned
        without a checkpoint.

        Cancel: at once; what is being fetched still arrives, for others.
        Raises: StaleObject (the object is no longer that of *stat*), what the store raises.
        """
        span = clip(span, stat.size)
        if not span.size:
            return b""
        numbers = blocks_of(span, self.block_size)
        run = self._shelf.find(stat.key, stat.etag, numbers.start)
        if run is not None and run.is_ready and numbers.stop <= run.blocks.stop:
            self._hits += len(numbers)
            return self._take(run, numbers, span)
        return await self._gather(stat, span, numbers)

    def offer(self, stat: ObjectStat, blocks: range) -> None:
        """Suggest to fetch *blocks*, which someone may read soon. Never waits, may do nothing."""
        if not blocks:
            return
        for group in runs_of(self._shelf.missing(stat.key, stat.etag, blocks), self._max_blocks):
            if len(self._hints) >= HINTS_PER_BACKGROUND_RUN * self._background_runs:
                self._dropped_hints += 1
            else:
                self._hints.append((stat, group))
        self._start_hints()

    def keep(self, stat: ObjectStat, data: Buffer) -> None:
        """Take in the whole of an object that was just written, so that reading it back asks for nothing.

        Only up to one block, and only where there is room: like a hint, it may do nothing.
        """
        if not data or len(data) > self.block_size or self._shelf.find(stat.key, stat.etag, 0) is not None:
            return
        span = ByteRange(0, len(data))
        run = Run(stat, range(1), span, background=False)
        if not self._budget.try_take(Use.BLOCKS, run.cost):
            return
        self._shelf.reserve(run)
        run.buffer[:] = data
        run.done.set()
        self._shelf.settle(run)

    def carry_over(self, old: ObjectStat, new: ObjectStat) -> None:
        """Say that *new* has the bytes of *old*, after a copy inside the server. As lossy as ``keep``."""
        run = self._shelf.find(old.key, old.etag, 0)
        if run is not None and run.is_ready and run.span == ByteRange(0, new.size):
            self.keep(new, run.buffer)

    async def _gather(self, stat: ObjectStat, span: ByteRange, numbers: range) -> Buffer:
        """Collect the blocks of *span*, from here, from fetches in flight and from new ones."""
        reply = Reply(span, self.block_size)
        todo = list(numbers)
        may_retry = True
        while todo:
            wanted = self._join(stat, todo, reply)
            if todo and not wanted:
                wanted = await self._join_when_room(stat, todo)
            failed: list[int] = []
            try:
                while wanted:
                    run, its = wanted[0]
                    await run.done.wait()
                    if run.error is None and its == list(numbers):
                        return self._take(run, its, span)
                    if run.error is None:
                        self._touch(run, its)
                        reply.put(run, its)
                    elif may_retry and run.background and isinstance(run.error, PASSING):
                        failed += its
                    else:
                        raise copy.copy(run.error) from run.error  # to each waiter its own traceback
                    self._leave(wanted.pop(0)[0])
            finally:
                for run, _ in wanted:
                    self._leave(run)
            may_retry = may_retry and not failed
            todo = sorted(todo + failed)
        return reply.finished()

    def _join(self, stat: ObjectStat, todo: list[int], reply: Reply) -> list[tuple[Run, list[int]]]:
        """Copy the blocks that are here; wait for those on their way; begin to fetch where there is room.

        Returns the runs to wait for, each with the blocks wanted of it; *todo* keeps the rest.
        """
        wanted: dict[Run, list[int]] = {}
        missing: list[int] = []
        for number in todo:
            run = self._shelf.find(stat.key, stat.etag, number)
            if run is None:
                missing.append(number)
            elif run.is_ready:
                self._hits += 1
                self._touch(run, [number])
                reply.put(run, [number])
            else:
                wanted.setdefault(run, []).append(number)
        todo.clear()
        for group in runs_of(missing, self._max_blocks):
            if self._budget.try_take(Use.BLOCKS, self._cost(stat, group)):
                wanted[self._start(stat, group, background=False)] = list(group)
            else:
                todo += group
        for run, its in wanted.items():
            self._misses += len(its)
            run.waiters += 1
        return list(wanted.items())

    async def _join_when_room(self, stat: ObjectStat, todo: list[int]) -> list[tuple[Run, list[int]]]:
        """Queue for room for the first run of *todo*; it may be that someone else fetches it meanwhile."""
        wanted = runs_of(todo, self._max_blocks)[0]
        cost = self._cost(stat, wanted)
        await self._budget.take(Use.BLOCKS, cost)
        missing = self._shelf.missing(stat.key, stat.etag, wanted)
        group = runs_of(missing, self._max_blocks)[0] if missing else range(0)
        self._budget.give_back(Use.BLOCKS, cost - (self._cost(stat, group) if group else 0))
        if not group:
            return []
        run = self._start(stat, group, background=False)
        run.waiters += 1
        self._misses += len(group)
        todo[:] = [number for number in todo if number not in group]
        return [(run, list(group))]

    def _start(self, stat: ObjectStat, blocks: range, *, background: bool) -> Run:
        """Begin to fetch *blocks*, whose cost the caller has taken from the budget.

        Raises: StoreUnavailable (the system itself has no memory); the cost is given back.
        """
        span = span_of(blocks, self.block_size, stat.size)
        try:
            run = Run(stat, blocks, span, background=background)
        except (OSError, MemoryError) as exc:  # the system has less than we were promised
            self._budget.give_back(Use.BLOCKS, run_cost(span.size))
            raise StoreUnavailable(f"{stat.key}: no memory for {span.size} bytes") from exc
        self._shelf.reserve(run)
        self._gets += 1
        self._background_gets += background
        self._background_now += background
        self._nursery.start_soon(self._fill, run)
        return run

    async def _fill(self, run: Run) -> None:
        """Fetch *run*; its failure goes to those who wait, and is not kept."""
        try:
            try:
                await self._fetch(run)
            except (NotFound, InvalidArgument) as exc:
                raise StaleObject(f"{run.key} is gone, or smaller than it was: {exc}") from exc
        except Exception as exc:  # noqa: BLE001  (handed to whoever waits)
            run.fail(exc)
        except BaseException:
            run.fail(StoreUnavailable(f"{run.key}: the mount is going down"))
            raise
        finally:
            self._background_now -= run.background
            run.done.set()
            if run.error is not None:
                self._shelf.release(run)
            elif not run.waiters:
                self._shelf.settle(run)
            self._start_hints()

    async def _fetch(self, run: Run) -> None:
        answer = await self._store.get_into(
            run.key,
            run.span,
            run.buffer,
            if_match=run.etag,
            is_whole=run.is_whole,
            background=run.background,
        )
        complaint = run.complaint(answer)
        if complaint:
            raise BadAnswer(f"GET {run.key} bytes {run.span.start}-{run.span.stop}: {complaint}")
        self._fetched_bytes += run.span.size

    def _leave(self, run: Run) -> None:
        """A reader has what it wanted of *run*, or has gone."""
        run.waiters -= 1
        if not run.waiters and run.is_ready:
            self._shelf.settle(run)

    def _start_hints(self) -> None:
        """Begin to fetch hints in order, as far as there are room and background fetches free."""
        while self._hints and self._background_now < self._background_runs:
            stat, blocks = self._hints.popleft()
            groups = runs_of(self._shelf.missing(stat.key, stat.etag, blocks), self._max_blocks)
            if not groups:
                continue
            self._hints.extendleft((stat, group) for group in reversed(groups[1:]))
            room = min(self._shelf.hint_room(stat.key), self._budget.room_bytes(Use.BLOCKS)) - self._overhead
            wanted = groups[0][: max(0, room) // self.block_size]
            if wanted and self._budget.try_take(Use.BLOCKS, self._cost(stat, wanted)):
                try:
                    self._start(stat, wanted, background=True)
                except StoreUnavailable:
                    wanted = wanted[:0]
            if len(wanted) < len(groups[0]):
                self._dropped_hints += 1

    def _cost(self, stat: ObjectStat, blocks: range) -> int:
        return run_cost(span_of(blocks, self.block_size, stat.size).size)

    def _touch(self, run: Run, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._shelf.touch(run, number)

    def _take(self, run: Run, numbers: Iterable[int], span: ByteRange) -> memoryview:
        self._touch(run, numbers)
        return run.view(span)
