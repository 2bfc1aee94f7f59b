"""While the server is out of reach, requests fail at once instead of one deadline after the other."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio
from botocore.exceptions import ClientError

from s3mount.core.outage import AFTER_S, Outage, probe_wait_s
from s3mount.errors import (
    BadAnswer,
    FsError,
    NoAnswer,
    SlowDown,
    StoreTimeout,
    StoreUnavailable,
    Unreachable,
    collapsed,
)

log = logging.getLogger(__name__)


class CircuitBreaker:
    """Opens when nothing answers any more, closes when anything does; a :class:`~s3mount.store.base.Breaker`.

    It opens only inside :meth:`probing`, which closes it again.

    Args:
        name: of the server, for the log.
        after_s: seconds without an answer before it opens.
        chance: gives numbers from 0 up to 1, for the jitter of the probes.
    """

    def __init__(
        self, name: str, *, after_s: float = AFTER_S, chance: Callable[[], float] = random.random
    ) -> None:
        self._name = name
        self._chance = chance
        self._outage = Outage(after_s)
        self._is_probed = False
        self._opened = trio.Event()
        self._closed = trio.Event()
        self._waiting: set[trio.CancelScope] = set()

    @property
    def is_open(self) -> bool:
        return self._outage.is_on

    async def wait_open(self) -> None:
        while not self.is_open:
            await self._opened.wait()

    async def wait_closed(self) -> None:
        while self.is_open:
            await self._closed.wait()

    def check(self, what: str) -> None:
        """Raise Unreachable where it is open; *what* is the request that is not made."""
        if self.is_open:
            raise Unreachable(f"{what}: not asked, {self._name} does not answer for the time being")

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """While the block waits to make a request, let opening end the wait.

        Raises: Unreachable.
        """
        self.check(what)
        with trio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                yield
            finally:
                self._waiting.discard(scope)
        if scope.cancelled_caught:
            self.check(what)
            raise Unreachable(f"{what}: not asked, {self._name} did not answer")

    def note(self, failure: FsError | None, *, began_s: float) -> None:
        """Note what a request came to that began at *began_s*, in trio's time; None where it succeeded."""
        now_s = trio.current_time()
        if failure is None or is_answer(failure):
            since_s = self._outage.since_s
            if self._outage.answered(now_s=now_s):
                log.info("%s answers again, after %.0f s", self._name, now_s - since_s)
                self._close()
        elif self._is_probed and is_silence(failure) and self._outage.failed(began_s=began_s, now_s=now_s):
            log.warning(
                "%s does not answer; what needs it fails at once until it does: %s", self._name, failure
            )
            self._open()

    @asynccontextmanager
    async def probing(self, probe: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """While the block runs, it may open; *probe* asks then, now and again, whether the server is back.

        What comes of a probe reaches :meth:`note` as of any other request.
        """
        self._is_probed = True
        try:
            with collapsed():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._probe, probe)
                    yield
                    nursery.cancel_scope.cancel()
        finally:
            self._is_probed = False
            if self._outage.answered(now_s=trio.current_time()):
                self._close()

    async def _probe(self, probe: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._opened.wait()
            failed = 0
            while self.is_open:
                with trio.move_on_after(probe_wait_s(failed, self._chance())):
                    await self._closed.wait()
                if self.is_open:
                    failed += 1
                    try:
                        await probe()
                    except FsError as exc:
                        log.debug("probe %d: %s", failed, exc)

    def _open(self) -> None:
        self._closed = trio.Event()
        self._opened.set()
        for scope in self._waiting:
            scope.cancel()

    def _close(self) -> None:
        self._opened = trio.Event()
        self._closed.set()


def is_silence(failure: FsError) -> bool:
    """Return whether *failure* is the absence of an answer, or a proxy's that had none to pass on."""
    return isinstance(failure, NoAnswer) or (
        # S3 has an answer of this kind as well: it waited for us.
        isinstance(failure, StoreTimeout) and not isinstance(failure.__cause__, ClientError)
    )


def is_answer(failure: FsError) -> bool:
    """Return whether the server has said something, be it what cannot be true.

    What fails on this side is neither; nor is SlowDown, which may be a proxy's before a dead server.
    """
    if isinstance(failure, SlowDown) or is_silence(failure):
        return False
    return isinstance(failure, BadAnswer | StoreUnavailable) or isinstance(failure.__cause__, ClientError)
