"""Requests signed with the server's time where this machine's clock is wrong by more than S3 tolerates."""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from botocore import auth
from botocore.exceptions import ClientError

from s3mount.store.fields import response_headers
from s3mount.store.translate import error_code

log = logging.getLogger(__name__)

SKEWED: Final = frozenset({"RequestTimeTooSkewed", "RequestInTheFuture", "RequestExpired"})
_UNSAID: Final = frozenset({"400", "401", "403"})
"""All that a HEAD, whose answer has no body, says of it; and of much else."""
TOLERATED: Final = timedelta(minutes=5)
"""What no server minds, and so is not the reason. AWS and MinIO tolerate 15 minutes."""
GRAIN: Final = timedelta(seconds=2)
"""Date is cut to whole seconds, and takes a moment to come."""
LARGEST: Final = timedelta(days=1)
"""A signature is good for the time it names: whoever can forge a Date must not get one for next year."""

_SIGNER: Final = "s3mount-s3v4"
_CONTEXT: Final = "s3mount_ahead"


class ServerClock:
    """By how much the server is ahead of this machine; a :class:`~s3mount.store.caller.Repair`.

    Args:
        client: a botocore S3 client, whose requests are signed with the server's time from now on.
    """

    def __init__(self, client: Any) -> None:
        self._lock = threading.Lock()
        self._named = False
        self.generation = timedelta(0)
        """How far the server is ahead of this machine."""
        client.meta.events.register_first("choose-signer.s3", self._choose_signer)

    def mend(self, refusal: ClientError, generation: timedelta) -> bool:
        """Learn the server's time from *refusal*; return whether that makes a difference."""
        code = error_code(refusal.response)
        ahead = _ahead(refusal)
        if ahead is None or code not in SKEWED | _UNSAID:
            return False
        if code not in SKEWED and abs(ahead - generation) < TOLERATED:
            return False
        with self._lock:
            self._learn(ahead)
        return self.generation != generation

    def _learn(self, ahead: timedelta) -> None:
        seconds = ahead.total_seconds()
        if abs(ahead) > LARGEST:
            if not self._named:
                log.warning(
                    "this machine's clock is wrong by %s s, too much to be made up for", f"{-seconds:+.0f}"
                )
            self._named = True
        elif abs(ahead) < TOLERATED:
            self.generation = timedelta(0)
        elif abs(ahead - self.generation) >= GRAIN:
            self.generation = ahead
            log.warning(
                "this machine's clock is wrong by %s s; requests are signed with the server's time",
                f"{-seconds:+.0f}",
            )

    def _choose_signer(self, signature_version: Any, context: dict[str, Any], **_: Any) -> str | None:
        """Choose the signer that is ahead where botocore would choose the plain one."""
        if not self.generation or signature_version not in ("v4", "s3v4"):
            return None
        if context.get("auth_type") not in (None, "v4", "s3v4"):
            return None
        context[_CONTEXT] = self.generation
        return _SIGNER


class _Ahead(auth.S3SigV4Auth):  # type: ignore[misc]
    """Signs with the time that the request's context says."""

    def _modify_request_before_signing(self, request: Any) -> None:
        # The time is in the context by now, and in no header yet.
        now = datetime.strptime(request.context["timestamp"], auth.SIGV4_TIMESTAMP)
        request.context["timestamp"] = (now + request.context[_CONTEXT]).strftime(auth.SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)


auth.AUTH_TYPE_MAPS[_SIGNER] = _Ahead


def _ahead(refusal: ClientError) -> timedelta | None:
    try:
        theirs = parsedate_to_datetime(response_headers(refusal.response).get("date") or "")
        mine: datetime = auth.get_current_datetime()
        return theirs.replace(tzinfo=None) - mine
    except ValueError:
        return None
