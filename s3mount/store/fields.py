"""botocore's parameters and answers, to and from our records."""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from s3mount.core.objects import ObjectHeaders, ObjectStat, WriteAnswer
from s3mount.store.etags import quoted
from s3mount.store.listing_xml import NS_PER_S, normal_storage_class, whole_seconds_ns

_HEADERS: Final = (
    ("ContentType", "content_type"),
    ("CacheControl", "cache_control"),
    ("ContentDisposition", "content_disposition"),
    ("ContentEncoding", "content_encoding"),
    ("ContentLanguage", "content_language"),
    ("StorageClass", "storage_class"),
)


def header_fields(headers: ObjectHeaders) -> dict[str, Any]:
    """Return the parameters with which botocore sends *headers*."""
    fields: dict[str, Any] = {
        theirs: getattr(headers, ours) for theirs, ours in _HEADERS if getattr(headers, ours) is not None
    }
    if headers.metadata:
        fields["Metadata"] = dict(headers.metadata)
    return fields


def stat_of_head(key: str, answer: dict[str, Any]) -> ObjectStat:
    """Return what the answer to a HEAD says; size -1 and ETag "" where it does not."""
    modified = answer.get("LastModified")
    storage_class = normal_storage_class(answer.get("StorageClass"))
    return ObjectStat(
        key=key,
        size=int(answer.get("ContentLength", -1)),
        etag=quoted(answer.get("ETag")) or "",
        last_modified_ns=whole_seconds_ns(modified) if isinstance(modified, datetime) else 0,
        headers=ObjectHeaders(
            **{ours: answer.get(theirs) for theirs, ours in _HEADERS if theirs != "StorageClass"},
            storage_class=storage_class,
            metadata={
                name.lower(): _header_text(value) for name, value in answer.get("Metadata", {}).items()
            },
        ),
        storage_class=storage_class,
        crc32=answer.get("ChecksumCRC32"),
        has_tags=bool(answer.get("TagCount")),
    )


def write_answer(answer: dict[str, Any], etag: str | None) -> WriteAnswer:
    """Return what the answer to a write says."""
    return WriteAnswer(etag=quoted(etag), server_time_ns=_date_ns(response_headers(answer).get("date")))


def response_headers(answer: dict[str, Any]) -> dict[str, str]:
    """Return the HTTP headers of an answer, with lower-case names."""
    headers: dict[str, str] = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return headers


def _date_ns(text: str | None) -> int | None:
    try:
        return int(parsedate_to_datetime(text or "").timestamp()) * NS_PER_S
    except ValueError:
        return None


def _header_text(value: str) -> str:
    """Undo http.client's Latin-1 where the server sent UTF-8, as MinIO does; its LIST has it right."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
