"""HTTP/1.1 messages on a socket, passed on as they come: heads as bytes, bodies in pieces."""

from __future__ import annotations

import io
import select
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PIECE = 256 * 1024
MAX_HEAD_LINES = 200


class Ended(Exception):
    """The other side closed the connection."""


@dataclass(frozen=True)
class Head:
    """The start line and headers of a message, as they came and as a mapping with lower-case names."""

    start: str
    lines: tuple[bytes, ...]
    headers: dict[str, str]

    def encode(self, *, without: frozenset[str] = frozenset()) -> bytes:
        """Return the bytes of the head, headers named in *without* left out."""
        kept = [
            line for line in self.lines if line.partition(b":")[0].decode("latin-1").lower() not in without
        ]
        return self.start.encode("latin-1") + b"\r\n" + b"".join(kept) + b"\r\n"

    @property
    def status(self) -> int:
        """The status of an answer."""
        return int(self.start.split(" ", 2)[1])

    def named(self) -> dict[str, str]:
        """Return the headers by their names as they came."""
        pairs = (line.decode("latin-1").partition(":") for line in self.lines)
        return {name.strip(): value.strip() for name, _, value in pairs}

    def changed(self, changes: Mapping[str, str | None]) -> Head:
        """Return this head with other or further headers; None takes one away."""
        gone = {name.lower() for name in changes}
        headers = {name: value for name, value in self.named().items() if name.lower() not in gone}
        headers |= {name: value for name, value in changes.items() if value is not None}
        lines = tuple(f"{name}: {value}\r\n".encode("latin-1") for name, value in headers.items())
        return Head(self.start, lines, {name.lower(): value for name, value in headers.items()})


class Connection:
    """One side of the relay."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connected
        self._file = io.BufferedReader(connected.makefile("rb", buffering=0), 64 * 1024)

    def read_head(self) -> Head:
        """Read up to and with the empty line. Raises: Ended."""
        start = self._file.readline(65536)
        while start in (b"\r\n", b"\n"):
            start = self._file.readline(65536)
        if not start:
            raise Ended
        lines = []
        for _ in range(MAX_HEAD_LINES):
            line = self._file.readline(65536)
            if not line:
                raise Ended
            if line in (b"\r\n", b"\n"):
                break
            lines.append(line)
        headers = {}
        for line in lines:
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return Head(start.decode("latin-1").rstrip("\r\n"), tuple(lines), headers)

    def read_body(self, headers: dict[str, str], *, until_close: bool) -> Iterator[tuple[bytes, int]]:
        """Yield the body as it is on the wire, each piece with its number of payload bytes.

        Args:
            until_close: a body that announces no length goes on until the connection ends.
        Raises: Ended (before the announced end).
        """
        if "chunked" in headers.get("transfer-encoding", "").lower():
            yield from self._read_chunked()
        elif "content-length" in headers:
            yield from self._read_exactly(int(headers["content-length"]))
        elif until_close:
            while piece := self._file.read1(PIECE):
                yield piece, len(piece)

    def is_stale(self) -> bool:
        """Return whether an idle connection was ended by the other side."""
        readable, _, _ = select.select([self.socket], [], [], 0)
        return bool(readable)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def wait_given_up(self, seconds: float | None) -> bool:
        """Wait until the other side has ended its direction, at most *seconds*; return whether it has.

        :meth:`shut` ends the waiting, too.
        """
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)
        return bool(poll.poll(None if seconds is None else seconds * 1000))

    def finish(self) -> None:
        """End with FIN: the other side reads an end and not an error, whatever it is still sending."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
            while self._file.read1(PIECE):
                pass
        except OSError:
            return

    def reset(self) -> None:
        """Let :meth:`close` end the connection with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def shut(self) -> None:
        """End both directions; a thread that reads from it wakes up."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def _read_exactly(self, left: int) -> Iterator[tuple[bytes, int]]:
        while left:
            piece = self._file.read1(min(left, PIECE))
            if not piece:
                raise Ended
            left -= len(piece)
            yield piece, len(piece)

    def _read_chunked(self) -> Iterator[tuple[bytes, int]]:
        while True:
            line = self._file.readline(65536)
            if not line:
                raise Ended
            yield line, 0
            size = int(line.split(b";")[0], 16)
            if size:
                yield from self._read_exactly(size)
                yield self._file.readline(65536), 0
                continue
            while True:
                trailer = self._file.readline(65536)
                if not trailer:
                    raise Ended
                yield trailer, 0
                if trailer in (b"\r\n", b"\n"):
                    return
