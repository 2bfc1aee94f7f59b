"""The side of the socket that the mount serves: nothing that a client does may harm the mount."""

from __future__ import annotations

import logging
import os
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import trio

from s3mount.control.address import peer_user, short_address
from s3mount.control.protocol import (
    MOST_REQUEST_BYTES,
    ControlError,
    Request,
    answer_line,
    read_request,
    refusal_line,
)
from s3mount.errors import FsError, collapsed

log = logging.getLogger(__name__)

MOST_CLIENTS: Final = 64
"""Connections at once; one more is told so and closed."""
REQUEST_S: Final = 5.0
"""How long a client may take to send its line, and to take its answer."""
_PAUSE_S: Final = 1.0
_BACKLOG: Final = 64

Run = Callable[[Request], Awaitable[dict[str, Any]]]
"""Carries a command out. Raises: ControlError, FsError."""


@asynccontextmanager
async def serving(path: Path, run: Run) -> AsyncIterator[None]:
    """Answer on a socket at *path*, which this user alone can reach, while the block runs.

    Without one, where the socket cannot be made, the mount works all the same. It is taken away at the end.
    """
    try:
        listener = _listen(path)
    except OSError as exc:
        log.warning("no control socket, so status and other commands cannot ask this mount: %s", exc)
        yield
        return
    server = ControlServer(run)
    try:
        with collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.serve, listener)
                yield
                nursery.cancel_scope.cancel()
    finally:
        listener.close()
        _remove(path)


class ControlServer:
    """Answers one request on each connection.

    Args:
        user: whose requests are answered, beside root's.
    """

    def __init__(self, run: Run, *, user: int | None = None, request_s: float = REQUEST_S) -> None:
        self._run = run
        self._users = {0, os.geteuid() if user is None else user}
        self._request_s = request_s
        self._clients = 0

    async def serve(self, listener: trio.socket.SocketType) -> None:
        """Answer for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    connection, _ = await listener.accept()
                except OSError as exc:
                    # Out of descriptors, for example: programs need those more.
                    log.debug("control socket: %s", exc)
                    await trio.sleep(_PAUSE_S)
                    continue
                nursery.start_soon(self._attend, trio.SocketStream(connection))

    async def _attend(self, stream: trio.SocketStream) -> None:
        self._clients += 1
        try:
            async with stream:
                await self._converse(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as exc:
            log.debug("control socket: the client has gone: %s", exc)
        except Exception:
            log.exception("control socket: a bug in s3mount")
        finally:
            self._clients -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        refusal = self._refusal(stream)
        if refusal is not None:
            await self._send(stream, refusal_line(refusal))
            await stream.send_eof()
            with trio.move_on_after(_PAUSE_S):
                # What is closed with something unread in it is a reset, and the refusal is lost.
                await _wait_hung_up(stream)
            return
        line = None
        with trio.move_on_after(self._request_s):
            line = await _read_line(stream)
        if line is None:
            await self._send(stream, refusal_line("no whole request came in time"))
        elif line:
            await self._send(stream, await self._answered(stream, line))

    def _refusal(self, stream: trio.SocketStream) -> str | None:
        # The socket's mode lets nobody else in; whoever was handed an open connection is asked here.
        if peer_user(stream.socket) not in self._users:
            return "this mount belongs to another user"
        return "too many clients at once" if self._clients > MOST_CLIENTS else None

    async def _answered(self, stream: trio.SocketStream, line: bytes) -> bytes:
        """Return the answer to *line*; a client that hangs up ends the work on it.

        Cancel: at any time.
        """
        answer = b""
        async with trio.open_nursery() as nursery:

            async def work() -> None:
                nonlocal answer
                answer = await self._carried_out(line)
                nursery.cancel_scope.cancel()

            nursery.start_soon(work)
            await _wait_hung_up(stream)
            nursery.cancel_scope.cancel()
        return answer

    async def _carried_out(self, line: bytes) -> bytes:
        try:
            return answer_line(await self._run(read_request(line)))
        except (ControlError, FsError) as exc:
            return refusal_line(str(exc))
        except Exception as exc:
            log.exception("control socket: a bug in s3mount")
            return refusal_line(f"a bug in s3mount ({type(exc).__name__}); its log has more")

    async def _send(self, stream: trio.SocketStream, line: bytes) -> None:
        if line:
            with trio.move_on_after(self._request_s):
                await stream.send_all(line)


async def _read_line(stream: trio.SocketStream) -> bytes | None:
    """Return the first line, empty where the client has hung up before its end; None: it is too long."""
    received = bytearray()
    while b"\n" not in received:
        if len(received) > MOST_REQUEST_BYTES:
            return None
        data = await stream.receive_some(4096)
        if not data:
            return b""
        received += data
    return bytes(received[: received.index(b"\n")])


async def _wait_hung_up(stream: trio.SocketStream) -> None:
    """Return when the client has gone. One that has only said that it sends no more may yet listen."""
    with suppress(trio.BrokenResourceError):
        while await stream.receive_some(4096):
            pass  # what comes beside the request is nobody's
    # Nothing but a look tells the two apart.
    while not _has_gone(stream):  # noqa: ASYNC110
        await trio.sleep(_PAUSE_S)


def _has_gone(stream: trio.SocketStream) -> bool:
    poll = select.poll()
    poll.register(stream.socket.fileno(), 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _listen(path: Path) -> trio.socket.SocketType:
    """Raises: OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # What the file of the socket gets, less the umask: never a moment in which others could come in.
        os.fchmod(sock.fileno(), 0o600)
        _remove(path)
        with short_address(path) as address:
            sock.bind(address)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
        return trio.socket.from_stdlib_socket(sock)
    except BaseException:
        sock.close()
        raise
