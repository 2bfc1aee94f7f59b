"""A server with one directory of very many keys, which exist only in its answers.

Filling a real server with 100,000 objects takes minutes; LIST is answered here at once, so that what is
measured is s3mount. Signatures are not checked. Keys are ``big/000000000`` and on, each an object of
its number in bytes; LIST (prefix, delimiter, token, max-keys), HEAD and GET of them are answered.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.servers import Server

DIRECTORY = "big/"
WIDTH = 9
TIME = "2026-01-01T00:00:00.000Z"
HTTP_TIME = "Thu, 01 Jan 2026 00:00:00 GMT"


def key_of(number: int) -> str:
    """Return the key of object *number*."""
    return f"{DIRECTORY}{number:0{WIDTH}}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    count: int

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if "list-type" in query:
            self._answer(200, self._page(query).encode(), "application/xml")
        else:
            self._object(unquote(parts.path).partition("/")[2].partition("/")[2])

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _page(self, query: dict[str, str]) -> str:
        prefix, most = query.get("prefix", ""), int(query.get("max-keys", "1000"))
        below = query.get("delimiter") == "/" and DIRECTORY.startswith(prefix) and prefix != DIRECTORY
        if below:
            inside, shown, token = f"<CommonPrefixes><Prefix>{DIRECTORY}</Prefix></CommonPrefixes>", 1, ""
        else:
            numbers = self._matching(prefix)
            start = int(query.get("continuation-token", numbers.start))
            chosen = range(start, min(start + most, numbers.stop))
            token = str(chosen.stop) if chosen.stop < numbers.stop and chosen else ""
            inside, shown = "".join(map(self._contents, chosen)), len(chosen)
        more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
        return (
            f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>b</Name><Prefix>{prefix}</Prefix>'
            f"<KeyCount>{shown}</KeyCount><IsTruncated>{'true' if token else 'false'}</IsTruncated>"
            f"{more}{inside}</ListBucketResult>"
        )

    def _matching(self, prefix: str) -> range:
        """Return the numbers of the keys that begin with *prefix*: they are next to each other."""
        if DIRECTORY.startswith(prefix):
            return range(self.count)
        digits = prefix.removeprefix(DIRECTORY)
        if not prefix.startswith(DIRECTORY) or not digits.isdigit() or len(digits) > WIDTH:
            return range(0)
        width = 10 ** (WIDTH - len(digits))
        return range(int(digits) * width, min((int(digits) + 1) * width, self.count))

    @staticmethod
    def _contents(number: int) -> str:
        return (
            f"<Contents><Key>{key_of(number)}</Key><LastModified>{TIME}</LastModified>"
            f"<ETag>&quot;{number:032x}&quot;</ETag><Size>{number}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )

    def _object(self, key: str) -> None:
        digits = key.removeprefix(DIRECTORY)
        if len(digits) == WIDTH and digits.isdigit() and int(digits) < self.count:
            number = int(digits)
            self._answer(
                200, bytes(number), "text/plain", {"ETag": f'"{number:032x}"', "Last-Modified": HTTP_TIME}
            )
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>", "application/xml")

    def _answer(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def listing(count: int) -> Iterator[Server]:
    """Serve a directory of *count* keys until the block ends."""
    handler = type("Handler", (_Handler,), {"count": count})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        httpd.daemon_threads = True
        thread = threading.Thread(target=httpd.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield Server("list server", f"http://127.0.0.1:{httpd.server_port}", "key", "secret")
        finally:
            httpd.shutdown()
            thread.join()
