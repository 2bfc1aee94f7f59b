"""An S3 server of which only the LIST is there: one directory of as many objects as one likes.

It serves ListObjectsV2 and HEAD, from arithmetic and without looking at signatures, so that a test of
a million objects need not store them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.servers import Server

BUCKET = "synthetic"
PREFIX = "many/"
_TIME = "2024-01-02T03:04:05.000Z"
_HTTP_TIME = "Tue, 02 Jan 2024 03:04:05 GMT"
_ETAG = '"9dd4e461268c8034f5c8564e155c67a6"'
_XML_ETAG = _ETAG.replace('"', "&quot;")


def name_of(number: int) -> str:
    """Return the name of object *number*, in an order that is that of the numbers."""
    return f"{number:07}"


@contextmanager
def list_server(count: int) -> Iterator[Server]:
    """Serve a bucket with *count* objects of one byte under ``many/``."""
    handler = type("Handler", (_Handler,), {"count": count})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Server("synthetic", f"http://127.0.0.1:{server.server_port}", "anything", "anything")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    count = 0

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if parts.path.rstrip("/") != f"/{BUCKET}" or query.get("list-type") != "2":
            self._answer(501, b"")
            return
        prefix, limit = query.get("prefix", ""), int(query.get("max-keys", "1000"))
        body, truncated, token = [], False, ""
        if prefix == "" and query.get("delimiter") == "/":
            body.append(f"<CommonPrefixes><Prefix>{PREFIX}</Prefix></CommonPrefixes>")
        elif prefix == "" or prefix.startswith(PREFIX):
            numbers = self._numbers(prefix.removeprefix(PREFIX))
            start = max(numbers.start, int(query.get("continuation-token", "0")))
            shown = range(start, min(start + limit, numbers.stop))
            body += [self._contents(number) for number in shown]
            truncated, token = shown.stop < numbers.stop, str(shown.stop)
        self._answer(200, self._listing(prefix, limit, body, token if truncated else ""))

    def do_HEAD(self) -> None:
        name = unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}/{PREFIX}")
        if name.isdigit() and int(name) < self.count and name_of(int(name)) == name:
            self._answer(200, b"x", {"ETag": _ETAG, "Last-Modified": _HTTP_TIME})
        else:
            self._answer(404, b"")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _numbers(self, begun: str) -> range:
        """Return the numbers of the names that begin so."""
        if begun == "":
            return range(self.count)
        if not begun.isdigit() or len(begun) > 7:
            return range(0)
        scale = 10 ** (7 - len(begun))
        return range(min(int(begun) * scale, self.count), min((int(begun) + 1) * scale, self.count))

    def _contents(self, number: int) -> str:
        return (
            f"<Contents><Key>{PREFIX}{name_of(number)}</Key><LastModified>{_TIME}</LastModified>"
            f"<ETag>{_XML_ETAG}</ETag><Size>1</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )

    def _listing(self, prefix: str, limit: int, entries: list[str], token: str) -> bytes:
        following = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><Prefix>{prefix}</Prefix><MaxKeys>{limit}</MaxKeys>"
            f"<KeyCount>{len(entries)}</KeyCount><IsTruncated>{'true' if token else 'false'}</IsTruncated>"
            f"{following}{''.join(entries)}</ListBucketResult>"
        ).encode()

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/xml", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
