"""A proxy between s3mount and a server that counts every request and can spoil chosen ones.

It runs in threads of the test's process and forwards the Host header unchanged, because SigV4 signs it::

    with CountingProxy(server.endpoint_url) as proxy:
        ...  # use proxy.endpoint_url
        assert proxy.counts() == {"PutObject": 1}
        with proxy.rule(SLOW_DOWN, operation="GetObject", first=2, last=3) as rule: ...
        assert rule.injected == 2

What it can do is in fault_actions.py, and to which requests in fault_rules.py. Where several rules apply to
a request, all do, the newest first; the first that answers in the server's place is the one that does.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from tests.support.fault_actions import Action, Answer, Close, Cut, Delay, DropAnswer, Hold
from tests.support.fault_exchange import Broken, Exchange, Replaced
from tests.support.fault_rules import Rule, parse_rules
from tests.support.http_stream import Connection, Ended, Head
from tests.support.s3_requests import S3Request, parse_request

__all__ = ["Action", "Answer", "Close", "CountingProxy", "Cut", "Delay", "DropAnswer", "Hold", "Rule"]

_NO_BODY = frozenset({204, 304})
_HOP = frozenset({"expect"})


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
        self._rules: list[Rule] = []
        self._open: set[Connection] = set()
        self._threads: list[threading.Thread] = []
        self._ending = threading.Event()
        self.accepted = 0
        """Connections that clients have opened."""

    def __enter__(self) -> CountingProxy:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        with self._lock:
            held = [rule.action for rule in self._rules]
        for action in held:
            action.release()
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

    def wait_idle(self, deadline_s: float = 60.0) -> None:
        """Return once no client is connected: whatever one that died has asked for is carried out."""
        end = time.monotonic() + deadline_s
        while True:
            with self._lock:
                if not self._open:
                    return
            assert time.monotonic() < end, "a client is still connected"
            time.sleep(0.01)

    def clear(self) -> None:
        """Forget the requests so far."""
        with self._lock:
            self._requests.clear()

    def rule(self, action: Action, **which: Any) -> AbstractContextManager[Rule]:
        """While the block runs, apply *action* to the matching requests; *which* are a Rule's arguments."""
        return self.apply(Rule(action, **which))

    @contextmanager
    def apply(self, rule: Rule) -> Iterator[Rule]:
        """While the block runs, apply *rule*; if the block fails, print the line that makes it again."""
        with self._lock:
            self._rules.insert(0, rule)
        try:
            yield rule
        except BaseException:
            print(f"the proxy applied {rule!r}: seen {rule.seen}, injected {rule.injected}")
            raise
        finally:
            with self._lock:
                self._rules.remove(rule)

    @contextmanager
    def plan(self, text: str) -> Iterator[list[Rule]]:
        """While the block runs, apply the rules of *text*, the ``repr`` of a rule or of a list of them."""
        with ExitStack() as stack:
            # The first of a list is to be the newest, which comes first.
            rules = parse_rules(text)
            for rule in reversed(rules):
                stack.enter_context(self.apply(rule))
            yield rules

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
            if self._ending.is_set():
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
        actions = self._actions_for(request)
        if head.headers.get("expect", "").lower() == "100-continue":
            client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        exchange = Exchange(head, request, client, self._ending, self._write_down)
        try:
            return self._exchange(exchange, actions, upstream)
        except Replaced as replaced:
            upstream.close()
            return _answer(exchange, replaced.answer)
        except Broken as broken:
            exchange.record(0)
            upstream.close()
            if broken.reset:
                client.reset()
            else:
                client.finish()
            return False
        finally:
            exchange.record(0)

    def _exchange(self, exchange: Exchange, actions: list[Action], upstream: _Upstream) -> bool:
        for action in actions:
            action.before(exchange)
        for action in actions:
            if (answer := action.instead(exchange)) is not None:
                exchange.drain_request()
                return _answer(exchange, answer)
        server = upstream.connection()
        server.send(exchange.head.encode(without=_HOP))
        pieces = exchange.body()
        for action in actions:
            pieces = action.request_body(pieces, exchange)
        for piece, size in pieces:
            server.send(piece)
            exchange.request.bytes_in += size
        return self._pass_answer(exchange, actions, server, upstream)

    def _pass_answer(
        self, exchange: Exchange, actions: list[Action], server: Connection, upstream: _Upstream
    ) -> bool:
        answer = server.read_head()
        while answer.status == 100:
            answer = server.read_head()
        exchange.answer = answer
        has_body = exchange.request.method != "HEAD" and answer.status not in _NO_BODY
        passed = answer
        for action in actions:
            passed = action.answer_head(passed, exchange)
        exchange.record(passed.status)
        encoded = passed.encode()
        head = iter([(encoded, len(encoded))])
        for action in actions:
            head = action.head_bytes(head, exchange)
        for piece, _ in head:
            exchange.client.send(piece)
        pieces = server.read_body(answer.headers, until_close=True) if has_body else iter(())
        for action in actions:
            pieces = action.answer_body(pieces, exchange)
        for piece, size in pieces:
            exchange.client.send(piece)
            exchange.request.bytes_out += size
        if _closes(answer):
            upstream.close()
        return not _closes(passed) and (not has_body or _is_framed(passed, exchange.request.bytes_out))

    def _actions_for(self, request: S3Request) -> list[Action]:
        actions = []
        with self._lock:
            for rule in self._rules:
                if not rule.matches(request):
                    continue
                if rule.applies():
                    actions.append(rule.action)
                elif (watcher := rule.action.watcher()) is not None:
                    actions.append(watcher)
        return actions

    def _write_down(self, request: S3Request) -> None:
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


def _is_framed(answer: Head, passed_bytes: int) -> bool:
    """Whether the client knows where the body ended: by its length, which was kept to, or by its chunks."""
    if "transfer-encoding" in answer.headers:
        return True
    return answer.headers.get("content-length") == str(passed_bytes)


def _answer(exchange: Exchange, answer: Answer) -> bool:
    """Answer in the server's place; the connection goes on."""
    exchange.record(answer.status)
    headers = dict(answer.headers)
    if "Transfer-Encoding" not in headers:
        headers.setdefault("Content-Length", str(len(answer.body)))
    head = f"HTTP/1.1 {answer.status} Injected\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    body = b"" if exchange.request.method == "HEAD" else answer.body
    exchange.client.send(head.encode("latin-1") + b"\r\n" + body)
    return True
