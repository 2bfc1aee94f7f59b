"""ListMultipartUploads to the end."""

from __future__ import annotations

from typing import Any, Final

from s3mount.core.objects import MultipartUpload
from s3mount.errors import BadAnswer
from s3mount.store.listing_xml import unquote_key

MAX_PAGES: Final = 10_000


def list_uploads(client: Any, bucket: str, prefix: str, *, encoded: bool) -> list[MultipartUpload]:
    """Return all unfinished uploads under *prefix*.

    Args:
        encoded: ask for percent-encoded keys, without which control characters are not XML.
    Raises: BadAnswer (pages that do not end), botocore's exceptions.
    """
    uploads: list[MultipartUpload] = []
    asked: dict[str, str] = {"EncodingType": "url"} if encoded else {}
    after: dict[str, str] = {}
    for _ in range(MAX_PAGES):
        page = client.list_multipart_uploads(Bucket=bucket, Prefix=prefix, **asked, **after)
        decode = unquote_key if encoded and page.get("EncodingType") == "url" else str
        uploads += [MultipartUpload(decode(one["Key"]), one["UploadId"]) for one in page.get("Uploads", ())]
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
