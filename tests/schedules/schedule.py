"""Seeded schedules: the same number gives the same order of tasks, the same waits and the same failures.

What would run in a thread runs at once: the order in which threads end is nobody's to choose.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

import trio
import trio._core._run as trio_run
from trio.testing import MockClock

from s3mount.errors import StoreTimeout, StoreUnavailable
from tests.support import totals
from tests.support.memory_store import Call

T = TypeVar("T")

LONGEST_RUN_S = 3600.0
"""Of the schedule's own clock, which jumps: a task that still waits then waits for ever."""


class Weather:
    """What a request meets on its way, drawn from *rng*: a wait, and now and then a failure.

    Args:
        failing: the chance of an answer that does not come.
        spares: the store's methods that always answer.
    """

    def __init__(self, rng: random.Random, failing: float, spares: Collection[str] = ()) -> None:
        self.rng, self.failing, self.spares = rng, failing, spares

    async def __call__(self, call: Call) -> None:
        """Be a hook of the memory store."""
        await sleep(self.rng, (0.0, 0.0, 0.001, 0.01, 0.1, 1.0))
        if call.method not in self.spares and self.rng.random() < self.failing:
            raise self.rng.choice((StoreUnavailable, StoreTimeout))(f"{call.method} {call.key}")


async def sleep(rng: random.Random, choices: tuple[float, ...]) -> None:
    """Wait for one of *choices*, about: of two that end at the very same time trio takes any first."""
    await trio.sleep(rng.choice(choices) + rng.random() * 1e-6)


async def _at_once(function: Callable[..., T], *args: Any, **_: Any) -> T:
    """Stand in for ``trio.to_thread.run_sync``."""
    await trio.lowlevel.checkpoint()
    result = function(*args)
    await trio.lowlevel.cancel_shielded_checkpoint()
    return result


def run_seeded(seed: int, history: Callable[[random.Random], Awaitable[None]]) -> None:
    """Run *history* on the schedule of *seed* and count it. A failure says which seed it was."""
    # What pytest-trio and hypothesis do: trio then orders its tasks by this generator alone.
    was, order, jitter = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate(), random.getstate()
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio_run._r.seed(seed)
    random.seed(seed)
    in_thread, trio.to_thread.run_sync = trio.to_thread.run_sync, _at_once  # type: ignore[assignment]

    async def main() -> None:
        with trio.fail_after(LONGEST_RUN_S):
            await history(random.Random(seed))

    try:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    except BaseException as exc:
        exc.add_note(f"the schedule of seed {seed}")
        raise
    finally:
        trio.to_thread.run_sync = in_thread
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = was
        trio_run._r.setstate(order)
        random.setstate(jitter)
    totals.count("histories checked")
