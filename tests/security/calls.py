"""A call of the store for each operation of S3, for answers that spoil whatever was asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from s3mount.core.objects import ByteRange, MultipartUpload, ObjectHeaders, PartTag
from s3mount.store.checked import CheckedStore

PLAIN = ObjectHeaders()
UPLOAD = MultipartUpload("d/x", "upload-id")

StoreCall = Callable[[CheckedStore], Awaitable[Any]]


def get(store: CheckedStore) -> Awaitable[Any]:
    """Read bytes 2 to 6."""
    return store.get_into("d/x", ByteRange(2, 6), memoryview(bytearray(4)), if_match=None)


CALLS: dict[str, StoreCall] = {
    "HeadObject": lambda store: store.head("d/x"),
    "GetObject": get,
    "ListObjectsV2": lambda store: store.list_page("d/"),
    "PutObject": lambda store: store.put("d/x", b"body", PLAIN),
    "CopyObject": lambda store: store.copy("d/x", "d/y", if_match=None, headers=None),
    "CreateMultipartUpload": lambda store: store.create_multipart("d/x", PLAIN),
    "UploadPart": lambda store: store.upload_part(UPLOAD, 1, b"body"),
    "UploadPartCopy": lambda store: store.copy_part(UPLOAD, 1, "d/y", ByteRange(0, 1), if_match='"e"'),
    "CompleteMultipartUpload": lambda store: store.complete_multipart(UPLOAD, [PartTag(1, '"e"', 4)]),
    "ListParts": lambda store: store.list_parts(UPLOAD),
    "ListMultipartUploads": lambda store: store.list_multipart_uploads("d/"),
    "AbortMultipartUpload": lambda store: store.abort_multipart(UPLOAD),
    "DeleteObject": lambda store: store.delete("d/x"),
    "DeleteObjects": lambda store: store.delete_many(["d/x", "d/y"]),
}
WITHOUT_BODY = [operation for operation in CALLS if operation not in ("HeadObject", "GetObject")]
"""Whose answers are S3's own words, if any: the body of a GET is the object's, and that of a HEAD is none."""
