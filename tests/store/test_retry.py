"""Repetition, on a clock that jumps and a server that is a counter: who is asked how often, and when."""

from __future__ import annotations

import random
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest
import trio
import trio.testing

from s3mount.core.objects import ByteRange, ObjectHeaders
from s3mount.core.retries import RetryPolicy
from s3mount.errors import (
    AccessDenied,
    BadAnswer,
    FsError,
    NoAnswer,
    NoSuchBucket,
    NotFound,
    SlowDown,
    StoreTimeout,
    StoreUnavailable,
    Unreachable,
)
from s3mount.store.client import Connections
from s3mount.store.retry import Retrier
from s3mount.store.turns import Turns
from tests.store.conftest import Place
from tests.support.fault_actions import SLOW_DOWN, Action, Answer
from tests.support.fault_exchange import Exchange
from tests.support.fault_pieces import Piece

ANSWER_S = 0.01


def run(work: Callable[[], Awaitable[None]]) -> None:
    """Run on a clock that jumps to the next thing that happens."""
    trio.run(work, clock=trio.testing.MockClock(autojump_threshold=0))


class Server:
    """Fails in turn with *failures*, then answers; notes when it was asked."""

    def __init__(self, *failures: FsError) -> None:
        self._failures = list(failures)
        self.asked: list[float] = []

    async def answer(self, _stop: float) -> str:
        """Answer one attempt."""
        self.asked.append(trio.current_time())
        await trio.sleep(ANSWER_S)
        if self._failures:
            raise self._failures.pop(0)
        return "answer"


