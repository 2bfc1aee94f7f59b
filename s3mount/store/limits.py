"""Limits of bytes and requests a second, at which requests wait before they begin."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from s3mount.core.token_bucket import TokenBucket

MOST_OVERTAKEN = 3
"""How many go before a hint that came earlier: a reader may be waiting for that very hint by now."""


@dataclass(eq=False, slots=True)
class _Ticket:
    background: bool
    overtaken: int = 0

    @property
    def may_be_overtaken(self) -> bool:
        return self.background and self.overtaken < MOST_OVERTAKEN


class Gate:
    """Lets through at most so much a second, in the order of coming; hints let a few others go first.

    Args:
        rate: a second; None lets everything through.
    """

    def __init__(self, rate: float | None = None) -> None:
        self._bucket = TokenBucket(rate)
        self._queue: list[_Ticket] = []
        self._changed = trio.Event()

    @property
    def waiting(self) -> int:
        """How many requests wait here."""
        return len(self._queue)

    def set_rate(self, rate: float | None) -> None:
        """Let *rate* hold from now on, for those who wait as well."""
        self._bucket.set_rate(rate, trio.current_time())
        self._wake()

    async def enter(self, amount: float, *, background: bool = False) -> None:
        """Wait until *amount* may go. Not a checkpoint where there is no limit.

        Cancel: nothing has gone.
        """
        if self._bucket.rate is None or not amount:
            return
        ticket = _Ticket(background)
        self._queue.append(ticket)
        try:
            while True:
                wait_s = self._bucket.wait_s(amount, trio.current_time())
                if self._first() is not ticket:
                    await self._changed.wait()
                elif wait_s > 0:
                    with trio.move_on_after(wait_s):
                        await self._changed.wait()
                else:
                    self._bucket.take(amount, trio.current_time())
                    self._note_overtaken(ticket)
                    return
        finally:
            self._queue.remove(ticket)
            self._wake()

    def _first(self) -> _Ticket:
        return next((ticket for ticket in self._queue if not ticket.may_be_overtaken), self._queue[0])

    def _note_overtaken(self, ticket: _Ticket) -> None:
        if self._queue[0] is not ticket:
            self._queue[0].overtaken += 1

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a mount's use of its server: bytes sent, bytes received and requests, each a second."""

    upload: Gate = field(default_factory=Gate)
    download: Gate = field(default_factory=Gate)
    requests: Gate = field(default_factory=Gate)
