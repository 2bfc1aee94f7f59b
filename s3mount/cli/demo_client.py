"""Put files into the demo's bucket, as another program than the mount would: a few signed requests.

Not the store of a mount, which only ``mount`` may build, and no reason to bring boto3 in here.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import html
import http.client
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from s3mount.core.exits import Exit
from s3mount.errors import StartupError

_REGION = "us-east-1"
_UNSIGNED = "UNSIGNED-PAYLOAD"
_TIMEOUT_S = 60.0
_RETRY_S = 15.0
_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class DemoClient:
    """Talks to one server on loopback, path style."""

    endpoint_url: str
    access_key: str
    secret_key: str = field(repr=False)

    def is_ready(self, bucket: str) -> bool:
        """Return whether the server answers, and reads what it has stored in *bucket*, if anything.

        It answers, and lists, some time before it knows where the contents are.
        """
        try:
            status, listing = self._send("GET", f"/{bucket}")
            if status == http.client.NOT_FOUND:
                return self._send("GET", "/")[0] == http.client.OK
            if status != http.client.OK:
                return False
            found = re.search(rb"<Key>([^<]+)</Key>(?:(?!</Contents>).)*<Size>[1-9]", listing, re.DOTALL)
            return found is None or self._reads(f"/{bucket}/{html.unescape(found[1].decode())}")
        except (OSError, http.client.HTTPException):
            return False

    def create_bucket(self, bucket: str) -> None:
        """Create *bucket*; one that is there already is fine."""
        if self._send("HEAD", f"/{bucket}")[0] != http.client.OK:
            self._must("PUT", f"/{bucket}")

    def put(
        self, bucket: str, key: str, body: Callable[[], Iterable[bytes]], size: int, content_type: str
    ) -> None:
        """Store *size* bytes of *body* as *key*."""
        self._must("PUT", f"/{bucket}/{key}", body, size, content_type)

    def _reads(self, path: str) -> bool:
        return self._send("GET", path, more={"Range": "bytes=0-0"})[0] == http.client.PARTIAL_CONTENT

    def _must(
        self,
        method: str,
        path: str,
        body: Callable[[], Iterable[bytes]] | None = None,
        size: int = 0,
        content_type: str = "",
    ) -> None:
        """Send a request that has to succeed, again while a server that has just started cannot yet.

        Raises: StartupError.
        """
        deadline = time.monotonic() + _RETRY_S
        more = {"Content-Type": content_type} if content_type else {}
        while True:
            try:
                status, _ = self._send(method, path, body() if body else (), size, more)
            except (OSError, http.client.HTTPException) as error:
                cause = f"{method} {path} failed ({error or type(error).__name__})"
            else:
                if 200 <= status < 300:
                    return
                cause = f"{method} {path} was answered with {status}"
            if time.monotonic() > deadline:
                advice = "see server.log beside its data"
                raise StartupError("the demo's server", cause, advice, Exit.FAILURE)
            time.sleep(_PAUSE_S)

    def _send(
        self,
        method: str,
        path: str,
        body: Iterable[bytes] = (),
        size: int = 0,
        more: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Return the status and the body of the answer."""
        host = urlsplit(self.endpoint_url).netloc
        quoted = quote(path, safe="/-_.~")
        headers = self._signed(method, host, quoted) | {"Content-Length": str(size)} | dict(more or {})
        connection = http.client.HTTPConnection(host, timeout=_TIMEOUT_S)
        try:
            connection.request(method, quoted, body=body if size else None, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _signed(self, method: str, host: str, quoted_path: str) -> dict[str, str]:
        """Return the headers of AWS Signature Version 4 for a request without a query.

        https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
        """
        moment = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}"
        day = moment[:8]
        signed = {"host": host, "x-amz-content-sha256": _UNSIGNED, "x-amz-date": moment}
        names = ";".join(signed)
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        request = f"{method}\n{quoted_path}\n\n{lines}\n{names}\n{_UNSIGNED}"
        scope = f"{day}/{_REGION}/s3/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        key = f"AWS4{self.secret_key}".encode()
        for step in (day, _REGION, "s3", "aws4_request", f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"):
            key = hmac.digest(key, step.encode(), "sha256")
        credential = f"Credential={self.access_key}/{scope}"
        authorization = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={key.hex()}"
        return signed | {"authorization": authorization}
