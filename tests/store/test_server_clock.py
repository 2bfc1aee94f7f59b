"""A wrong clock does not keep a mount from its server, which refuses what is signed for another time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import trio
from botocore import auth

from s3mount.core.objects import ByteRange, ObjectHeaders
from s3mount.errors import AccessDenied
from s3mount.store.checked import CheckedStore
from tests.store.conftest import Place
from tests.support.fault_actions import ACCESS_DENIED, TIME_SKEWED, Headers

PLAIN = ObjectHeaders()


class Clock:
    """This machine's clock, as signing sees it."""

    def __init__(self) -> None:
        self.wrong_by = timedelta(0)
        self._right = auth.get_current_datetime

    def now(self) -> datetime:
        """Return the time, without a zone, in UTC."""
        now: datetime = self._right()
        return now + self.wrong_by


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that can be set."""
    made = Clock()
    monkeypatch.setattr(auth, "get_current_datetime", made.now)
    return made


CALLS: dict[str, Callable[[CheckedStore], Awaitable[Any]]] = {
    "HeadObject": lambda store: store.head("x"),
    "ListObjectsV2": lambda store: store.list_page(""),
    "GetObject": lambda store: store.get_into("x", ByteRange(0, 4), memoryview(bytearray(4)), if_match=None),
    "PutObject": lambda store: store.put("y", b"body", PLAIN),
    "DeleteObjects": lambda store: store.delete_many(["y"]),
}


async def run(call: Callable[[CheckedStore], Awaitable[Any]], store: CheckedStore) -> None:
    """Make one call."""
    await call(store)


@pytest.mark.parametrize("minutes", [-600, -20, 20, 600])
@pytest.mark.parametrize("operation", CALLS)
def test_requests_are_signed_with_the_servers_time(
    place: Place, clock: Clock, operation: str, minutes: int, caplog: pytest.LogCaptureFixture
) -> None:
    """One request is refused, one WARNING says why, and all later ones go through at once."""
    client = place.server.client()
    client.put_object(Bucket=place.bucket, Key="x", Body=b"body")
    client.close()
    store = place.open_store()
    clock.wrong_by = timedelta(minutes=minutes)
    for requests in (2, 3):
        trio.run(run, CALLS[operation], store)
        assert place.proxy.counts() == {operation: requests}
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "this machine's clock is wrong by" in warnings[0]


def test_a_clock_that_is_set_right_again(place: Place, clock: Clock) -> None:
    """The correction would be wrong then, and goes as it came."""
    store = place.open_store()
    for minutes, requests in ((30, 2), (0, 4), (0, 5), (-30, 7)):
        clock.wrong_by = timedelta(minutes=minutes)
        trio.run(store.list_page, "")
        assert place.proxy.counts() == {"ListObjectsV2": requests}


def test_a_clock_that_is_days_off_is_named(
    place: Place, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Not made up for: a forged Date would be answered with a signature that is good for next year."""
    store = place.open_store()
    clock.wrong_by = timedelta(days=400)
    for _ in range(3):
        with pytest.raises(AccessDenied, match="RequestTimeTooSkewed"):
            trio.run(store.list_page, "")
    assert place.proxy.counts() == {"ListObjectsV2": 3}
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert [text.partition(" by ")[0] for text in warnings] == ["this machine's clock is wrong"]
    assert "too much" in warnings[0]


@pytest.mark.parametrize("date", ["", "yesterday", None])
def test_without_a_date_there_is_nothing_to_learn(place: Place, clock: Clock, date: str | None) -> None:
    """The server's refusal is the error."""
    store = place.open_store()
    clock.wrong_by = timedelta(minutes=30)
    with (
        place.proxy.rule(Headers({"Date": date})),
        pytest.raises(AccessDenied, match="RequestTimeTooSkewed"),
    ):
        trio.run(store.list_page, "")
    assert place.proxy.counts() == {"ListObjectsV2": 1}


def test_a_server_that_always_says_so_is_asked_once_more_at_most(place: Place) -> None:
    """Where the clocks agree there is nothing to correct."""
    store = place.open_store()
    with place.proxy.rule(TIME_SKEWED), pytest.raises(AccessDenied, match="RequestTimeTooSkewed"):
        trio.run(store.list_page, "")
    assert place.proxy.counts()["ListObjectsV2"] <= 2


def test_a_missing_permission_is_not_blamed_on_the_clock(place: Place) -> None:
    """A HEAD that is not permitted is one request."""
    store = place.open_store()
    with place.proxy.rule(ACCESS_DENIED), pytest.raises(AccessDenied):
        trio.run(store.head, "x")
    assert place.proxy.counts() == {"HeadObject": 1}
