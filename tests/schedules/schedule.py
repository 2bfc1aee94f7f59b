"""Seeded schedules: the same number gives the same order of tasks, the same waits and the same failures."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import trio
import trio._core._run as trio_run
from trio.testing import MockClock

from s3mount.errors import StoreTimeout, StoreUnavailable
from tests.support import totals
from tests.support.memory_store import Call

LONGEST_RUN_S = 3600.0
"""Of the schedule's own clock, which jumps: a task that still waits then waits for ever."""


class Weather:
    """What a request meets on its way, drawn from *rng*: a wait, and now and then a failure.

    Args:
        failing: the chance of an answer that does not come.
    """

    def __init__(self, rng: random.Random, failing: float) -> None:
        self.rng, self.failing = rng, failing
        self.failures = 0

    async def __call__(self, call: Call) -> None:
        """Be a hook of the memory store."""
        wait = self.rng.choice((0.0, 0.0, 0.001, 0.01, 0.1, 1.0))
        await trio.sleep(wait)
        if self.failing and self.rng.random() < self.failing:
            self.failures += 1
            raise self.rng.choice((StoreUnavailable, StoreTimeout))(f"{call.method} {call.key}")


def run_seeded(seed: int, history: Callable[[random.Random], Awaitable[None]]) -> None:
    """Run *history* on the schedule of *seed* and count it. A failure says which seed it was."""
    # What pytest-trio and hypothesis do: trio then orders its tasks by this generator alone.
    was, state = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate()
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio_run._r.seed(seed)

    async def main() -> None:
        with trio.fail_after(LONGEST_RUN_S):
            await history(random.Random(seed))

    try:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    except BaseException as exc:
        exc.add_note(f"the schedule of seed {seed}")
        raise
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = was
        trio_run._r.setstate(state)
    totals.count("histories checked")
