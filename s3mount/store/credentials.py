"""Keys that can be looked for once more: those of a long-lived mount expire, and are rotated."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError

from s3mount.errors import StartupError
from s3mount.store.translate import error_code

log = logging.getLogger(__name__)

REFUSED: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
"""What servers say of keys that have expired or been replaced."""
_UNSAID: Final = frozenset({"400", "401", "403"})
"""All that a HEAD, whose answer has no body, says of them; and of much else."""
UNSAID_EVERY_S: Final = 10.0
"""How often that is reason enough to look, which may start a program or ask a server."""


class RenewableCredentials(Credentials):  # type: ignore[misc]
    """botocore credentials that are found anew by :meth:`mend`; a :class:`~s3mount.store.caller.Repair`.

    Args:
        find: returns the credentials that are to be found now, None for none. Raises what botocore does.
    """

    def __init__(self, found: Any, find: Callable[[], Any]) -> None:
        # Not the base's: it stores keys, and these are *found*'s, which may refresh themselves.
        self._found = found
        self._find = find
        self._lock = threading.Lock()
        self._looked = 0
        self._looked_s = -UNSAID_EVERY_S

    @property
    def method(self) -> str:
        return str(self._found.method)

    @property
    def access_key(self) -> str:
        return str(self._found.access_key)

    @property
    def secret_key(self) -> str:
        return str(self._found.secret_key)

    @property
    def token(self) -> str | None:
        token: str | None = self._found.token
        return token

    @property
    def account_id(self) -> str | None:
        account_id: str | None = getattr(self._found, "account_id", None)
        return account_id

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return self._found.get_frozen_credentials()

    @property
    def generation(self) -> tuple[int, Any]:
        """How often they were looked for, and what they are."""
        return self._looked, self._found

    def mend(self, refusal: ClientError, generation: tuple[int, Any]) -> bool:
        """Look for other credentials than those of *generation*; return whether there are.

        Of many requests that are refused together the first one looks, the others take what it found.
        """
        code = error_code(refusal.response)
        if code not in REFUSED and code not in _UNSAID:
            return False
        looked, before = generation
        with self._lock:
            if self._looked == looked and (code in REFUSED or self._may_look_unsaid()):
                self._look()
            return not _same(before, self._found)

    def renew(self) -> bool:
        """Look for credentials, and take them if they are others; whether they were. In a worker thread."""
        with self._lock:
            before = self._found
            self._look("the keys were looked for again")
            return self._found is not before

    def _may_look_unsaid(self) -> bool:
        return time.monotonic() - self._looked_s >= UNSAID_EVERY_S

    def _look(self, why: str = "the keys were refused") -> None:
        self._looked += 1
        try:
            found = self._find()
        except (BotoCoreError, ClientError, StartupError, OSError) as exc:
            log.info("%s, and no others are to be found: %s", why, exc)
        else:
            if found is not None and not _same(found, self._found):
                log.info("%s; others were found and are used from now on", why)
                self._found = found
        self._looked_s = time.monotonic()


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    try:
        mine, theirs = one.get_frozen_credentials(), other.get_frozen_credentials()
    except (BotoCoreError, ClientError, OSError):
        return False
    return (mine.access_key, mine.secret_key, mine.token) == (
        theirs.access_key,
        theirs.secret_key,
        theirs.token,
    )
