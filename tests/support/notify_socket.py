"""The service manager's end of sd_notify(3): a datagram socket that remembers what it was told."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Message = dict[str, str]


class NotifySocket:
    """Listens at *address*, a path or ``@name``."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.messages: list[Message] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def wait_for(self, name: str, part: str = "", *, timeout_s: float = 60.0) -> Message:
        """Return the next message that has the field *name* with *part* in it; all are remembered.

        Raises: AssertionError if none comes within *timeout_s*.
        """
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                message = self._receive()
            except TimeoutError:
                break
            if part in message.get(name, "\n"):
                return message
        raise AssertionError(f"no {name} with {part!r} within {timeout_s} s, but {self.messages}")

    def receive_waiting(self) -> list[Message]:
        """Return what has come already."""
        count = len(self.messages)
        self._socket.setblocking(False)
        try:
            while True:
                self._receive()
        except BlockingIOError:
            return self.messages[count:]

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def _receive(self) -> Message:
        text = self._socket.recv(65536).decode(errors="surrogateescape")
        message = dict(line.split("=", 1) for line in text.split("\n"))
        self.messages.append(message)
        return message


@contextmanager
def notify_socket(directory: Path) -> Iterator[NotifySocket]:
    """Listen in *directory* while the block runs."""
    one = NotifySocket(str(directory / "notify"))
    try:
        yield one
    finally:
        one.close()
