"""Why a bucket cannot be used, said so that the user knows what to do: one line each."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.util.ssl_match_hostname import CertificateError

from s3mount.core.exits import Exit
from s3mount.errors import BadAnswer, StartupError
from s3mount.store.translate import error_code

EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
ELSEWHERE: Final = frozenset(
    {"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "Redirect"}
    | {"IllegalLocationConstraintException", "AuthorizationQueryParametersError", "InvalidRegion"}
)
CHECK_ENDPOINT: Final = "check --endpoint-url"
# A TLS alert or handshake record, where a status line of HTTP was awaited.
TLS_RECORDS: Final = ("\\x15\\x03", "\x15\x03", "\\x16\\x03", "\x16\x03")


@dataclass(frozen=True, slots=True)
class Target:
    """What was to be listed, and how."""

    endpoint_url: str
    bucket: str
    prefix: str
    region: str
    signed: bool

    @property
    def endpoint(self) -> str:
        """The endpoint, named."""
        return f"endpoint {self.endpoint_url}"

    @property
    def named_bucket(self) -> str:
        """The bucket, named."""
        return f'bucket "{self.bucket}"'


def explain(exc: Exception, target: Target) -> StartupError:
    """Return the error to raise for *exc*, which the first LIST ended with."""
    if isinstance(exc, StartupError):
        return exc
    if isinstance(exc, boto.ClientError):
        return _explain_answer(exc.response, target)
    if isinstance(exc, BadAnswer | ResponseParserError):
        return _not_s3(target, "answers, but not as S3 does")
    if isinstance(exc, boto.NoCredentialsError | boto.PartialCredentialsError):
        return StartupError(
            "credentials",
            "there are none" if isinstance(exc, boto.NoCredentialsError) else _line(exc),
            "give --profile, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use --no-sign-request "
            "for a public bucket",
            Exit.STORE_REFUSED,
        )
    if isinstance(exc, boto.ParamValidationError):
        return StartupError(
            target.named_bucket, "is no name that a bucket can have", "correct it", Exit.NO_SUCH_BUCKET
        )
    if isinstance(exc, boto.HTTPClientError | boto.ConnectionError):
        return _explain_connection(exc, target)
    if isinstance(exc, boto.BotoCoreError):
        advice = "log in again (for SSO: aws sso login), or choose another --profile"
        return StartupError("credentials", _line(exc), advice, Exit.STORE_REFUSED)
    return StartupError(
        target.named_bucket, f"{type(exc).__name__}: {_line(exc)}", CHECK_ENDPOINT, Exit.FAILURE
    )


def _explain_answer(response: dict[str, Any], target: Target) -> StartupError:
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    code = error_code(response)
    if code.isdigit() or not code:
        return _explain_codeless(status, response, target)
    if code in ELSEWHERE or 300 <= status < 400:
        return _wrong_region(response, target)
    if code == "RequestTimeTooSkewed":
        return _skewed(response, target)
    for codes, thing, cause, advice in _refusals(target):
        if code in codes:
            return StartupError(thing, cause, advice, Exit.STORE_REFUSED)
    if code in ("NoSuchBucket", "InvalidBucketName"):
        cause = "does not exist" if code == "NoSuchBucket" else "is no name that a bucket can have"
        advice = "create it, or correct the name or --endpoint-url"
        return StartupError(
            target.named_bucket, f"{cause} at {target.endpoint_url}", advice, Exit.NO_SUCH_BUCKET
        )
    if status in (401, 403):
        return _forbidden(target)
    said = f"answers HTTP {status} {code}: {_said(response)}"
    if status >= 500 or status == 429:
        return StartupError(target.endpoint, said, "try again later", Exit.STORE_UNREACHABLE)
    return StartupError(target.endpoint, said, CHECK_ENDPOINT, Exit.FAILURE)


def _refusals(target: Target) -> tuple[tuple[frozenset[str], str, str, str], ...]:
    return (
        (
            frozenset({"InvalidAccessKeyId"}),
            "access key",
            f"is not known at {target.endpoint_url}",
            "check AWS_ACCESS_KEY_ID, --profile or the credentials file",
        ),
        (
            frozenset({"SignatureDoesNotMatch"}),
            "secret key",
            f"does not belong to the access key, says {target.endpoint_url}",
            "check AWS_SECRET_ACCESS_KEY, --profile or the credentials file",
        ),
        (
            EXPIRED,
            "session token",
            "has expired",
            "get a new one (for SSO: aws sso login)",
        ),
        (
            frozenset({"InvalidToken", "InvalidTokenId", "InvalidClientTokenId"}),
            "session token",
            f"is not valid at {target.endpoint_url}",
            "check AWS_SESSION_TOKEN, or get a new one",
        ),
    )


def _explain_codeless(status: int, response: dict[str, Any], target: Target) -> StartupError:
    """Explain an error without S3's document: some other web server, or a proxy before a dead one."""
    if 300 <= status < 400 and _right_region(response) is not None:
        return _wrong_region(response, target)
    if status == 400 and target.endpoint_url.startswith("http:"):
        return _not_s3(target, "answers HTTP 400 without an S3 error", "use https:// if it speaks TLS")
    if status in (502, 503, 504):
        cause = f"answers HTTP {status} without an S3 error"
        return StartupError(target.endpoint, cause, "see whether the server runs", Exit.STORE_UNREACHABLE)
    return _not_s3(target, f"answers HTTP {status} without an S3 error")


