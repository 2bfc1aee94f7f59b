"""A server that is no server: it listens, and what it does with a connection is the test's own function."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

Serve = Callable[[socket.socket, threading.Event], None]
"""Is given a connection and the event that the test has ended."""


@contextmanager
def listening(serve: Serve, *, receive_buffer: int | None = None) -> Iterator[str]:
    """Hand each connection to *serve*, in a thread of its own; give the URL.

    Args:
        receive_buffer: bytes that the kernel takes for a connection that is not read.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    if receive_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def one(connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            serve(connection, ended)

    def loop() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=one, args=(connection,), daemon=True))
            threads[-1].start()

    accepting = threading.Thread(target=loop, daemon=True)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ended.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (accepting, *threads):
            thread.join(10)
            assert not thread.is_alive(), "a connection's thread does not end"


def read_request(connection: socket.socket) -> bytes:
    """Return the head of a request; its body, and what follows, is left unread where it came later."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionResetError("the client has gone")
        received += piece
    return received
