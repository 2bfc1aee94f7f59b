"""Whether uploads carry checksums, decided by what the server accepts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from s3mount.store.client import sends_checksums, set_checksums
from s3mount.store.translate import error_code

log = logging.getLogger(__name__)
T = TypeVar("T")

# What servers have been seen to say to a checksum header or an aws-chunked body they do not know.
REFUSALS: Final = frozenset(
    {
        "NotImplemented",
        "InvalidArgument",
        "InvalidRequest",
        "InvalidDigest",
        "MalformedTrailerError",
        "MissingContentLength",
        "SignatureDoesNotMatch",
        "XAmzContentSHA256Mismatch",
        "400",
        "411",
        "501",
    }
)

# What a server says, too, when a request that it could well have taken was damaged on its way.
DAMAGED: Final = frozenset({"InvalidDigest", "SignatureDoesNotMatch", "XAmzContentSHA256Mismatch"})


class ChecksumSwitch:
    """Sends CRC32 until the server refuses it, then never again, with one WARNING.

    A refusal is proven, not guessed: the same request must succeed without the checksum, and where damage
    would look the same, fail once more with it.
    """

    def __init__(self, client: Any, *, may_stop: bool) -> None:
        self._client = client
        self._may_stop = may_stop
        self._lock = threading.Lock()

    def call(self, send: Callable[[], T]) -> T:
        """Call *send*, once more without checksums where they may be what the server refused.

        Raises: what *send* raises.
        """
        with_checksums = sends_checksums(self._client)
        try:
            return send()
        except ClientError as refusal:
            if not (with_checksums and self._may_stop and error_code(refusal.response) in REFUSALS):
                raise
            last = refusal
        if error_code(last.response) in DAMAGED:
            try:
                return send()
            except ClientError as again:
                if error_code(again.response) != error_code(last.response):
                    raise
                last = again
        return self._call_without(send, last)

    def _call_without(self, send: Callable[[], T], refusal: ClientError) -> T:
        with self._lock:
            decided_meanwhile = not sends_checksums(self._client)
            if not decided_meanwhile:
                set_checksums(self._client, False)
            try:
                answer = send()
            except (ClientError, BotoCoreError):
                if not decided_meanwhile:
                    set_checksums(self._client, True)
                raise refusal from None
            if not decided_meanwhile:
                log.warning(
                    "the server refuses checksums (%s): uploads go without them from now on",
                    error_code(refusal.response),
                )
            return answer
