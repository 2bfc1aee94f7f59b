"""Requests to a server that is out of reach fail at once, and it is found again without anybody's doing."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import trio
import trio.testing

from s3mount.core.objects import ByteRange, ObjectHeaders
from s3mount.errors import (
    AccessDenied,
    FsError,
    NoAnswer,
    NotFound,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
    Unreachable,
)
from s3mount.store.breaker import CircuitBreaker
from s3mount.store.checked import CheckedStore
from s3mount.store.client import ClientOptions, Connections, build_client
from s3mount.store.s3 import S3Store
from tests.support.counting_proxy import CountingProxy
from tests.support.fault_actions import ACCESS_DENIED, INTERNAL_ERROR, SLOW_DOWN, Action, Answer, Close
from tests.support.lying_server import listening
from tests.support.servers import Server, minio

PLAIN = ObjectHeaders()
WATCHDOG_S = 20.0
GATEWAY = Answer(502, b"<html><body>Bad Gateway</body></html>")


class Place:
    """A store whose breaker opens after a moment, and the proxy before its server."""

    def __init__(self, s3: S3Store, proxy: CountingProxy, bucket: str) -> None:
        self.s3 = s3
        self.store = CheckedStore(s3)
        self.breaker = s3.breaker
        self.proxy = proxy
        self.bucket = bucket

    async def break_it(self) -> None:
        """Ask until it opens."""
        while not self.breaker.is_open:
            with pytest.raises(FsError):
                await self.store.head("x")


def open_store(url: str, bucket: str, after_s: float = 0.1, **options: Any) -> S3Store:
    """Return a store whose breaker opens after *after_s*."""
    settings = {"bucket": bucket, "endpoint_url": url, "deadline_s": 0.5, "attempts": 1}
    made = ClientOptions(**{**settings, **options})
    # The shortest waits between probes, for they take the test's time.
    return S3Store(
        build_client(made), made, breaker=CircuitBreaker(url, after_s=after_s, chance=lambda: -0.9)
    )


@pytest.fixture
def keys(minio: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's."""
    for name, value in minio.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def place(minio: Server, keys: None) -> Iterator[Place]:
    """A fresh bucket on MinIO behind a proxy."""
    bucket = minio.fresh_bucket()
    with CountingProxy(minio.endpoint_url) as proxy:
        s3 = open_store(proxy.endpoint_url, bucket)
        yield Place(s3, proxy, bucket)
        s3.close()


def breaker_lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return what was logged: level, and what the server does."""
    lines = [record for record in caplog.records if record.name == "s3mount.store.breaker"]
    return [
        (record.levelname, "answers again" if "answers again" in record.getMessage() else "does not answer")
        for record in lines
        if record.levelno >= logging.INFO
    ]


@pytest.mark.parametrize("fault", [Close(), Close(reset=True), GATEWAY], ids=repr)
def test_an_outage_begins_and_ends_by_itself(
    place: Place, fault: Action, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is asked meanwhile but whether it is back; each end of it is one line in the log."""
    caplog.set_level(logging.INFO)

    async def work() -> None:
        async with place.s3.probing():
            with (
                place.proxy.rule(fault, operation="HeadObject"),
                place.proxy.rule(fault, operation="HeadBucket", last=2),
            ):
                if fault is GATEWAY:
                    while not place.breaker.is_open:
                        with pytest.raises(NoAnswer):
                            await place.store.head("x")
                else:
                    await place.break_it()
                place.proxy.clear()
                for _ in range(50):
                    for call in (
                        place.store.head("x"),
                        place.store.list_page(""),
                        place.store.put("x", b"body", PLAIN),
                        place.store.delete("x"),
                    ):
                        with pytest.raises(Unreachable, match="does not answer"):
                            await call
                with trio.fail_after(WATCHDOG_S):
                    await place.breaker.wait_closed()
            assert place.proxy.counts() == {"HeadBucket": 3}
            await place.store.put("x", b"body", PLAIN)
            await place.breaker.wait_closed()

    trio.run(work)
    assert breaker_lines(caplog) == [("WARNING", "does not answer"), ("INFO", "answers again")]


@pytest.mark.parametrize(
    "fault", [INTERNAL_ERROR, ACCESS_DENIED, SLOW_DOWN, Answer(200, b"<html/>")], ids=repr
)
def test_what_answers_is_in_reach(place: Place, fault: Action) -> None:
    """Be it with errors, with a refusal, or with what cannot be read: each request finds that out itself."""

    async def work() -> None:
        async with place.s3.probing():
            await place.store.put("x", b"body", PLAIN)
            with place.proxy.rule(fault):
                for _ in range(4):
                    with pytest.raises(StoreError if fault is not ACCESS_DENIED else AccessDenied):
                        await place.store.list_page("d/")
            assert not place.breaker.is_open

    trio.run(work)


