"""What an HTTP request to an S3 server is: its operation, bucket and key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(slots=True)
class S3Request:
    """One request as it passed: what was asked, and what came of it.

    Args:
        operation: S3's name of it; the HTTP method where it is none of those that s3mount sends.
        range: the Range header.
        bytes_in: bytes of the request's body.
        bytes_out: bytes of the answer's body, known when the answer has gone by.
        status: of the answer; 0 when none came or none was passed on.
    """

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    operation: str
    range: str | None
    headers: Mapping[str, str] = field(repr=False)
    bytes_in: int = 0
    bytes_out: int = 0
    status: int = 0


def parse_request(method: str, target: str, headers: Mapping[str, str]) -> S3Request:
    """Return the record of a path-style request; header names are lower-case."""
    parts = urlsplit(target)
    bucket, _, key = parts.path.removeprefix("/").partition("/")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    key = unquote(key, errors="surrogateescape")
    return S3Request(
        method=method,
        bucket=unquote(bucket),
        key=key,
        query=query,
        operation=classify(method, bucket, key, query, headers),
        range=headers.get("range"),
        headers=headers,
    )


def classify(method: str, bucket: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
    """Return S3's name of the operation."""
    if not bucket:
        return "ListBuckets" if method == "GET" else method
    if not key:
        return _of_bucket(method, query)
    copies = "x-amz-copy-source" in headers
    if "uploadId" in query:
        if method == "PUT":
            return "UploadPartCopy" if copies else "UploadPart"
        return {
            "POST": "CompleteMultipartUpload",
            "DELETE": "AbortMultipartUpload",
            "GET": "ListParts",
        }.get(method, method)
    if method == "POST" and "uploads" in query:
        return "CreateMultipartUpload"
    for subresource, name in (("tagging", "ObjectTagging"), ("acl", "ObjectAcl")):
        if subresource in query:
            return method.capitalize() + name
    if method == "PUT" and copies:
        return "CopyObject"
    return {
        "GET": "GetObject",
        "HEAD": "HeadObject",
        "PUT": "PutObject",
        "DELETE": "DeleteObject",
    }.get(method, method)


def _of_bucket(method: str, query: Mapping[str, str]) -> str:
    if method == "GET":
        if query.get("list-type") == "2":
            return "ListObjectsV2"
        if "uploads" in query:
            return "ListMultipartUploads"
        if "events" in query:
            return "ListenNotification"
        for subresource, name in (("location", "GetBucketLocation"), ("versioning", "GetBucketVersioning")):
            if subresource in query:
                return name
        return "ListObjects"
    if method == "POST" and "delete" in query:
        return "DeleteObjects"
    return {"HEAD": "HeadBucket", "PUT": "CreateBucket", "DELETE": "DeleteBucket"}.get(method, method)
