"""Whether a request that failed is sent again, and after how long."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Fault(Enum):
    """What a failure says about the next try."""

    PERMANENT = auto()
    """The server understood and refused: the next try would be refused as well."""
    PASSING = auto()
    """It was not reached, broke off, or failed itself."""
    SLOW_DOWN = auto()
    """It asks for fewer requests, and will answer when it gets fewer."""
    GARBLED = auto()
    """It answered what cannot be true: once more, since what garbles one answer may garble all."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a request is repeated.

    Args:
        attempts: tries of a request that fails on the way, the first included.
        first_wait_s: bounds the wait before the second try; the bound doubles with each.
        longest_wait_s: bounds every wait, also the one that a server asks for by Retry-After.
    """

    attempts: int
    first_wait_s: float = 0.2
    longest_wait_s: float = 10.0

    def wait_s(
        self, fault: Fault, *, failed: int, left_s: float, asked_s: float | None, chance: float
    ) -> float | None:
        """Return how long to wait before the next try; None to give up.

        Args:
            failed: tries so far, all of which failed; at least 1.
            left_s: what is left until the deadline.
            asked_s: what the server's Retry-After asks for.
            chance: from 0 up to 1, of an even distribution. Full jitter: tries of many callers that
                failed together spread evenly over the whole of the bound.
        """
        if fault is Fault.PERMANENT or left_s <= 0:
            return None
        if fault is Fault.SLOW_DOWN:
            if left_s <= self.first_wait_s:
                return None
        elif failed >= self._attempts(fault):
            return None
        # 2 ** 30 of them is for ever already, and no overflow.
        bound_s = min(self.longest_wait_s, self.first_wait_s * (1 << min(failed - 1, 30)))
        if fault is Fault.SLOW_DOWN:
            # The nearer the end the oftener, or those who come fresh would take every answer there is.
            bound_s = min(bound_s, left_s / 4)
        wait_s = chance * bound_s
        if asked_s is not None:
            # Those who were told the same moment must not all come at it.
            wait_s += min(asked_s, self.longest_wait_s)
        if wait_s < left_s:
            return wait_s
        # A storm may end in the last second. Half of the rest leaves time for an answer.
        return left_s / 2 if fault is Fault.SLOW_DOWN else None

    def _attempts(self, fault: Fault) -> int:
        return min(self.attempts, 2) if fault is Fault.GARBLED else self.attempts
