"""A proxy between s3mount and a server that counts every request and can spoil chosen ones.

It runs in threads of the test's process and forwards the Host header unchanged, because SigV4 signs it::

    with CountingProxy(server.endpoint_url) as proxy:
        ...  # use proxy.endpoint_url
        assert proxy.counts() == {"PutObject": 1}
        with proxy.rule(Answer(503), operation="GetObject", first=2, last=3): ...
"""

from __future__ import annotations

import fnmatch
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlsplit

from tests.support.http_stream import Connection, Ended, Head
from tests.support.s3_requests import S3Request, parse_request

_NO_BODY = frozenset({204, 304})
_HOP = frozenset({"expect"})


@dataclass(frozen=True)
class Answer:
    """Answer so, and ask the server nothing.

    The length is announced, unless *headers* have a Transfer-Encoding, which *body* then follows.
    """

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Close:
    """End the connection, and ask the server nothing; *reset* with RST."""

    reset: bool = False


@dataclass(frozen=True)
class DropAnswer:
    """Let the server carry it out, then end the connection without its answer."""


@dataclass(frozen=True)
class Cut:
    """Pass *after_bytes* of the answer's body on, then end the connection."""

    after_bytes: int


@dataclass(frozen=True)
class Delay:
    """Wait so long, then forward: a far server."""

    seconds: float


class Hold:
    """Forward only after :meth:`release`; :meth:`wait_held` waits until a request is being held."""

    def __init__(self) -> None:
        self._held = threading.Event()
        self._released = threading.Event()

    def wait_held(self, deadline_s: float = 10.0) -> None:
        assert self._held.wait(deadline_s), "no request came to be held"

    def release(self) -> None:
        self._released.set()

    def hold(self) -> None:
        self._held.set()
        assert self._released.wait(60), "a held request was never released"


Action = Answer | Close | DropAnswer | Cut | Delay | Hold


@dataclass
class _Rule:
    action: Action
    method: str | None
    operation: str | None
    key: str
    first: int
    last: int | None
    seen: int = 0

    def applies(self, request: S3Request) -> bool:
        if self.method not in (None, request.method) or self.operation not in (None, request.operation):
            return False
        if not fnmatch.fnmatchcase(request.key, self.key):
            return False
        self.seen += 1
        return self.first <= self.seen and (self.last is None or self.seen <= self.last)


