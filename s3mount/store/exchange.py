"""One try of one request, and the sockets it is using: whoever gives it up ends it from outside.

A thread that waits for a server cannot be stopped, but its socket can be shut down under it. So each
connection tells the exchange of its thread what it is connected to, before a byte is sent.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPException, RemoteDisconnected
from typing import Any, Final

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)

MAX_INTERIM_LINES: Final = 100
"""Header lines of a "100 Continue"; http.client allows as many in an answer."""
MAX_LINE_BYTES: Final = 65536
_SEND_BYTES: Final = 65536

_running = threading.local()


class Exchange:
    """The connection that one try is using.

    INVARIANT: a socket is known here only while this exchange owns it; both sides hold the lock, so an
    abort can never hit the connection's next request. It is a duplicate of the connection's own: that one
    may be closed, or wrapped for TLS, at any time, and a number of a closed file is soon another file's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._body: Any = None
        self.aborted = False
        #: What the kernel has taken of the request, its head included.
        self.sent_bytes = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """While the block runs, the requests of this thread belong to this exchange."""
        _running.exchange = self
        try:
            yield
        finally:
            _running.exchange = None
            self.closes(None)
            self.let_go()

    def closes(self, body: Any) -> None:
        """Close *body*, of an answer, in the end: where parsing its head fails, nobody else has it."""
        if self._body is not None:
            self._body.close()
        self._body = body

    def adopt(self, connected: socket.socket) -> None:
        """Own the connection that *connected* is an end of.

        Raises: ConnectionAbortedError (given up before; nothing may be sent).
        """
        with self._lock:
            self._forget()
            if not self.aborted:
                self._socket = socket.socket(
                    connected.family, connected.type, connected.proto, fileno=os.dup(connected.fileno())
                )
                return
        raise ConnectionAbortedError("the request was given up")

    def let_go(self) -> None:
        """The answer is read: the connection goes back to the pool, or is closed."""
        with self._lock:
            self._forget()

    def abort(self) -> None:
        """End the request from another thread; its own thread sees the connection end."""
        with self._lock:
            self.aborted = True
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def _forget(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def current_exchange() -> Exchange | None:
    """Return the exchange that runs in this thread; None for a request that nobody will end."""
    return getattr(_running, "exchange", None)


def use_our_connections(http_session: Any) -> None:
    """Have a fresh botocore HTTP session open connections that tell their exchange."""
    classes = {"http": _HTTPPool, "https": _HTTPSPool}
    http_session._pool_classes_by_scheme = classes
    http_session._manager.pool_classes_by_scheme = classes


class _Told:
    """A connection that tells its exchange; mixed into botocore's classes."""

    sock: Any
    _response_received: bool
    silence_s: float | None = None
    """The read timeout. The connect timeout, which urllib3 leaves on a new socket, is not for sending."""

    def request(self, *args: Any, **kwargs: Any) -> Any:
        if self.sock is not None:
            _tell(self.sock)
        return super().request(*args, **kwargs)  # type: ignore[misc]

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.sock.settimeout(self.silence_s)
        _tell(self.sock)

    def send(self, data: Any) -> None:
        # urllib3 before 2 gives a body as the file that it is.
        for piece in iter(partial(data.read, _SEND_BYTES), b"") if hasattr(data, "read") else (data,):
            super().send(piece)  # type: ignore[misc]
            exchange = current_exchange()
            # What comes after an answer to the head alone, botocore does not send.
            if exchange is not None and not self._response_received:
                exchange.sent_bytes += len(piece)

    def _new_conn(self) -> socket.socket:
        # The TLS handshake can hang as well as anything after it.
        connected: socket.socket = super()._new_conn()  # type: ignore[misc]
        try:
            _tell(connected)
        except ConnectionAbortedError:
            connected.close()
            raise
        return connected

    def _consume_headers(self, fp: Any) -> None:
        # botocore's own never ends where the connection does.
        for _ in range(MAX_INTERIM_LINES):
            line = fp.readline(MAX_LINE_BYTES)
            if line in (b"\r\n", b"\n"):
                return
            if not line:
                raise RemoteDisconnected("the connection ended within 100 Continue")
        raise HTTPException(f"100 Continue has more than {MAX_INTERIM_LINES} header lines")


def _tell(connected: socket.socket) -> None:
    exchange = current_exchange()
    if exchange is not None:
        exchange.adopt(connected)


class _HTTPConnection(_Told, AWSHTTPConnection):  # type: ignore[misc]
    pass


class _HTTPSConnection(_Told, AWSHTTPSConnection):  # type: ignore[misc]
    pass


class _Pooling:
    """A pool that follows no redirect, and lets go of connections before another thread can take them."""

    timeout: Any

    def urlopen(self, *args: Any, **kwargs: Any) -> Any:
        # botocore leaves it at urllib3's default, which stumbles over a 303 and loses the connection.
        return super().urlopen(*args, **{**kwargs, "redirect": False})  # type: ignore[misc]

    def _new_conn(self) -> Any:
        connection = super()._new_conn()  # type: ignore[misc]
        connection.silence_s = self.timeout.read_timeout
        return connection

    def _put_conn(self, connection: Any) -> None:
        exchange = current_exchange()
        if exchange is not None:
            exchange.let_go()
            if exchange.aborted and connection is not None:
                # It was shut down, perhaps after all of the answer had come.
                connection.close()
        super()._put_conn(connection)  # type: ignore[misc]


class _HTTPPool(_Pooling, AWSHTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _HTTPConnection


class _HTTPSPool(_Pooling, AWSHTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _HTTPSConnection
