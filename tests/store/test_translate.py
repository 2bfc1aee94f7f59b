"""What a server or the network said becomes the one error that is true."""

from __future__ import annotations

import pytest
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from s3mount.errors import (
    AccessDenied,
    BadAnswer,
    ConditionFailed,
    FileTooLarge,
    FsError,
    InvalidArgument,
    NameTooLong,
    NoAnswer,
    NoSpace,
    NoSuchBucket,
    NotFound,
    NotSupported,
    SlowDown,
    StaleObject,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
    WriteRace,
)
from s3mount.store.translate import translate

URL = "http://127.0.0.1:9000/b/k"


def answered(status: int, code: str, operation: str = "PutObject", **headers: str) -> FsError:
    """Translate an error answer."""
    response = {
        "Error": {"Code": code, "Message": "said\nso"},
        "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "R1", "HTTPHeaders": headers},
    }
    return translate(boto.ClientError(response, operation), operation, "d/k")


@pytest.mark.parametrize(
    ("status", "code", "operation", "expected"),
    [
        (404, "NoSuchKey", "GetObject", NotFound),
        (404, "404", "HeadObject", NotFound),
        (404, "NoSuchUpload", "UploadPart", NotFound),
        (404, "NoSuchKey", "CopyObject", NotFound),
        (404, "NoSuchBucket", "GetObject", NoSuchBucket),
        (404, "NoSuchBucket", "ListObjectsV2", NoSuchBucket),
        (404, "404", "GetObject", BadAnswer),
        (404, "404", "ListObjectsV2", BadAnswer),
        (404, "404", "DeleteObject", BadAnswer),
        (403, "403", "HeadObject", AccessDenied),
        (403, "AccessDenied", "PutObject", AccessDenied),
        (403, "RequestTimeTooSkewed", "PutObject", AccessDenied),
        (400, "ExpiredToken", "PutObject", AccessDenied),
        (412, "PreconditionFailed", "GetObject", StaleObject),
        (412, "412", "HeadObject", StaleObject),
        (412, "PreconditionFailed", "PutObject", ConditionFailed),
        (412, "PreconditionFailed", "UploadPartCopy", ConditionFailed),
        (409, "ConditionalRequestConflict", "PutObject", WriteRace),
        (416, "InvalidRange", "GetObject", InvalidArgument),
        (400, "KeyTooLongError", "PutObject", NameTooLong),
        (400, "XMinioInvalidObjectName", "PutObject", InvalidArgument),
        (400, "XMinioInvalidObjectName", "HeadObject", NotFound),
        (400, "EntityTooLarge", "PutObject", FileTooLarge),
        (507, "XMinioStorageFull", "PutObject", NoSpace),
        (501, "NotImplemented", "PutObject", NotSupported),
        (503, "SlowDown", "PutObject", SlowDown),
        (503, "SlowDownRead", "GetObject", SlowDown),
        (503, "503", "HeadObject", SlowDown),
        (503, "503", "GetObject", NoAnswer),
        (429, "TooManyRequests", "GetObject", SlowDown),
        (429, "", "GetObject", SlowDown),
        (500, "InternalError", "PutObject", StoreUnavailable),
        (502, "502", "HeadObject", NoAnswer),
        (504, "", "PutObject", NoAnswer),
        (503, "Unknown", "PutObject", StoreUnavailable),
        (500, "500", "HeadObject", StoreUnavailable),
        (301, "PermanentRedirect", "PutObject", NoSuchBucket),
        (400, "SomethingNew", "PutObject", StoreError),
    ],
)
def test_answers(status: int, code: str, operation: str, expected: type[FsError]) -> None:
    """By S3's code, else by status; 404 is "not found" only where nothing else can be meant."""
    assert type(answered(status, code, operation)) is expected


def test_a_head_is_told_from_a_missing_bucket_where_the_server_helps() -> None:
    """A HEAD has no body; MinIO puts the code into a header."""
    found = answered(404, "404", "HeadObject", **{"x-minio-error-code": "NoSuchBucket"})
    assert type(found) is NoSuchBucket


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "999999999999999999999"}, 999999999.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        (
            {"retry-after": "Wed, 21 Oct 2026 07:28:09 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"},
            9.0,
        ),
        (
            {"retry-after": "Wed, 21 Oct 2026 07:27:00 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"},
            0.0,
        ),
    ],
    ids=repr,
)
def test_what_retry_after_asks_for(headers: dict[str, str], expected: float | None) -> None:
    """Seconds or a time by the server's clock; nonsense is nothing."""
    found = answered(503, "SlowDown", **headers)
    assert isinstance(found, SlowDown)
    assert found.retry_after_s == expected


def test_the_message_names_everything_on_one_line() -> None:
    """Operation, key, status, code, what was said, and the request's id."""
    assert str(answered(500, "InternalError")) == (
        "PutObject 'd/k': HTTP 500 InternalError: said so (request R1)"
    )


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (boto.ConnectTimeoutError(endpoint_url=URL), StoreTimeout),
        (boto.ReadTimeoutError(endpoint_url=URL), StoreTimeout),
        (boto.EndpointConnectionError(endpoint_url=URL), NoAnswer),
        (boto.ConnectionClosedError(endpoint_url=URL), NoAnswer),
        (boto.SSLError(endpoint_url=URL, error="e"), NoAnswer),
        (boto.HTTPClientError(error="e"), NoAnswer),
        (boto.NoCredentialsError(), AccessDenied),
        (boto.CredentialRetrievalError(provider="p", error_msg="m"), AccessDenied),
        (boto.ParamValidationError(report="r"), InvalidArgument),
        (ResponseParserError("no XML"), BadAnswer),
        (boto.BotoCoreError(), StoreError),
        (ConnectionResetError("r"), NoAnswer),
        (TimeoutError("t"), StoreTimeout),
        (RecursionError("deep"), StoreError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_exceptions(exc: Exception, expected: type[FsError]) -> None:
    """None of them means that something is not there."""
    assert type(translate(exc, "GetObject", "k")) is expected


def test_our_own_errors_pass() -> None:
    """What was translated already stays what it is."""
    error = BadAnswer("x")
    assert translate(error, "GetObject", "k") is error
