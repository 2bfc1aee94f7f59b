"""One call of the store: attempts in worker threads, each of which whoever gives it up can end."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import trio
from botocore.exceptions import ClientError

from s3mount.core.deadlines import with_transfer
from s3mount.core.progress import Sending
from s3mount.core.retries import Fault
from s3mount.errors import FsError, StoreTimeout
from s3mount.store.breaker import CircuitBreaker
from s3mount.store.exchange import Exchange
from s3mount.store.limits import Limits
from s3mount.store.lost_answers import Tries
from s3mount.store.request_counts import RequestCounts
from s3mount.store.retry import Retrier, fault_of
from s3mount.store.translate import translate
from s3mount.store.turns import Turns

T = TypeVar("T")

Settle = Callable[[ClientError, Tries], T | None]
"""Gives the answer in place of a failure that is none: an earlier try was carried out unheard."""


class Repair(Protocol):
    """What can be put right on this side when the server refuses, so that the same request succeeds."""

    @property
    def generation(self) -> Any:
        """The state that requests are made with."""

    def mend(self, refusal: ClientError, generation: Any) -> bool:
        """Return whether a request made in *generation* is worth another try. In a worker thread."""


class Caller:
    """Carries calls out.

    Args:
        timeout_s: for a whole call, its repetitions included; what it moves adds to that, and so does what it
            waits at *limits*.
    """

    def __init__(
        self,
        retrier: Retrier,
        turns: Turns,
        breaker: CircuitBreaker,
        *,
        timeout_s: float,
        repairs: Sequence[Repair] = (),
        limits: Limits | None = None,
    ) -> None:
        self._retrier = retrier
        self._turns = turns
        self._breaker = breaker
        self._timeout_s = timeout_s
        self._repairs = repairs
        self._limits = limits or Limits()
        self._probe_limiter = trio.CapacityLimiter(1)
        self._probe_turns = Turns(1)
        #: What has become of all requests so far.
        self.counts = RequestCounts()
        self._exchanges: set[Exchange] = set()
        self._sent_bytes = 0

    def sending(self) -> Sending:
        """Return how much has gone out, by requests that are under way as well, and whether any waits to."""
        under_way = sum(exchange.sent_bytes for exchange in self._exchanges)
        is_held_back = bool(self._limits.upload.waiting or self._limits.requests.waiting)
        return Sending(self._sent_bytes + under_way, is_held_back)

    async def read(
        self,
        operation: str,
        key: str,
        call: Callable[[], T],
        limiter: trio.CapacityLimiter,
        *,
        size: int = 0,
        background: bool = False,
    ) -> T:
        """Run *call*, whose answer *size* bytes long may be.

        Cancel: returns at once; the connection is ended, and its thread with it.
        Raises: what *call* raises, translated; StoreTimeout.
        """
        await self._limits.download.enter(size, background=background)
        await self._limits.requests.enter(1, background=background)
        return await self._call(
            operation, key, call, limiter, size=size, background=background, must_end=False, settle=None
        )

    async def write(
        self,
        operation: str,
        key: str,
        call: Callable[[], T],
        limiter: trio.CapacityLimiter,
        *,
        size: int = 0,
        sends: int = 0,
        settle: Settle[T] | None = None,
    ) -> T:
        """Run *call*, which sends or has the server move *size* bytes, *sends* of them from here.

        Cancel: an attempt that has begun ends first, or nobody would know what it did; but not beyond
        the deadline, its caller's included.
        Raises: as :meth:`read`. After StoreTimeout and StoreUnavailable it may yet have been carried out.
        """
        await self._limits.upload.enter(sends)
        await self._limits.requests.enter(1)
        return await self._call(
            operation, key, call, limiter, size=size, background=False, must_end=True, settle=settle
        )

    async def _call(
        self,
        operation: str,
        key: str,
        call: Callable[[], T],
        limiter: trio.CapacityLimiter,
        *,
        size: int,
        background: bool,
        must_end: bool,
        settle: Settle[T] | None,
    ) -> T:
        what = f"{operation} {key!r}"
        tries = Tries()
        work = functools.partial(self._in_thread, operation, key, call, settle, tries)
        subject = _Subject(operation, size)

        async def attempt(stop: float) -> T:
            with trio.CancelScope(deadline=stop) as scope:
                turn = _Turn(
                    limiter,
                    self._turns,
                    scope,
                    functools.partial(self._breaker.waiting, what),
                    background=background,
                    must_end=must_end,
                )
                return await self._attempt(work, subject, turn, tries, stop)
            tries.unanswered += 1
            raise StoreTimeout(f"{what}: no answer in time")

        return await self._retrier.run(what, attempt, within_s=with_transfer(self._timeout_s, size))

    async def probe(self, operation: str, call: Callable[[], Any], *, within_s: float) -> None:
        """Run *call* once, also where the breaker is open, which learns of what comes of it.

        It waits for no other request: those may hang.

        Raises: what *call* raises, translated; StoreTimeout.
        """
        stop = trio.current_time() + within_s
        work = functools.partial(self._in_thread, operation, "", call, None, Tries())
        with trio.CancelScope(deadline=stop) as scope:
            turn = _Turn(
                self._probe_limiter, self._probe_turns, scope, nullcontext, background=False, must_end=False
            )
            await self._attempt(work, _Subject(operation, 0), turn, Tries(), stop)
            return
        raise StoreTimeout(f"{operation}: no answer within {within_s:g} s")

    async def _attempt(
        self, work: Callable[[Exchange], T], subject: _Subject, turn: _Turn, tries: Tries, stop: float
    ) -> T:
        exchange = Exchange()
        self._exchanges.add(exchange)
        try:
            answer = await trio.to_thread.run_sync(
                # Documented to take whatever has a limiter's two methods; the class itself is final.
                work,
                exchange,
                limiter=cast(trio.CapacityLimiter, turn),
                abandon_on_cancel=True,
            )
        except FsError as exc:
            if turn.began_s is not None:
                passing = fault_of(exc) is not Fault.PERMANENT
                tries.unanswered += passing
                self._turns.learn(turn.epoch, exc if passing else None)
                self._breaker.note(exc, began_s=turn.began_s)
                self.counts.failed(subject.operation, trio.current_time() - turn.began_s, exc)
            raise
        except BaseException:
            exchange.abort()
            if turn.began_s is not None:
                now_s = trio.current_time()
                self.counts.given_up(subject.operation, now_s - turn.began_s)
                if now_s >= stop:
                    self._breaker.note(StoreTimeout("no answer in time"), began_s=turn.began_s)
            raise
        finally:
            self._exchanges.remove(exchange)
            self._sent_bytes += exchange.sent_bytes
        assert turn.began_s is not None
        self._turns.learn(turn.epoch, None)
        self._breaker.note(None, began_s=turn.began_s)
        self.counts.succeeded(subject.operation, trio.current_time() - turn.began_s, subject.size)
        return answer

    def _in_thread(
        self,
        operation: str,
        key: str,
        call: Callable[[], T],
        settle: Settle[T] | None,
        tries: Tries,
        exchange: Exchange,
    ) -> T:
        with exchange.running():
            try:
                return self._mended(call)
            except Exception as exc:  # noqa: BLE001  (translated below)
                failure = exc
            if settle is not None and isinstance(failure, ClientError):
                try:
                    if (answer := settle(failure, tries)) is not None:
                        return answer
                except Exception as exc:  # noqa: BLE001  (translated below)
                    failure = exc
            ours = translate(failure, operation, key)
            if ours is failure:
                raise ours
            raise ours from failure

    def _mended(self, call: Callable[[], T]) -> T:
        """Call *call*, once more after each repair that its refusal leads to."""
        left: dict[Repair, Any] = {repair: repair.generation for repair in self._repairs}
        while True:
            try:
                return call()
            except ClientError as refusal:
                mended = next((one for one in left if one.mend(refusal, left[one])), None)
                if mended is None:
                    raise
                del left[mended]


@dataclass(frozen=True, slots=True)
class _Subject:
    """What a request is, for the counts: S3's name for it, and the bytes that it moves."""

    operation: str
    size: int


class _Turn:
    """trio's limiter for one attempt: a thread of its purpose, a turn at the server, and no way back.

    Both are held until the thread has ended, abandoned or not: so threads do not pile up.

    Args:
        waiting: the context of the wait for both.
    """

    def __init__(
        self,
        limiter: trio.CapacityLimiter,
        turns: Turns,
        scope: trio.CancelScope,
        waiting: Callable[[], AbstractContextManager[None]],
        *,
        background: bool,
        must_end: bool,
    ) -> None:
        self._limiter = limiter
        self._turns = turns
        self._scope = scope
        self._waiting = waiting
        self._background = background
        self._must_end = must_end
        self.epoch = -1
        self.began_s: float | None = None
        """When the request began, in trio's time; None while it waits."""

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        with self._waiting():
            await self._limiter.acquire_on_behalf_of(borrower)
            try:
                self.epoch = await self._turns.take(background=self._background)
            except BaseException:
                self._limiter.release_on_behalf_of(borrower)
                raise
        self.began_s = trio.current_time()
        self._scope.shield = self._must_end

    def release_on_behalf_of(self, borrower: object) -> None:
        self._turns.give_back()
        self._limiter.release_on_behalf_of(borrower)
