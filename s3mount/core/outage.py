"""When a server counts as out of reach, and how often it is asked whether it is back."""

from __future__ import annotations

from typing import Final

FAILURES: Final = 3
"""Requests in a row without an answer: one may have met a dead connection, and its repetition another."""
AFTER_S: Final = 10.0
"""Seconds without an answer: a server that is only restarted is back by then, and is waited for as ever."""
FIRST_PROBE_S: Final = 1.0
LONGEST_PROBE_S: Final = 10.0


class Outage:
    """The requests of a mount, seen as one sign of life or its absence.

    Args:
        after_s: as AFTER_S.
    """

    def __init__(self, after_s: float = AFTER_S) -> None:
        self._after_s = after_s
        self._failures = 0
        self._answered_s = float("-inf")
        self.since_s = float("inf")
        """When the first of the requests began that have had no answer since the last one that had."""
        self.is_on = False

    def failed(self, *, began_s: float, now_s: float) -> bool:
        """Note a request that got no answer; return whether that begins an outage."""
        self.since_s = min(self.since_s, max(began_s, self._answered_s))
        self._failures += 1
        if self.is_on or self._failures < FAILURES or now_s - self.since_s < self._after_s:
            return False
        self.is_on = True
        return True

    def answered(self, *, now_s: float) -> bool:
        """Note an answer, whatever it said; return whether that ends an outage."""
        ends = self.is_on
        self.is_on = False
        self._failures = 0
        self._answered_s = now_s
        self.since_s = float("inf")
        return ends


def probe_wait_s(failed: int, chance: float) -> float:
    """Return how long to wait before the next probe.

    Args:
        failed: probes of this outage so far.
        chance: from 0 up to 1, of an even distribution: many hosts must not come back in one moment.
    """
    bound_s = min(LONGEST_PROBE_S, FIRST_PROBE_S * (1 << min(failed, 30)))
    return bound_s * (1 + chance) / 2