def test_an_object_that_is_absent_is_an_answer(place: Place) -> None:
    """So is any other refusal: it ends an outage."""

    async def work() -> None:
        async with place.s3.probing():
            for _ in range(3):
                with place.proxy.rule(Close()):
                    for _ in range(2):
                        with pytest.raises(StoreUnavailable):
                            await place.store.head("x")
                with pytest.raises(NotFound):
                    await place.store.head("x")
            assert not place.breaker.is_open

    trio.run(work)


def test_one_object_that_is_never_answered_shuts_nobody_out(place: Place) -> None:
    """Others are, in between."""

    async def work() -> None:
        async with place.s3.probing():
            with place.proxy.rule(Close(), key="bad"):
                for _ in range(20):
                    with pytest.raises((StoreUnavailable, StoreTimeout)):
                        await place.store.head("bad")
                    await place.store.list_page("")
            assert not place.breaker.is_open

    trio.run(work)


def test_a_refusal_of_the_probe_is_a_sign_of_life(place: Place) -> None:
    """A policy may well forbid it."""

    async def work() -> None:
        async with place.s3.probing():
            with place.proxy.rule(Close(), operation="HeadObject"):
                await place.break_it()
                with place.proxy.rule(ACCESS_DENIED, operation="HeadBucket"), trio.fail_after(WATCHDOG_S):
                    await place.breaker.wait_closed()

    trio.run(work)


def test_who_waits_for_a_connection_does_not_wait_for_an_outage_to_end(keys: None) -> None:
    """When it opens, those who had not begun fail with it."""
    failures: list[type[FsError]] = []

    def serve(connection: socket.socket, ended: threading.Event) -> None:
        ended.wait(WATCHDOG_S)

    async def ask(store: CheckedStore) -> None:
        try:
            await store.head("x")
        except StoreError as exc:
            failures.append(type(exc))

    async def work(url: str) -> None:
        connections = Connections(1, 1, 1, 3)
        s3 = open_store(url, "bucket", deadline_s=600, read_timeout_s=0.3, connections=connections)
        async with s3.probing():
            with trio.fail_after(WATCHDOG_S):
                async with trio.open_nursery() as nursery:
                    for _ in range(23):
                        nursery.start_soon(ask, CheckedStore(s3))
        s3.close()

    with listening(serve) as url:
        trio.run(work, url)
    # Three hung, and at most three took their places before it opened.
    assert len(failures) == 23
    assert failures.count(Unreachable) >= 17


@pytest.fixture
def own_minio() -> Iterator[Server]:
    """A server that may be stopped."""
    with minio_process() as server:
        yield server


def minio_process() -> AbstractContextManager[Server]:
    """Start one more MinIO."""
    return minio()


def test_a_server_that_is_stopped_for_a_while(
    own_minio: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its kernel goes on accepting connections; requests end at their deadlines, then at once, then work."""
    caplog.set_level(logging.INFO)
    for name, value in own_minio.environment().items():
        monkeypatch.setenv(name, value)
    s3 = open_store(own_minio.endpoint_url, own_minio.fresh_bucket(), deadline_s=0.3)
    store = CheckedStore(s3)

    async def work() -> None:
        async with s3.probing():
            await store.put("x", b"body", PLAIN)
            os.kill(own_minio.pid, signal.SIGSTOP)
            with trio.fail_after(WATCHDOG_S):
                while not s3.breaker.is_open:
                    with pytest.raises(StoreError):
                        await store.get_into("x", ByteRange(0, 4), memoryview(bytearray(4)), if_match=None)
                for _ in range(100):
                    with pytest.raises(Unreachable):
                        await store.put("y", b"body", PLAIN)
                os.kill(own_minio.pid, signal.SIGCONT)
                await s3.breaker.wait_closed()
                await store.put("y", b"body", PLAIN)

    trio.run(work)
    s3.close()
    assert breaker_lines(caplog) == [("WARNING", "does not answer"), ("INFO", "answers again")]


def test_nobody_is_left_waiting_when_the_mount_ends(place: Place) -> None:
    """The end of the probing closes it, so that a last attempt is made."""

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            with place.proxy.rule(Close()):
                async with place.s3.probing():
                    await place.break_it()
                    nursery.start_soon(place.breaker.wait_closed)
                    await trio.testing.wait_all_tasks_blocked()
                assert not place.breaker.is_open
                for _ in range(10):
                    with pytest.raises(NoAnswer):
                        await place.store.head("x")
                assert not place.breaker.is_open

    trio.run(work)
