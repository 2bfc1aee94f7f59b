"""``GET /metrics`` over HTTP, on a loopback port or a Unix socket, where ``--metrics`` asks for it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import h11
import trio

from s3mount.control.address import short_address
from s3mount.core.addresses import MetricsAddress
from s3mount.errors import collapsed

log = logging.getLogger(__name__)

REQUEST_S: Final = 5.0
"""How long a client may take for its request, and for its answer."""
MOST_CLIENTS: Final = 16
MOST_HEAD_BYTES: Final = 16 * 1024
_BACKLOG: Final = 16
_PAUSE_S: Final = 1.0
_TEXT: Final = "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"


def listen(address: MetricsAddress) -> socket.socket:
    """Return a socket that listens at *address*. Raises: OSError."""
    family = socket.AF_UNIX if address.path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if address.path:
            # What the file of the socket gets, less the umask.
            os.fchmod(sock.fileno(), 0o600)
            _remove_dead(Path(address.path))
            with short_address(Path(address.path)) as short:
                sock.bind(short)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address.host, address.port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


@asynccontextmanager
async def serving_metrics(
    listener: socket.socket, address: MetricsAddress, text: Callable[[], bytes]
) -> AsyncIterator[None]:
    """Answer on *listener* while the block runs, then close it."""
    accepting = trio.socket.from_stdlib_socket(listener)
    try:
        with collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_accept, accepting, text)
                yield
                nursery.cancel_scope.cancel()
    finally:
        accepting.close()
        if address.path:
            _unlink(address.path)


async def _accept(listener: trio.socket.SocketType, text: Callable[[], bytes]) -> None:
    places = trio.Semaphore(MOST_CLIENTS)
    async with trio.open_nursery() as nursery:
        while True:
            await places.acquire()
            try:
                connection, _ = await listener.accept()
            except OSError as exc:
                log.debug("metrics: %s", exc)
                places.release()
                await trio.sleep(_PAUSE_S)
                continue
            nursery.start_soon(_attend, trio.SocketStream(connection), text, places)


async def _attend(stream: trio.SocketStream, text: Callable[[], bytes], places: trio.Semaphore) -> None:
    try:
        with trio.move_on_after(REQUEST_S):
            async with stream:
                await _converse(stream, text)
    except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError, OSError) as exc:
        log.debug("metrics: %s", exc)
    except Exception:
        log.exception("metrics: a bug in s3mount")
    finally:
        places.release()


async def _converse(stream: trio.SocketStream, text: Callable[[], bytes]) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD_BYTES)
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await stream.receive_some(4096))
    if not isinstance(event, h11.Request):
        return
    if event.target.split(b"?")[0] != b"/metrics":
        status, body = 404, b"there is /metrics\n"
    elif event.method not in (b"GET", b"HEAD"):
        status, body = 405, b"GET it\n"
    else:
        status, body = 200, text()
    headers = [("Content-Type", _TEXT), ("Content-Length", str(len(body))), ("Connection", "close")]
    answer = connection.send(h11.Response(status_code=status, headers=headers)) or b""
    if event.method != b"HEAD":
        answer += connection.send(h11.Data(data=body)) or b""
    await stream.send_all(answer)
    await stream.send_eof()
    while await stream.receive_some(4096):
        pass  # what is closed with something unread in it is a reset, and the answer is lost


def _remove_dead(path: Path) -> None:
    """Take away the socket of a mount that was killed; one that answers, or another file, stays."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial, short_address(path) as short:
        try:
            trial.connect(short)
        except ConnectionRefusedError:
            _unlink(str(path))


def _unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
