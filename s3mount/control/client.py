"""The side of the socket that commands use."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from s3mount.control.address import short_address
from s3mount.control.protocol import MOST_ANSWER_BYTES, ControlError, read_answer, request_line

ANSWER_S: Final = 10.0
"""How long an answer may take that waits for nothing; a mount under load has many tasks before this one."""


_QUEUE_FULL_S: Final = 0.01


class NoMount(ControlError):
    """Nobody answers there: the process has ended, or is stuck."""


class NotYours(NoMount):
    """The mount is another user's."""


def ask(
    path: Path, command: str, arguments: Mapping[str, Any] | None = None, *, timeout_s: float = ANSWER_S
) -> dict[str, Any]:
    """Return what the mount behind the socket at *path* answers.

    Raises: ControlError (it refuses, with its reason), NoMount, NotYours.
    """
    deadline = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.settimeout(timeout_s)
            _connect(sock, path, deadline)
            sock.sendall(request_line(command, arguments or {}))
            line = _line(sock, deadline)
        except TimeoutError:
            raise NoMount(f"no answer within {timeout_s:g} s") from None
        except PermissionError:
            raise NotYours("it is another user's") from None
        except OSError as exc:
            raise NoMount(exc.strerror or str(exc)) from None
    if not line.endswith(b"\n"):
        raise NoMount("the connection ended before the answer")
    return read_answer(line)


def _connect(sock: socket.socket, path: Path, deadline: float) -> None:
    with short_address(path) as address:
        while True:
            try:
                sock.connect(address)
                return
            except BlockingIOError:  # the queue of those who want in is full: unix(7) does not wait then
                if time.monotonic() > deadline:
                    raise TimeoutError from None
                time.sleep(_QUEUE_FULL_S)


def _line(sock: socket.socket, deadline: float) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        data = sock.recv(65536)
        if not data or len(received) > MOST_ANSWER_BYTES:
            break
        received += data
    return bytes(received)
