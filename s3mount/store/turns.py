"""Turns at the server: the async side of :class:`~s3mount.core.concurrency_limit.ConcurrencyLimit`."""

from __future__ import annotations

import logging

import trio

from s3mount.core.concurrency_limit import ConcurrencyLimit
from s3mount.errors import SlowDown

log = logging.getLogger(__name__)


class Turns:
    """At most *ceiling* requests at once, fewer while the server asks for it.

    Waiting readers go before hints: of the two queues, the second moves only while the first is empty.
    """

    def __init__(self, ceiling: int) -> None:
        self._limit = ConcurrencyLimit(ceiling)
        #: Requests at once while the server asks for nothing.
        self.most = ceiling
        self._running = 0
        self._waiting = trio.lowlevel.ParkingLot()
        self._waiting_hints = trio.lowlevel.ParkingLot()

    @property
    def limit(self) -> int:
        """Requests at once, for the moment."""
        return self._limit.limit

    @property
    def running(self) -> int:
        """Requests that have a turn."""
        return self._running

    async def take(self, *, background: bool = False) -> int:
        """Wait for a turn; return the epoch in which it begins, which :meth:`learn` wants.

        Cancel: no turn was taken.
        """
        if self._running < self._limit.limit:
            self._running += 1
        else:
            # Whoever wakes this task has taken the turn for it, so nobody can come between.
            await (self._waiting_hints if background else self._waiting).park()
        return self._limit.epoch

    def give_back(self) -> None:
        """The request has ended, whatever came of it."""
        self._running -= 1
        self._wake()

    def learn(self, epoch: int, failure: Exception | None) -> None:
        """Note what a request begun in *epoch* came to; None where the server answered."""
        if isinstance(failure, SlowDown):
            if self._limit.slow_down(epoch):
                log.debug("the server asks for fewer requests: %d at once from now on", self.limit)
        elif failure is None and self._limit.answered():
            self._wake()

    def _wake(self) -> None:
        while self._running < self._limit.limit:
            lot = self._waiting if self._waiting else self._waiting_hints
            if not lot:
                return
            self._running += 1
            lot.unpark()