class CountingProxy:
    """See the module. Requests are recorded before their answer is passed on."""

    def __init__(self, target_url: str) -> None:
        target = urlsplit(target_url)
        assert target.scheme == "http", "the proxy speaks plain http only"
        assert target.hostname is not None
        self._target = (target.hostname, target.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.endpoint_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._requests: list[S3Request] = []
        self._rules: list[_Rule] = []
        self._open: set[Connection] = set()
        self._threads: list[threading.Thread] = []
        self._stopping = False
        self.accepted = 0
        """Connections that clients have opened."""

    def __enter__(self) -> CountingProxy:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._stopping = True
            holds = [rule.action for rule in self._rules if isinstance(rule.action, Hold)]
        for hold in holds:
            hold.release()
        # accept() in the other thread does not wake up from close() alone.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                connection.shut()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a proxy thread does not end"

    def requests(self) -> list[S3Request]:
        """Return every request so far, in the order in which they were answered."""
        with self._lock:
            return list(self._requests)

    def counts(self) -> Counter[str]:
        """Return the number of requests of each S3 operation."""
        return Counter(request.operation for request in self.requests())

    def clear(self) -> None:
        """Forget the requests so far."""
        with self._lock:
            self._requests.clear()

    @contextmanager
    def rule(
        self,
        action: Action,
        *,
        method: str | None = None,
        operation: str | None = None,
        key: str = "*",
        first: int = 1,
        last: int | None = None,
    ) -> Iterator[None]:
        """While the block runs, apply *action* to the matching requests.

        Args:
            key: a glob (``*`` also matches slashes).
            first, last: the first and last matching request, counted from 1, that it applies to.
        """
        rule = _Rule(action, method, operation, key, first, last)
        with self._lock:
            self._rules.insert(0, rule)
        try:
            yield
        finally:
            with self._lock:
                self._rules.remove(rule)

    def _spawn(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        with self._lock:
            self._threads = [one for one in self._threads if one.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._spawn(self._serve, accepted)

    def _serve(self, accepted: socket.socket) -> None:
        client = Connection(accepted)
        upstream = _Upstream(self._target)
        with self._lock:
            self._open.add(client)
            if self._stopping:
                client.shut()
        try:
            while self._relay(client, upstream):
                pass
        except (Ended, OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._open.discard(client)
            client.close()
            upstream.close()

    def _relay(self, client: Connection, upstream: _Upstream) -> bool:
        """Pass one request and its answer; return whether the connection goes on."""
        head = client.read_head()
        method, target, _ = head.start.split(" ", 2)
        request = parse_request(method, target, head.headers)
        action = self._action_for(request)
        if head.headers.get("expect", "").lower() == "100-continue":
            client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if isinstance(action, Answer | Close):
            for _, size in client.read_body(head.headers, until_close=False):
                request.bytes_in += size
            return self._answer(client, request, action)
        if isinstance(action, Delay):
            time.sleep(action.seconds)
        elif isinstance(action, Hold):
            action.hold()
        server = upstream.connection()
        server.send(head.encode(without=_HOP))
        for piece, size in client.read_body(head.headers, until_close=False):
            server.send(piece)
            request.bytes_in += size
        return self._pass_answer(client, server, upstream, request, action)

    def _pass_answer(
        self,
        client: Connection,
        server: Connection,
        upstream: _Upstream,
        request: S3Request,
        action: Action | None,
    ) -> bool:
        answer = server.read_head()
        while (status := int(answer.start.split(" ", 2)[1])) == 100:
            answer = server.read_head()
        has_body = request.method != "HEAD" and status not in _NO_BODY
        if isinstance(action, DropAnswer):
            upstream.close()
            self._record(request, 0)
            return False
        self._record(request, status)
        client.send(answer.encode())
        framed = bool({"content-length", "transfer-encoding"} & answer.headers.keys()) or not has_body
        if has_body:
            for piece, size in server.read_body(answer.headers, until_close=True):
                if isinstance(action, Cut) and request.bytes_out + size >= action.after_bytes:
                    client.send(piece[: action.after_bytes - request.bytes_out])
                    upstream.close()
                    return False
                client.send(piece)
                request.bytes_out += size
        if _closes(answer):
            upstream.close()
        return framed and not _closes(answer)

    def _answer(self, client: Connection, request: S3Request, action: Answer | Close) -> bool:
        if isinstance(action, Close):
            self._record(request, 0)
            if action.reset:
                linger = struct.pack("ii", 1, 0)
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return False
        self._record(request, action.status)
        headers = dict(action.headers)
        if "Transfer-Encoding" not in headers:
            headers.setdefault("Content-Length", str(len(action.body)))
        head = f"HTTP/1.1 {action.status} Injected\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        body = b"" if request.method == "HEAD" else action.body
        client.send(head.encode("latin-1") + b"\r\n" + body)
        return True

    def _action_for(self, request: S3Request) -> Action | None:
        with self._lock:
            applying = [rule.action for rule in self._rules if rule.applies(request)]
        return applying[0] if applying else None

    def _record(self, request: S3Request, status: int) -> None:
        request.status = status
        with self._lock:
            self._requests.append(request)


class _Upstream:
    """The connection to the server that belongs to one client's connection, opened when needed."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._connection: Connection | None = None

    def connection(self) -> Connection:
        if self._connection is not None and self._connection.is_stale():
            self.close()
        if self._connection is None:
            self._connection = Connection(socket.create_connection(self._address, timeout=60))
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _closes(answer: Head) -> bool:
    connection = answer.headers.get("connection", "").lower()
    if answer.start.startswith("HTTP/1.0"):
        return connection != "keep-alive"
    return connection == "close"
