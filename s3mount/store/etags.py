"""One spelling for every ETag."""

from __future__ import annotations


def quoted(etag: str | None) -> str | None:
    """Return an ETag with its quotes; None for none.

    SeaweedFS leaves them out of CopyObjectResult, and the two spellings must not be two versions.
    """
    if not etag:
        return None
    return etag if etag.startswith(('"', "W/")) else f'"{etag}"'
