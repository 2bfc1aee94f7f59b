"""What to do about an error: a sentence for the user, by what the server said or by the errno alone."""

from __future__ import annotations

import errno
from typing import Final

from s3mount.errors import FsError, LinkNotFollowed, LinkNotStored, OwnerFixed

_BY_CODE: Final = {
    "AccessDenied": "these credentials may not do that: look at the policy of the user or the bucket",
    "AllAccessDisabled": "the bucket's owner has to allow it",
    "InvalidAccessKeyId": "the server does not know the access key: it was deleted, or is another server's",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key, or a proxy changes requests",
    "ExpiredToken": "get a new session token (for SSO: aws sso login); the mount takes it up by itself",
    "InvalidToken": "the session token is wrong: get a new one",
    "TokenRefreshRequired": "get a new session token; the mount takes it up by itself",
    "RequestTimeTooSkewed": "set this machine's clock: timedatectl set-ntp true",
    "NoSuchBucket": "the bucket was deleted, or is on another server",
    "NoSuchUpload": "the upload was aborted elsewhere; close the file again",
    "SlowDown": "the server asks for fewer requests; the mount sends fewer and tries again by itself",
    "QuotaExceeded": "the bucket's quota is used up: free some space there",
    "XMinioAdminBucketQuotaExceeded": "the bucket's quota is used up: free some space there",
    "XMinioStorageFull": "the server's disks are full",
    "KeyTooLongError": "shorten the name, or the names of the directories above it",
    "XMinioInvalidObjectName": "MinIO does not take this name as a key",
    "XMinioParentIsObject": "MinIO keeps no a/b beside an object a: rename one of the two",
    "InvalidObjectState": "the object is archived: restore it first",
    "PreconditionFailed": "another writer was faster: read the file again, then decide about your version",
    "InternalError": "the server has a fault of its own: its log knows the request by its id",
}
_BY_STATUS: Final = {
    401: "the server does not take these credentials",
    403: "these credentials may not do that: look at the policy of the user or the bucket",
    412: _BY_CODE["PreconditionFailed"],
    429: _BY_CODE["SlowDown"],
    503: _BY_CODE["SlowDown"],
}
_BY_ERRNO: Final = {
    errno.EACCES: "look at the credentials and what they permit",
    errno.EBADF: "the program's own mistake: it opened the file for something else",
    errno.EBUSY: "it is being worked on: try again a little later",
    errno.EFBIG: "S3 stores no object as large as this: split the file",
    errno.EILSEQ: "a key has to be UTF-8: rename the file",
    errno.EINPROGRESS: "a directory's rename goes on in the background: `s3mount spool list` shows how far",
    errno.EINVAL: "the name is reserved, or a bucket cannot do what was asked",
    errno.EIO: "see the log; if the server is not reachable, it is tried again when it is",
    errno.ENAMETOOLONG: "a name has at most 255 bytes, a key 1,024",
    errno.ENFILE: "close files, or raise the limit of descriptors and mount again: ulimit -Hn",
    errno.ENOSPC: "the spool's disk or its cap is full: `s3mount status` shows both",
    errno.ENOTSUP: "a bucket cannot do that",
    errno.EPERM: "a bucket has no hard links, devices or set-uid bits",
    errno.EROFS: "the mount is read-only",
    errno.ESTALE: "the object was changed or deleted elsewhere: open it again",
    errno.ETIMEDOUT: "the server is slow or out of reach; --operation-timeout is the limit",
}
_LINKS: Final = "--links=all permits links to anywhere, --links=inside those that stay within the mount"
_BY_KIND: Final[dict[type[FsError], str]] = {
    LinkNotFollowed: _LINKS,
    LinkNotStored: _LINKS,
    OwnerFixed: "here every file is --uid's and --gid's: --owners=bucket shows and stores owners",
}


def advice_for(error: FsError, http_status: int | None = None, code: str | None = None) -> str:
    """Return what to do about *error*, where the server said *code* with *http_status*."""
    if code in _BY_CODE:
        return _BY_CODE[code]
    if http_status in _BY_STATUS:
        return _BY_STATUS[http_status]
    return _BY_KIND.get(type(error)) or _BY_ERRNO.get(error.errno, "see the log")
