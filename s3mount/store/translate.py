"""botocore's exceptions, turned into ours: one table by S3's code, one by HTTP status, one by class.

"Not found" is believed only where the answer can mean nothing else: S3's own code in the body, or a 404
to a HEAD, which has no body. A missing bucket, a proxy's 404 page and an answer that nobody can parse
are failures of the store, never an absent file.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any, Final

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from s3mount.errors import (
    AccessDenied,
    BadAnswer,
    ConditionFailed,
    FileTooLarge,
    FsError,
    InvalidArgument,
    IsADirectory,
    NameTooLong,
    NoAnswer,
    NoSpace,
    NoSuchBucket,
    NotADirectory,
    NotFound,
    NotSupported,
    ServerAnswer,
    SlowDown,
    StaleObject,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
    WriteRace,
)
from s3mount.store.fields import response_headers

READS: Final = frozenset({"HeadObject", "GetObject"})

BY_CODE: Final[dict[str, type[FsError]]] = {
    "NoSuchKey": NotFound,
    "NoSuchVersion": NotFound,
    "NoSuchUpload": NotFound,
    "NoSuchBucket": NoSuchBucket,
    "PreconditionFailed": ConditionFailed,
    "ConditionalRequestConflict": WriteRace,
    "OperationAborted": WriteRace,
    "InvalidRange": InvalidArgument,
    "KeyTooLong": NameTooLong,
    "KeyTooLongError": NameTooLong,
    "InvalidURI": InvalidArgument,
    "XMinioInvalidObjectName": InvalidArgument,
    "XMinioInvalidResourceName": InvalidArgument,
    "XMinioParentIsObject": NotADirectory,
    "XMinioObjectExistsAsDirectory": IsADirectory,
    "EntityTooLarge": FileTooLarge,
    "MaxMessageLengthExceeded": FileTooLarge,
    "MetadataTooLarge": NoSpace,
    "XMinioStorageFull": NoSpace,
    "XMinioAdminBucketQuotaExceeded": NoSpace,
    "QuotaExceeded": NoSpace,
    "NotImplemented": NotSupported,
    "MethodNotAllowed": NotSupported,
    "ExpiredToken": AccessDenied,
    "InvalidToken": AccessDenied,
    "TokenRefreshRequired": AccessDenied,
    "SlowDown": SlowDown,
    "SlowDownRead": SlowDown,
    "SlowDownWrite": SlowDown,
    "ServiceUnavailable": SlowDown,
    "BandwidthLimitExceeded": SlowDown,
    "RequestLimitExceeded": SlowDown,
    "RequestThrottled": SlowDown,
    "Throttling": SlowDown,
    "ThrottlingException": SlowDown,
    "TooManyRequests": SlowDown,
    "RequestTimeout": StoreTimeout,
    "BadDigest": StoreUnavailable,
    "IncompleteBody": StoreUnavailable,
    "XAmzContentChecksumMismatch": StoreUnavailable,
    "XAmzContentSHA256Mismatch": StoreUnavailable,
}

BY_STATUS: Final[dict[int, type[FsError]]] = {
    401: AccessDenied,
    403: AccessDenied,
    405: NotSupported,
    408: StoreTimeout,
    409: ConditionFailed,
    412: ConditionFailed,
    413: FileTooLarge,
    416: InvalidArgument,
    429: SlowDown,
    501: NotSupported,
    507: NoSpace,
}

# The first class that fits counts, so the narrower ones come first.
BY_CLASS: Final[tuple[tuple[type[Exception], type[FsError]], ...]] = (
    (boto.ConnectTimeoutError, StoreTimeout),
    (boto.ReadTimeoutError, StoreTimeout),
    (boto.NoCredentialsError, AccessDenied),
    (boto.PartialCredentialsError, AccessDenied),
    (boto.CredentialRetrievalError, AccessDenied),
    (boto.TokenRetrievalError, AccessDenied),
    (boto.SSOError, AccessDenied),
    (ResponseParserError, BadAnswer),
    (boto.ParamValidationError, InvalidArgument),
    (boto.HTTPClientError, NoAnswer),
    (boto.ConnectionError, NoAnswer),
    (boto.BotoCoreError, StoreError),
    (UnicodeEncodeError, InvalidArgument),
    (TimeoutError, StoreTimeout),
    (OSError, NoAnswer),
)

# What a proxy says that gets no answer itself; from S3 they come with a code.
_OF_PROXIES: Final = frozenset({502, 503, 504})

# A key that MinIO refuses to store is, to a reader, a key that is not there.
_UNSTORABLE: Final = frozenset({"XMinioInvalidObjectName", "XMinioInvalidResourceName"})


def translate(exc: Exception, operation: str, key: str) -> FsError:
    """Return the error to raise, ``from`` *exc*, for *operation* (S3's name for it) on *key*."""
    if isinstance(exc, FsError):
        return exc
    if isinstance(exc, boto.ClientError):
        return _from_answer(exc.response, operation, key)
    for foreign, ours in BY_CLASS:
        if isinstance(exc, foreign):
            return ours(f"{operation} {key!r}: {_first_line(exc)}")
    return StoreError(f"{operation} {key!r}: {type(exc).__name__}: {_first_line(exc)}")


def error_code(response: dict[str, Any]) -> str:
    """Return S3's code of an error answer; for a HEAD, which has no body, MinIO's header or the status."""
    code = str(response.get("Error", {}).get("Code") or "")
    if code.isdigit() or not code:
        return str(response_headers(response).get("x-minio-error-code") or code)
    return code


def _from_answer(response: dict[str, Any], operation: str, key: str) -> FsError:
    answer = response.get("ResponseMetadata", {})
    status = int(answer.get("HTTPStatusCode") or 0)
    code = error_code(response)
    said = " ".join(str(response.get("Error", {}).get("Message") or "").split())
    request_id = answer.get("RequestId")
    message = f"{operation} {key!r}: HTTP {status} {code}: {said} (request {request_id})"
    ours = _class_of(operation, status, code)
    error = ours(message)
    if isinstance(error, SlowDown):
        error.retry_after_s = _retry_after_s(response_headers(response))
    error.answer = ServerAnswer(
        operation, key, status, code, said, None if request_id is None else str(request_id)
    )
    return error


def _class_of(operation: str, status: int, code: str) -> type[FsError]:
    if status == 412 or code == "PreconditionFailed":
        return StaleObject if operation in READS else ConditionFailed
    if operation in READS and code in _UNSTORABLE:
        return NotFound
    if code in BY_CODE:
        return BY_CODE[code]
    if status == 404:
        return NotFound if operation == "HeadObject" and code in ("404", "") else BadAnswer
    if status in BY_STATUS:
        return BY_STATUS[status]
    if 300 <= status < 400:
        return NoSuchBucket
    if status == 503 and operation == "HeadObject":
        # No body tells it from a proxy before a dead server; the patient reading is right for both.
        return SlowDown
    if status in _OF_PROXIES and code in ("", str(status)):
        return NoAnswer
    return StoreUnavailable if status >= 500 else StoreError


def _retry_after_s(headers: dict[str, str]) -> float | None:
    """Return what Retry-After asks for: seconds, or a time, which is then counted from the answer's own."""
    asked = headers.get("retry-after", "").strip()
    if asked.isascii() and asked.isdigit():
        return float(asked[:9])
    try:
        return max(
            0.0, (parsedate_to_datetime(asked) - parsedate_to_datetime(headers["date"])).total_seconds()
        )
    except (KeyError, ValueError, TypeError):
        return None


def _first_line(exc: Exception) -> str:
    text = str(exc).strip()
    return text.splitlines()[0] if text else type(exc).__name__
