"""No request takes longer than its deadline, whatever its server does instead of answering."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from s3mount.core.objects import ByteRange, FileSlice, MultipartUpload, ObjectHeaders, PartTag
from s3mount.errors import StoreTimeout
from s3mount.store.checked import CheckedStore
from s3mount.store.client import ClientOptions, Connections, build_client
from s3mount.store.exchange import Exchange
from s3mount.store.s3 import S3Store
from tests.support.counting_proxy import CountingProxy
from tests.support.fault_actions import Drip, Hold, Stall, StallRequest
from tests.support.lying_server import Serve, listening, read_request
from tests.support.servers import Server, minio

PLAIN = ObjectHeaders()
KIB = 1024
DEADLINE_S = 0.2
WATCHDOG_S = 20.0
UPLOAD = MultipartUpload("x", "upload-id")


def put(size: int = 10) -> Callable[[CheckedStore], Awaitable[Any]]:
    """Return a PUT of so many bytes."""
    return lambda store: store.put("x", bytes(size), PLAIN)


def get(store: CheckedStore) -> Awaitable[Any]:
    """Read 64 KiB."""
    return store.get_into("x", ByteRange(0, 64 * KIB), memoryview(bytearray(64 * KIB)), if_match='"e"')


CALLS: dict[str, Callable[[CheckedStore], Awaitable[Any]]] = {
    "HEAD": lambda store: store.head("x"),
    "LIST": lambda store: store.list_page("d/"),
    "GET": get,
    "PUT": put(),
    "CREATE": lambda store: store.create_multipart("x", PLAIN),
    "PART": lambda store: store.upload_part(UPLOAD, 1, b"part"),
    "COMPLETE": lambda store: store.complete_multipart(UPLOAD, [PartTag(1, '"e"', 4)]),
    "ABORT": lambda store: store.abort_multipart(UPLOAD),
    "PARTS": lambda store: store.list_parts(UPLOAD),
    "UPLOADS": lambda store: store.list_multipart_uploads("x"),
    "DELETE": lambda store: store.delete("x"),
    "DELETES": lambda store: store.delete_many(["x", "y"]),
}


@pytest.fixture(autouse=True)
def some_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys to sign with."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "access")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def ends_at_the_deadline(call: Callable[[CheckedStore], Awaitable[Any]], **options: Any) -> None:
    """Two calls on one connection end with StoreTimeout, and no thread waits for the server after them."""
    settings = {"bucket": "bucket", "deadline_s": DEADLINE_S, "connections": Connections(1, 1, 1, 1)}
    made = ClientOptions(**{**settings, **options})
    s3 = S3Store(build_client(made), made)

    async def work() -> None:
        with trio.fail_after(WATCHDOG_S):
            for _ in range(2):
                with pytest.raises(StoreTimeout, match=r"within|in time"):
                    await call(CheckedStore(s3))
            await all_threads_ended(s3)

    try:
        trio.run(work)
    finally:
        s3.close()


async def all_threads_ended(s3: S3Store) -> None:
    """Wait until no thread holds one of the store's tokens, of which there is one of each kind."""
    for limiter in (s3._get_limiter, s3._background_limiter, s3._upload_limiter, s3._meta_limiter):
        async with limiter:
            pass
    assert s3._caller._turns.running == 0


def silent(connection: socket.socket, ended: threading.Event) -> None:
    """Take the request and say nothing."""
    read_request(connection)
    ended.wait(WATCHDOG_S)


def deaf(_: socket.socket, ended: threading.Event) -> None:
    """Accept and take nothing."""
    ended.wait(WATCHDOG_S)


def dripping(head: bytes) -> Serve:
    """Return what takes the request, answers *head*, and then a byte now and then."""

    def serve(connection: socket.socket, ended: threading.Event) -> None:
        read_request(connection)
        connection.sendall(head)
        while not ended.wait(0.02):
            connection.sendall(b"x")

    return serve


def sipping(connection: socket.socket, ended: threading.Event) -> None:
    """Take a few bytes of the request now and then."""
    while not ended.wait(0.02) and connection.recv(16):
        pass


ANSWERS: dict[str, Serve] = {
    "no answer": silent,
    "an endless status line": dripping(b""),
    "an endless header": dripping(b"HTTP/1.1 200 OK\r\nX-Header: "),
    "an endless interim answer": dripping(b"HTTP/1.1 100 Continue\r\nX-Header: "),
    "an endless body": dripping(b"HTTP/1.1 500 No\r\nContent-Length: 100000\r\n\r\n"),
}


@pytest.mark.parametrize(
    ("call", "answer"),
    # A HEAD's answer has no body to wait for.
    [(call, answer) for call in CALLS for answer in ANSWERS if (call, answer) != ("HEAD", "an endless body")],
)
def test_a_server_that_does_not_finish_its_answer(call: str, answer: str) -> None:
    """Every kind of request ends at the deadline, though a byte now and then never ends a read timeout."""
    with listening(ANSWERS[answer]) as url:
        ends_at_the_deadline(CALLS[call], endpoint_url=url)


