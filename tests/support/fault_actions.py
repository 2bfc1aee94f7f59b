"""What the proxy can do to one exchange of request and answer. ``repr`` of an action makes it again.

An action has a hook for each stage of the exchange and overrides those that it spoils, so that several
actions can work on one exchange: a far server that is also out of order.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from tests.support.fault_exchange import Broken, Exchange, Replaced
from tests.support.fault_pieces import Pacer, Piece, cut, flipped, paced, payload, shortened, stalled
from tests.support.http_stream import Head

Stage = Literal["head", "body"]


class Action:
    """Passes the exchange unchanged; see the module."""

    def before(self, exchange: Exchange) -> None:
        """Run before anything of the request is forwarded."""

    def instead(self, exchange: Exchange) -> Answer | None:
        """Return what is answered in the server's place, which then sees nothing. May raise Broken."""
        return None

    def request_body(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        """Return the request's body as the server is to get it."""
        return pieces

    def answer_head(self, head: Head, exchange: Exchange) -> Head:
        """Return the answer's head as the client is to get it. May raise Broken."""
        return head

    def head_bytes(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        """Return the bytes of the answer's head as they go out."""
        return pieces

    def answer_body(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        """Return the answer's body as the client is to get it."""
        return pieces

    def watcher(self) -> Action | None:
        """Return what sees the exchanges that the rule matches and leaves alone."""
        return None

    def release(self) -> None:
        """Let go of what is being held: the proxy ends."""


@dataclass(frozen=True)
class Answer(Action):
    """Answer so, and ask the server nothing.

    The length is announced, unless *headers* have a Transfer-Encoding, which *body* then follows.
    """

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def instead(self, exchange: Exchange) -> Answer:
        return self


@dataclass(frozen=True)
class Close(Action):
    """End the connection when the request is here, and ask the server nothing; *reset* with RST."""

    reset: bool = False

    def instead(self, exchange: Exchange) -> Answer:
        exchange.drain_request()
        raise Broken(self.reset)


@dataclass(frozen=True)
class DropAnswer(Action):
    """Let the server carry it out, then end the connection without its answer; *reset* with RST."""

    reset: bool = False

    def answer_head(self, head: Head, exchange: Exchange) -> Head:
        raise Broken(self.reset)


@dataclass(frozen=True)
class Cut(Action):
    """Pass *after_bytes* of the answer's *of* on, then end the connection: the announced length stays."""

    after_bytes: int
    reset: bool = False
    of: Stage = "body"

    def head_bytes(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        return self._cut(pieces, exchange) if self.of == "head" else pieces

    def answer_body(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        return self._cut(pieces, exchange) if self.of == "body" else pieces

    def _cut(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        return cut(pieces, self.after_bytes, Broken(self.reset))


@dataclass(frozen=True)
class Shorten(Action):
    """Pass *after_bytes* of the answer's body on as if they were all: the announced length fits."""

    after_bytes: int

    def answer_head(self, head: Head, exchange: Exchange) -> Head:
        announced = head.headers.get("content-length")
        if announced is None or exchange.request.method == "HEAD":
            return head
        return head.changed({"Content-Length": str(min(int(announced), self.after_bytes))})

    def answer_body(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        return shortened(pieces, self.after_bytes)


@dataclass(frozen=True)
class Stall(Action):
    """Pass *after_bytes* of the answer's *of* on, then nothing.

    Goes on after *seconds*; None: until the client gives up.
    """

    after_bytes: int = 0
    of: Stage = "body"
    seconds: float | None = None

    def head_bytes(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        return self._stalled(pieces, exchange) if self.of == "head" else pieces

    def answer_body(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        return self._stalled(pieces, exchange) if self.of == "body" else pieces

    def _stalled(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        return stalled(pieces, self.after_bytes, lambda: exchange.stall(self.seconds))


@dataclass(frozen=True)
class Drip(Action):
    """Pass the answer's *of* on at so many bytes a second, one at a time, each exchange by itself."""

    bytes_per_s: float
    after_bytes: int = 0
    of: Stage = "body"

    def head_bytes(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        return self._paced(pieces, exchange) if self.of == "head" else pieces

    def answer_body(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        return self._paced(pieces, exchange) if self.of == "body" else pieces

    def _paced(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        pacer = Pacer(self.bytes_per_s, exchange.sleep)
        return paced(pieces, pacer, free_bytes=self.after_bytes, largest=1)


@dataclass(frozen=True)
class Bandwidth(Action):
    """All exchanges of the rule together get so many bytes a second down (answers) and up (requests)."""

    down_bytes_per_s: float | None = None
    up_bytes_per_s: float | None = None
    _pacers: dict[str, Pacer] = field(default_factory=dict, init=False, repr=False, compare=False)

    def request_body(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        return self._paced(pieces, "up", self.up_bytes_per_s, exchange)

    def answer_body(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        return self._paced(pieces, "down", self.down_bytes_per_s, exchange)

    def _paced(
        self, pieces: Iterator[Piece], way: str, bytes_per_s: float | None, exchange: Exchange
    ) -> Iterator[Piece]:
        if bytes_per_s is None:
            return pieces
        pacer = self._pacers.setdefault(way, Pacer(bytes_per_s, exchange.sleep))
        return paced(pieces, pacer, largest=max(1, int(bytes_per_s / 20)))


@dataclass(frozen=True)
class FlipByte(Action):
    """Change one byte of the body: the one at *position*, None for one that *seed* chooses.

    *of* is the answer or the request. A chosen position falls in the announced length; a position behind
    the end changes nothing.
    """

    position: int | None = None
    seed: int = 0
    of: Literal["answer", "request"] = "answer"

    def request_body(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        if self.of == "answer":
            return pieces
        return flipped(pieces, self._position(exchange.head))

    def answer_body(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        if self.of == "request":
            return pieces
        assert exchange.answer is not None
        return flipped(pieces, self._position(exchange.answer))

    def _position(self, head: Head) -> int:
        if self.position is not None:
            return self.position
        size = int(head.headers.get("content-length", 1))
        return random.Random(self.seed).randrange(max(size, 1))


@dataclass(frozen=True)
class Headers(Action):
    """Let the answer have these headers instead of its own; None takes one away. The body stays.

    A wrong Content-Length ends the connection after the body that there is.
    """

    changes: dict[str, str | None]

    def answer_head(self, head: Head, exchange: Exchange) -> Head:
        return head.changed(self.changes)


@dataclass(frozen=True)
class Status(Action):
    """Let the server carry it out and its answer have another status."""

    status: int

    def answer_head(self, head: Head, exchange: Exchange) -> Head:
        return replace(head, start=f"HTTP/1.1 {self.status} Injected")


@dataclass(frozen=True)
class ApplyThenAnswer(Action):
    """Let the server carry it out, and answer *answer* in the place of its own."""

    answer: Answer

    def answer_head(self, head: Head, exchange: Exchange) -> Head:
        raise Replaced(self.answer)


@dataclass(frozen=True)
class Endless(Action):
    """Answer with a body that does not end, or with headers that do not; ask the server nothing."""

    of: Stage = "body"
    status: int = 200
    piece: bytes = b" " * 65536
    headers: dict[str, str] = field(default_factory=dict)

    def instead(self, exchange: Exchange) -> Answer:
        exchange.drain_request()
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        exchange.record(self.status)
        exchange.client.send(f"HTTP/1.1 {self.status} Injected\r\n{lines}".encode("latin-1"))
        if self.of == "body":
            exchange.client.send(b"Transfer-Encoding: chunked\r\n\r\n")
        number = 0
        while True:  # sending fails once the client or the proxy has ended the connection
            if self.of == "body":
                exchange.client.send(b"%x\r\n%b\r\n" % (len(self.piece), self.piece))
                exchange.request.bytes_out += len(self.piece)
            else:
                exchange.client.send(b"X-Injected-%d: %b\r\n" % (number, b"x" * 1000))
                number += 1


@dataclass(frozen=True)
class CutRequest(Action):
    """Take *after_bytes* of the request's body, then end both connections; *reset* with RST."""

    after_bytes: int
    reset: bool = False

    def request_body(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        return cut(pieces, self.after_bytes, Broken(self.reset))


@dataclass(frozen=True)
class StallRequest(Action):
    """Take *after_bytes* of the request's body, then no more.

    Goes on after *seconds*; None: until the client gives up.
    """

    after_bytes: int
    seconds: float | None = None

    def request_body(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        return stalled(pieces, self.after_bytes, lambda: exchange.stall(self.seconds))


@dataclass(frozen=True)
class Delay(Action):
    """Wait so long, then forward: a far server."""

    seconds: float

    def before(self, exchange: Exchange) -> None:
        exchange.sleep(self.seconds)


class Hold(Action):
    """Forward only after :meth:`release`; :meth:`wait_held` waits until a request is being held.

    It is held when all of it has come: a client that is killed meanwhile has sent it.
    """

    def __init__(self) -> None:
        self._held = threading.Event()
        self._released = threading.Event()

    def __repr__(self) -> str:
        return "Hold()"

    def wait_held(self, deadline_s: float = 10.0) -> None:
        assert self._held.wait(deadline_s), "no request came to be held"

    def release(self) -> None:
        self._released.set()

    def before(self, exchange: Exchange) -> None:
        exchange.read_ahead()
        self._held.set()
        assert self._released.wait(60), "a held request was never released"


class Replay(Action):
    """Answer with the first answer that the rule has seen to the same request line and range.

    It sees what the rule matches, also where first, every and the like leave it alone; what has no
    recorded answer yet passes.
    """

    def __init__(self) -> None:
        self._recorded: dict[tuple[str, str | None], Answer] = {}

    def __repr__(self) -> str:
        return "Replay()"

    def instead(self, exchange: Exchange) -> Answer | None:
        return self._recorded.get(self._line(exchange))

    def answer_body(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        body = []
        for piece in pieces:
            body.append(piece)
            yield piece
        assert exchange.answer is not None
        # A HEAD's length is that of the body it does not have; others' is set anew.
        is_head = exchange.request.method == "HEAD"
        head = exchange.answer.changed(
            {"Transfer-Encoding": None} | ({} if is_head else {"Content-Length": None})
        )
        answer = Answer(head.status, payload(body), head.named())
        self._recorded.setdefault(self._line(exchange), answer)

    def watcher(self) -> Action:
        return _Recorder(self)

    @staticmethod
    def _line(exchange: Exchange) -> tuple[str, str | None]:
        return exchange.head.start, exchange.request.range


class _Recorder(Action):
    """Lets a Replay see an exchange that passes."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay

    def answer_body(self, pieces: Iterator[Piece], exchange: Exchange) -> Iterator[Piece]:
        return self._replay.answer_body(pieces, exchange)


XML = {"Content-Type": "application/xml"}


def error(status: int, code: str, message: str = "injected") -> Answer:
    """Return S3's answer for an error."""
    inner = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Answer(status, f'<?xml version="1.0" encoding="UTF-8"?>{inner}'.encode(), XML)


SLOW_DOWN = error(503, "SlowDown")
INTERNAL_ERROR = error(500, "InternalError")
ACCESS_DENIED = error(403, "AccessDenied")
EXPIRED_TOKEN = error(400, "ExpiredToken")
TIME_SKEWED = error(403, "RequestTimeTooSkewed")
ERROR_IN_200 = error(200, "InternalError")
HTML_200 = Answer(200, b"<html><body><p>Please log in.</p></body></html>", {"Content-Type": "text/html"})
EMPTY_200 = Answer(200)
