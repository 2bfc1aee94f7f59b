"""How long what is limited to so much a second has to wait."""

from __future__ import annotations

BURST_S = 1.0
"""What was not used in this time may be used later; more would be a rush after each pause."""


class TokenBucket:
    """At most *rate* a second, None for no limit, and at once what a bucket of one second holds.

    Who wants more than the bucket ever holds goes when it is full, and leaves a debt: those after it wait
    until that is paid. Time is the caller's, in seconds from any moment.

    INVARIANT: of all that went between two moments, all but the last is at most *rate* times that time and
    one bucket.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._balance = self._full()
        self._at_s: float | None = None

    @property
    def rate(self) -> float | None:
        """The limit."""
        return self._rate

    def set_rate(self, rate: float | None, now_s: float) -> None:
        """Let *rate* hold from now on. A debt stays, as the same number of seconds; without a limit none."""
        self._fill(now_s)
        debt_s = 0.0 if self._rate is None else max(0.0, -self._balance / self._rate)
        self._rate = rate
        self._balance = -debt_s * (rate or 0.0) if debt_s else min(self._balance, self._full())

    def wait_s(self, amount: float, now_s: float) -> float:
        """Return after how long *amount* may go, 0 for now."""
        if self._rate is None:
            return 0.0
        self._fill(now_s)
        missing = min(amount, self._full()) - self._balance
        # Less than that is what adding up times has lost.
        return missing / self._rate if missing > self._rate * 1e-6 else 0.0

    def take(self, amount: float, now_s: float) -> None:
        """Let *amount* go now; :meth:`wait_s` has said that it may."""
        self._fill(now_s)
        if self._rate is not None:
            self._balance -= amount

    def _full(self) -> float:
        return 0.0 if self._rate is None else max(1.0, self._rate * BURST_S)

    def _fill(self, now_s: float) -> None:
        if self._rate is not None and self._at_s is not None:
            self._balance = min(self._full(), self._balance + self._rate * max(0.0, now_s - self._at_s))
        self._at_s = now_s