@pytest.mark.parametrize(
    ("failure", "attempts"),
    [
        (StoreUnavailable("reset"), 4),
        (StoreTimeout("silence"), 4),
        (BadAnswer("HTML"), 2),
        (NotFound("404"), 1),
        (AccessDenied("403"), 1),
        (NoSuchBucket("gone"), 1),
        (NoAnswer("refused"), 4),
        (Unreachable("not asked"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_how_often_what_fails_is_tried(failure: FsError, attempts: int) -> None:
    """And the caller gets the failure itself."""
    server = Server(*[failure] * 10)

    async def work() -> None:
        with pytest.raises(type(failure)) as raised:
            await Retrier(RetryPolicy(4)).run("it", server.answer, within_s=1000)
        assert raised.value is failure

    run(work)
    assert len(server.asked) == attempts


def test_a_failure_that_passes_is_not_seen() -> None:
    """The answer is."""
    server = Server(StoreUnavailable("reset"), StoreTimeout("silence"))

    async def work() -> None:
        assert await Retrier(RetryPolicy(4)).run("it", server.answer, within_s=1000) == "answer"

    run(work)
    assert len(server.asked) == 3


def test_an_hour_of_retry_after_does_not_take_the_deadline() -> None:
    """The last try is within it."""
    server = Server(*[SlowDown("busy", retry_after_s=3600)] * 1000)

    async def work() -> None:
        began = trio.current_time()
        with pytest.raises(SlowDown):
            await Retrier(RetryPolicy(4)).run("it", server.answer, within_s=60)
        assert trio.current_time() - began <= 60

    run(work)
    assert len(server.asked) < 20


def test_an_attempt_without_an_answer_ends_at_the_deadline() -> None:
    """The error says what had come before."""

    async def silent(_stop: float) -> None:
        if trio.current_time() < began + 1:
            raise SlowDown("busy")
        await trio.sleep_forever()

    async def work() -> None:
        nonlocal began
        began = trio.current_time()
        with pytest.raises(StoreTimeout, match="within 60.0 s; before: busy"):
            await Retrier(RetryPolicy(4)).run("it", silent, within_s=60)
        assert trio.current_time() - began == pytest.approx(60)

    began = 0.0
    run(work)


def test_the_callers_deadline_counts_where_it_is_nearer() -> None:
    """The attempt is told, since it may be shielded."""

    async def shielded(stop: float) -> None:
        with trio.CancelScope(deadline=stop, shield=True):
            await trio.sleep_forever()
        raise StoreTimeout("in time")

    async def work() -> None:
        began = trio.current_time()
        with trio.move_on_after(5), pytest.raises(StoreTimeout):
            await Retrier(RetryPolicy(4)).run("it", shielded, within_s=60)
        assert trio.current_time() - began == pytest.approx(5)

    run(work)


def test_a_cancelled_caller_does_not_wait_for_the_next_try() -> None:
    """Waits end at once."""
    server = Server(*[SlowDown("busy", retry_after_s=10)] * 10)

    async def work() -> None:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(Retrier(RetryPolicy(4)).run, "it", server.answer, within_s=60))
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began == pytest.approx(1)

    run(work)


class Storm:
    """A server that takes a number of requests a second, and answers SlowDown to the others."""

    def __init__(self, per_s: float, *, retry_after_s: float | None) -> None:
        self._per_s = per_s
        self._retry_after_s = retry_after_s
        self._room = per_s
        self._filled = -1.0
        self.asked = 0
        self.most_at_once = 0
        self._at_once = 0

    async def answer(self) -> None:
        """Answer one request, after :data:`ANSWER_S`."""
        self.asked += 1
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await trio.sleep(ANSWER_S)
        self._at_once -= 1
        now = trio.current_time()
        if self._filled >= 0:
            self._room = min(self._per_s, self._room + (now - self._filled) * self._per_s)
        self._filled = now
        if self._room < 1:
            raise SlowDown("busy", retry_after_s=self._retry_after_s)
        self._room -= 1


@pytest.mark.parametrize("retry_after_s", [None, 1.0])
@pytest.mark.parametrize("per_s", [0.0, 5.0, 100.0])
def test_a_storm_of_slow_down_is_not_made_worse(per_s: float, retry_after_s: float | None) -> None:
    """Forty callers together send at most twice what they have to say, and hardly one waits in vain."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed).random
    server = Storm(per_s, retry_after_s=retry_after_s)
    turns = Turns(40)
    retrier = Retrier(RetryPolicy(4), chance=chance)
    calls = 0
    errors: list[float] = []

    async def attempt(_stop: float) -> None:
        epoch = await turns.take()
        try:
            await server.answer()
        except SlowDown as exc:
            turns.learn(epoch, exc)
            raise
        finally:
            turns.give_back()
        turns.learn(epoch, None)

    async def caller() -> None:
        nonlocal calls
        # One call a second each, or as many as there are answers for.
        while trio.current_time() < until:
            calls += 1
            began = trio.current_time()
            try:
                await retrier.run("it", attempt, within_s=60)
            except (SlowDown, StoreTimeout):
                errors.append(trio.current_time() - began)
            await trio.sleep(max(0.0, began + 1 - trio.current_time()))

    async def work() -> None:
        nonlocal until
        until = trio.current_time() + 60
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(caller)

    until = 0.0
    run(work)
    offered = 40 * 60
    assert server.asked <= 2 * offered
    assert turns.running == 0
    # To the last second, but for what a last answer takes.
    assert all(error_s > 59 for error_s in errors)
    if per_s:
        assert len(errors) <= calls / 20
    if per_s >= 40:
        assert calls == offered
        assert not errors


def test_waiting_readers_go_before_hints_while_there_is_little_room() -> None:
    """Read-ahead gets the turns that nobody waits for."""
    order: list[str] = []

    async def one(name: str, background: bool) -> None:
        await turns.take(background=background)
        order.append(name)
        await trio.sleep(1)
        turns.give_back()

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            for name, background in (("a", True), ("hint", True), ("b", False), ("hint", True), ("c", False)):
                nursery.start_soon(one, name, background)
                await trio.testing.wait_all_tasks_blocked()

    turns = Turns(1)
    run(work)
    assert order == ["a", "b", "c", "hint", "hint"]
    assert turns.running == 0


def test_a_cancelled_wait_takes_no_turn() -> None:
    """And loses none that was given to it in the same moment."""

    async def work() -> None:
        await turns.take()
        for _ in range(3):
            with trio.move_on_after(1):
                await turns.take()
        async with trio.open_nursery() as nursery:

            async def waiter() -> None:
                with trio.move_on_after(5):
                    await turns.take()
                    turns.give_back()

            for _ in range(3):
                nursery.start_soon(waiter)
            await trio.sleep(5)
            turns.give_back()
        assert turns.running == 0

    turns = Turns(1)
    run(work)


class Crowded(Action):
    """A server that answers SlowDown to whoever comes while it answers *most* others."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._at_once = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Crowded({self._most})"

    def instead(self, exchange: Exchange) -> Answer | None:
        with self._lock:
            if self._at_once >= self._most:
                return Answer(503, SLOW_DOWN.body, {"Retry-After": "0"})
            self._at_once += 1
        exchange.sleep(0.02)
        return None

    def answer_body(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        try:
            yield from pieces
        finally:
            with self._lock:
                self._at_once -= 1


def test_a_crowded_server_gets_fewer_requests_and_then_more_again(place: Place) -> None:
    """All requests of the store together are cut, nobody sees an error, and the limit recovers by itself."""
    store = place.open_store(connections=Connections(8, 1, 1, 8))
    turns = store._inner._caller._turns  # type: ignore[attr-defined]

    async def caller() -> None:
        for _ in range(5):
            await store.list_page("d/")
            await store.get_into("x", ByteRange(0, 1), memoryview(bytearray(1)), if_match=None)

    async def work() -> None:
        await store.put("x", b"x", ObjectHeaders())
        with place.proxy.rule(Crowded(2)):
            async with trio.open_nursery() as nursery:
                for _ in range(16):
                    nursery.start_soon(caller)
        assert turns.limit < 18
        place.proxy.clear()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(caller)
        assert turns.limit == 18

    trio.run(work)
    assert turns.running == 0
    assert sum(place.proxy.counts().values()) == 200