def _wrong_region(response: dict[str, Any], target: Target) -> StartupError:
    region = _right_region(response)
    if region is not None and region != target.region:
        cause = f"is in region {region}, not {target.region}"
        return StartupError(target.named_bucket, cause, f"give --region {region}", Exit.WRONG_REGION)
    where = response.get("Error", {}).get("Endpoint")
    cause = f"is not served in region {target.region} by {target.endpoint_url}"
    if where:
        cause += f", but by {where}"
    return StartupError(
        target.named_bucket, cause, "give the bucket's own --region or --endpoint-url", Exit.WRONG_REGION
    )


def _right_region(response: dict[str, Any]) -> str | None:
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or response.get("Error", {}).get("Region")
    return str(region) if region else None


def _skewed(response: dict[str, Any], target: Target) -> StartupError:
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    ours = datetime.now(UTC)
    try:
        theirs = parsedate_to_datetime(headers.get("date", "")).astimezone(UTC).isoformat(" ", "seconds")
    except ValueError:
        theirs = str(response.get("Error", {}).get("ServerTime") or "another time")
    return StartupError(
        "clock",
        f"this machine says {ours.isoformat(' ', 'seconds')}, {target.endpoint_url} says {theirs}",
        "set this machine's clock (timedatectl set-ntp true)",
        Exit.STORE_REFUSED,
    )


def _forbidden(target: Target) -> StartupError:
    thing = f"listing of s3://{target.bucket}/{target.prefix}"
    if target.signed:
        advice = "ask for s3:ListBucket on it, or mount a prefix that you may list"
        return StartupError(thing, "is not permitted to these credentials", advice, Exit.STORE_REFUSED)
    return StartupError(
        thing, "is not permitted without credentials", "leave out --no-sign-request", Exit.STORE_REFUSED
    )


def _explain_connection(exc: Exception, target: Target) -> StartupError:
    causes = list(_causes(exc))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return _explain_tls(cause, target)
        if isinstance(cause, CertificateError):
            said = f"certificate is not for this host: {_line(cause)}"
            advice = "use a host name that the certificate is for"
            return StartupError(target.endpoint, said, advice, Exit.TLS)
    text = " ".join(str(cause) for cause in causes)
    if any(record in text for record in TLS_RECORDS):
        return StartupError(target.endpoint, "speaks TLS", "use https:// in --endpoint-url", Exit.TLS)
    if any(isinstance(cause, http.client.BadStatusLine) for cause in causes) and not any(
        isinstance(cause, http.client.RemoteDisconnected) for cause in causes
    ):
        return _not_s3(target, "does not speak HTTP")
    said, advice = _unreachable(exc, causes, text)
    return StartupError(target.endpoint, said, advice, Exit.STORE_UNREACHABLE)


def _unreachable(exc: Exception, causes: list[BaseException], text: str) -> tuple[str, str]:
    if any(isinstance(cause, socket.gaierror) for cause in causes) or "NameResolution" in text:
        return "no such host", "check the host name in --endpoint-url, and the network"
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes) or "Errno 111" in text:
        return "connection refused", "start the server, or correct the port in --endpoint-url"
    if isinstance(exc, boto.ConnectTimeoutError):
        return "no connection within the connect timeout", "check the address and the network"
    if isinstance(exc, boto.ReadTimeoutError):
        return "accepts connections and does not answer", "see whether the server hangs"
    if any(isinstance(cause, http.client.RemoteDisconnected | ConnectionResetError) for cause in causes):
        return "closes the connection without an answer", "check the port and http or https"
    return _line(exc), "check the address and the network"


def _explain_tls(exc: ssl.SSLError, target: Target) -> StartupError:
    if isinstance(exc, ssl.SSLCertVerificationError):
        said = exc.verify_message or _line(exc)
        advice = "give --ca-bundle with the certificate of who signed it"
        if "expired" in said:
            advice = "renew the server's certificate, and check this machine's clock"
        elif "ostname" in said or "IP address mismatch" in said:
            advice = "use a host name that the certificate is for"
        return StartupError(target.endpoint, f"certificate is not trusted: {said}", advice, Exit.TLS)
    reason = exc.reason or ""
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        advice = "use http:// in --endpoint-url, or the TLS port"
        return StartupError(target.endpoint, "does not speak TLS", advice, Exit.TLS)
    return StartupError(target.endpoint, f"TLS failed: {reason or _line(exc)}", CHECK_ENDPOINT, Exit.TLS)


def _not_s3(target: Target, cause: str, advice: str = "") -> StartupError:
    advice = f"{CHECK_ENDPOINT}; {advice}" if advice else f"{CHECK_ENDPOINT}: this is no S3 server"
    return StartupError(target.endpoint, cause, advice, Exit.NOT_S3)


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield *exc* and what it wraps: botocore and urllib3 keep causes in three different places."""
    seen: set[int] = set()
    waiting: list[object] = [exc]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        kwargs = getattr(one, "kwargs", None)
        waiting += [*one.args, one.__cause__, one.__context__, getattr(one, "reason", None)]
        waiting.append(kwargs.get("error") if isinstance(kwargs, dict) else None)


def _said(response: dict[str, Any]) -> str:
    return " ".join(str(response.get("Error", {}).get("Message") or "").split())


def _line(exc: BaseException) -> str:
    return " ".join(str(exc).split())
