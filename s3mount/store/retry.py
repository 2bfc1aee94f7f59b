"""The one place where requests are repeated: botocore makes one attempt, the rest is decided here."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from s3mount.core.retries import Fault, RetryPolicy
from s3mount.errors import (
    BadAnswer,
    FsError,
    NoSuchBucket,
    SlowDown,
    StoreTimeout,
    StoreUnavailable,
    Unreachable,
)

log = logging.getLogger(__name__)
T = TypeVar("T")


class Retrier:
    """Makes attempts until one succeeds, the policy gives up, or the deadline is there.

    Args:
        chance: gives numbers from 0 up to 1, for the jitter.
    """

    def __init__(self, policy: RetryPolicy, *, chance: Callable[[], float] = random.random) -> None:
        self._policy = policy
        self._chance = chance

    async def run(self, what: str, attempt: Callable[[float], Awaitable[T]], *, within_s: float) -> T:
        """Return what *attempt* does; it is given the deadline, in trio's time, and may end at it itself.

        The deadline is *within_s* from now, or the caller's own if that is nearer: also an attempt that is
        shielded from being cancelled ends at it.

        Cancel: waits between attempts end at once; attempts are cancelled, and decide for themselves.
        Raises: what the last attempt raised; StoreTimeout if the deadline came in an attempt.
        """
        stop = min(trio.current_time() + within_s, trio.current_effective_deadline())
        failed = 0
        last: FsError | None = None
        with trio.CancelScope(deadline=stop):
            while True:
                try:
                    return await attempt(stop)
                except FsError as exc:
                    last = exc
                failed += 1
                wait_s = self._wait_s(last, failed, stop)
                if wait_s is None:
                    raise last
                log.debug("%s: try %d failed, the next in %.2f s: %s", what, failed, wait_s, last)
                await trio.sleep(wait_s)
        before = f"; before: {last}" if last is not None else ""
        raise StoreTimeout(f"{what}: no whole answer within {within_s:.1f} s{before}") from last

    def _wait_s(self, failure: FsError, failed: int, stop: float) -> float | None:
        return self._policy.wait_s(
            fault_of(failure),
            failed=failed,
            left_s=stop - trio.current_time(),
            asked_s=failure.retry_after_s if isinstance(failure, SlowDown) else None,
            chance=self._chance(),
        )


def fault_of(failure: FsError) -> Fault:
    """Return what *failure* says about the next try."""
    match failure:
        case SlowDown():
            return Fault.SLOW_DOWN
        case NoSuchBucket() | Unreachable():
            return Fault.PERMANENT
        case StoreUnavailable() | StoreTimeout():
            return Fault.PASSING
        case BadAnswer():
            return Fault.GARBLED
    return Fault.PERMANENT
