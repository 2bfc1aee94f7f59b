"""Put files into the demo's bucket, as another program than the mount would: three signed requests.

Not the store of a mount, which only ``mount`` may build, and no reason to bring boto3 in here.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import http.client
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from s3mount.core.exits import Exit
from s3mount.errors import StartupError

_REGION = "us-east-1"
_UNSIGNED = "UNSIGNED-PAYLOAD"
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class DemoClient:
    """Talks to one server on loopback, path style."""

    endpoint_url: str
    access_key: str
    secret_key: str = field(repr=False)

    def is_ready(self) -> bool:
        """Return whether the server carries out a signed request."""
        try:
            return self._send("GET", "/") == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

    def create_bucket(self, bucket: str) -> None:
        """Create *bucket*; one that is there already is fine."""
        if self._send("HEAD", f"/{bucket}") != http.client.OK:
            self._must("PUT", f"/{bucket}")

    def put(self, bucket: str, key: str, body: Iterable[bytes], size: int, content_type: str) -> None:
        """Store *size* bytes of *body* as *key*."""
        self._must("PUT", f"/{bucket}/{key}", body, size, content_type)

    def _must(
        self, method: str, path: str, body: Iterable[bytes] = (), size: int = 0, content_type: str = ""
    ) -> None:
        """Send a request that has to succeed. Raises: StartupError."""
        try:
            status = self._send(method, path, body, size, content_type)
        except (OSError, http.client.HTTPException) as error:
            cause = f"{method} {path} failed ({error or type(error).__name__})"
        else:
            if 200 <= status < 300:
                return
            cause = f"{method} {path} was answered with {status}"
        raise StartupError("the demo's server", cause, "see server.log beside its data", Exit.FAILURE)

    def _send(
        self, method: str, path: str, body: Iterable[bytes] = (), size: int = 0, content_type: str = ""
    ) -> int:
        host = urlsplit(self.endpoint_url).netloc
        quoted = quote(path, safe="/-_.~")
        headers = self._signed(method, host, quoted)
        headers["Content-Length"] = str(size)
        if content_type:
            headers["Content-Type"] = content_type
        connection = http.client.HTTPConnection(host, timeout=_TIMEOUT_S)
        try:
            connection.request(method, quoted, body=body if size else None, headers=headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
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
