"""ListMultipartUploads and ListParts, to the end."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from s3mount.core.objects import MultipartUpload, PartTag
from s3mount.errors import BadAnswer
from s3mount.store.etags import quoted
from s3mount.store.listing_xml import unquote_key

MAX_PAGES: Final = 10_000


def list_uploads(client: Any, bucket: str, prefix: str, *, encoded: bool) -> list[MultipartUpload]:
    """Return all unfinished uploads under *prefix*.

    Args:
        encoded: ask for percent-encoded keys, without which control characters are not XML.
    Raises: BadAnswer (no listing, or pages that do not end), botocore's exceptions.
    """
    uploads: list[MultipartUpload] = []
    asked: dict[str, str] = {"EncodingType": "url"} if encoded else {}
    after: dict[str, str] = {}
    for _ in range(MAX_PAGES):
        page = client.list_multipart_uploads(Bucket=bucket, Prefix=prefix, **asked, **after)
        if not page.get("Bucket"):
            raise BadAnswer(f"ListMultipartUploads {prefix!r}: the answer names no bucket")
        decode = unquote_key if encoded and page.get("EncodingType") == "url" else str
        uploads += [
            MultipartUpload(decode(one["Key"]), one["UploadId"], _time_ns(one.get("Initiated")))
            for one in page.get("Uploads", ())
        ]
        if not page.get("IsTruncated"):
            return uploads
        next_page = {
            "KeyMarker": decode(page.get("NextKeyMarker") or ""),
            "UploadIdMarker": page.get("NextUploadIdMarker") or "",
        }
        if next_page == after or not next_page["KeyMarker"]:
            break
        after = next_page
    raise BadAnswer(f"ListMultipartUploads {prefix!r}: the pages do not end")


def list_parts(client: Any, bucket: str, key: str, upload_id: str) -> list[PartTag]:
    """Return the parts of an upload, each number once, in the order of their numbers.

    SeaweedFS keeps every version of a part that was sent again, lists them all, and Complete takes the
    one whose ETag it is given. The latest is returned; of two in the same second, any.

    Raises: BadAnswer (another upload's parts, none's, or pages that do not end), botocore's exceptions.
    """
    found: dict[int, tuple[int, PartTag]] = {}
    after: dict[str, int] = {}
    for _ in range(MAX_PAGES):
        page = client.list_parts(Bucket=bucket, Key=key, UploadId=upload_id, **after)
        if page.get("UploadId") != upload_id:
            raise BadAnswer(f"ListParts {key!r}: the answer is about upload {page.get('UploadId')}")
        for one in page.get("Parts", ()):
            part = _part(one)
            sent_ns = _time_ns(one.get("LastModified")) or 0
            if part.number not in found or sent_ns >= found[part.number][0]:
                found[part.number] = (sent_ns, part)
        if not page.get("IsTruncated"):
            return [found[number][1] for number in sorted(found)]
        marker = int(page.get("NextPartNumberMarker") or 0)
        if marker <= after.get("PartNumberMarker", 0):
            break
        after = {"PartNumberMarker": marker}
    raise BadAnswer(f"ListParts {key!r}: the pages do not end")


def _part(listed: dict[str, Any]) -> PartTag:
    return PartTag(
        number=int(listed.get("PartNumber", 0)),
        etag=quoted(listed.get("ETag")),
        size=int(listed.get("Size", -1)),
        crc32=listed.get("ChecksumCRC32"),
    )


def _time_ns(time: Any) -> int | None:
    return int(time.timestamp() * 1000) * 1_000_000 if isinstance(time, datetime) else None