def test_an_object_that_comes_drop_by_drop() -> None:
    """Its bytes are read until the deadline, and no longer."""
    head = (
        b'HTTP/1.1 206 OK\r\nETag: "e"\r\nContent-Range: bytes 0-65535/65536\r\nContent-Length: 65536\r\n\r\n'
    )
    with listening(dripping(head)) as url:
        ends_at_the_deadline(get, endpoint_url=url)


@pytest.mark.parametrize("serve", [deaf, sipping], ids=["takes nothing", "takes a few bytes"])
@pytest.mark.parametrize("kind", ["PUT", "PART"])
def test_an_upload_that_the_server_does_not_take(kind: str, serve: Serve, tmp_path: Path) -> None:
    """The sender waits in send(2), which no read timeout ends either."""
    path = tmp_path / "file"
    path.write_bytes(bytes(512 * KIB))
    with path.open("rb") as file, listening(serve, receive_buffer=4096) as url:
        body = FileSlice(file.fileno(), ByteRange(0, 512 * KIB))
        if kind == "PUT":
            ends_at_the_deadline(lambda store: store.put("x", body, PLAIN), endpoint_url=url)
        else:
            ends_at_the_deadline(lambda store: store.upload_part(UPLOAD, 1, body), endpoint_url=url)


def test_a_tls_handshake_that_is_not_answered() -> None:
    """The socket is known before it is wrapped, and can be ended."""
    with listening(deaf) as url:
        ends_at_the_deadline(
            CALLS["HEAD"], endpoint_url=url.replace("http:", "https:"), connect_timeout_s=30.0
        )


@pytest.fixture(scope="module")
def stopped() -> Iterator[Server]:
    """A MinIO that was stopped as it ran."""
    with minio() as server:
        server.fresh_bucket()
        os.kill(server.pid, signal.SIGSTOP)
        yield server


@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_is_stopped(call: str, stopped: Server) -> None:
    """The kernel still accepts connections for it, and takes what is sent."""
    ends_at_the_deadline(CALLS[call], endpoint_url=stopped.endpoint_url)


@pytest.mark.parametrize(
    "fault",
    [StallRequest(0), Stall(of="head"), Stall(1), Drip(20, of="head"), Drip(20)],
    ids=repr,
)
def test_a_real_server_behind_a_line_that_stalls(
    fault: Any, minio: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A LIST and an upload in parts, spoiled on their way."""
    for name, value in minio.environment().items():
        monkeypatch.setenv(name, value)
    with CountingProxy(minio.endpoint_url) as proxy, proxy.rule(fault):
        for call in (
            CALLS["PART" if isinstance(fault, StallRequest) else "LIST"],
            CALLS["DELETES"],
        ):
            ends_at_the_deadline(call, endpoint_url=proxy.endpoint_url, bucket=minio.fresh_bucket())


def test_the_callers_deadline_ends_a_write_that_has_begun() -> None:
    """It is not left to run on to the store's own."""

    async def work() -> None:
        with trio.fail_after(WATCHDOG_S):
            with trio.move_on_after(DEADLINE_S), pytest.raises(StoreTimeout):
                await CheckedStore(s3).put("x", b"body", PLAIN)
            await all_threads_ended(s3)

    with listening(silent) as url:
        options = ClientOptions(
            "bucket", endpoint_url=url, deadline_s=600, connections=Connections(1, 1, 1, 1)
        )
        s3 = S3Store(build_client(options), options)
        try:
            trio.run(work)
        finally:
            s3.close()


def test_a_write_that_was_given_up_is_not_sent_later(minio: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waited for its turn or for its thread when the deadline came never reaches the server."""
    for name, value in minio.environment().items():
        monkeypatch.setenv(name, value)
    hold = Hold()
    options = ClientOptions(minio.fresh_bucket(), connections=Connections(1, 1, 1, 1), deadline_s=DEADLINE_S)

    async def work(url: str) -> None:
        made = ClientOptions(**{**vars_of(options), "endpoint_url": url})
        s3 = S3Store(build_client(made), made)
        store = CheckedStore(s3)

        async def late(key: str) -> None:
            with pytest.raises(StoreTimeout):
                await store.put(key, b"body", PLAIN)

        async with trio.open_nursery() as nursery:
            for key in ("a", "b", "c"):
                nursery.start_soon(late, key)
        hold.release()
        await all_threads_ended(s3)
        s3.close()

    with CountingProxy(minio.endpoint_url) as proxy, proxy.rule(hold):
        trio.run(work, proxy.endpoint_url)
    assert len({request.key for request in proxy.requests()}) <= 1


def vars_of(options: ClientOptions) -> dict[str, Any]:
    """Return the fields of *options* by name."""
    return {name: getattr(options, name) for name in ClientOptions.__dataclass_fields__}


def test_a_request_that_was_given_up_opens_no_connection() -> None:
    """Its thread may still be on the way to one."""
    exchange = Exchange()
    exchange.abort()
    one, other = socket.socketpair()
    with one, other, pytest.raises(ConnectionAbortedError):
        exchange.adopt(one)


def test_a_connection_that_was_let_go_is_not_ended() -> None:
    """It may be another request's by then."""
    exchange = Exchange()
    one, other = socket.socketpair()
    with one, other:
        exchange.adopt(one)
        exchange.let_go()
        exchange.abort()
        one.sendall(b"alive")
        assert other.recv(10) == b"alive"
