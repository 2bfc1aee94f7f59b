"""DeleteObjects with every key accounted for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from s3mount.errors import AccessDenied
from s3mount.store.translate import error_code

# The request is XML 1.0, which cannot say these, not even escaped; and a carriage return does not
# survive every server's parser.
_NOT_XML: Final = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]")
_GONE: Final = frozenset({"NoSuchKey", "NoSuchVersion"})


def delete_keys(client: Any, bucket: str, keys: Sequence[str]) -> list[str]:
    """Delete up to 1,000 keys; return those that the server did not say it deleted, in their order.

    The verbose form is asked for: in the quiet one an empty answer would be success.

    Raises: ClientError, BotoCoreError; AccessDenied where it was said of every key.
    """
    if not keys:
        return []
    deleted: set[str] = set()
    denied = 0
    together = [key for key in keys if not _NOT_XML.search(key)]
    if together:
        answer = client.delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": key} for key in together], "Quiet": False}
        )
        deleted |= {one.get("Key") for one in answer.get("Deleted", ())}
        for error in answer.get("Errors", ()):
            if error.get("Code") in _GONE:
                deleted.add(error.get("Key"))
            denied += error.get("Code") == "AccessDenied"
    for key in set(keys).difference(together):
        try:
            client.delete_object(Bucket=bucket, Key=key)
        except ClientError as exc:
            if error_code(exc.response) not in _GONE:
                raise
        deleted.add(key)
    left = [key for key in keys if key not in deleted]
    if denied and denied == len(keys):
        raise AccessDenied(f"DeleteObjects: not permitted for any of {len(keys)} keys")
    return left
