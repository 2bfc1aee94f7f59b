"""Requests of uploads: so many at once, and again if they fail for a passing reason."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from s3mount.core.objects import MultipartUpload
from s3mount.errors import BadAnswer, FsError, StoreTimeout, StoreUnavailable
from s3mount.store.base import ObjectStore

log = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS = 3
"""Tries of a request that may be repeated; each has the store's own retries below it."""

ABORT_GRACE_S = 10.0
"""How long a failed or cancelled upload may take to clean up after itself."""

PASSING = (StoreUnavailable, StoreTimeout)
"""What may not fail the next time."""

UNANSWERED = (*PASSING, BadAnswer)
"""What leaves open whether the server carried the request out."""


class Requests:
    """Makes requests for all uploads and copies together, at most *concurrency* at once.

    Args:
        backoff_s: the longest wait before the second try; it doubles with each.
    """

    def __init__(self, store: ObjectStore, *, concurrency: int, backoff_s: float) -> None:
        self.store = store
        self.concurrency = concurrency
        self._backoff_s = backoff_s
        self._limiter = trio.CapacityLimiter(concurrency)

    async def once(self, request: Callable[[], Awaitable[T]]) -> T:
        """Make a request under the limit."""
        async with self._limiter:
            return await request()

    async def repeated(self, request: Callable[[], Awaitable[T]], attempts: int = ATTEMPTS) -> T:
        """Make a request under the limit, again if it fails for a passing reason."""
        for attempt in range(1, attempts):
            try:
                return await self.once(request)
            except PASSING as exc:
                log.debug("try %d of %d failed: %s", attempt, attempts, exc)
            # Jitter, so that the parts that a server refused together do not come back together.
            await trio.sleep(random.uniform(0.5, 1) * self._backoff_s * 2 ** (attempt - 1))
        return await self.once(request)

    async def abort(self, upload: MultipartUpload) -> bool:
        """Drop the upload, whatever happens, under a shield of :data:`ABORT_GRACE_S`.

        Returns: whether it is gone; if not, that is logged.
        """
        with trio.move_on_after(ABORT_GRACE_S, shield=True):
            try:
                await self.store.abort_multipart(upload)
            except FsError as exc:
                log.warning("upload %s of %s is left in the bucket: %s", upload.upload_id, upload.key, exc)
                return False
            return True
        log.warning(
            "upload %s of %s is left in the bucket: no answer to the abort", upload.upload_id, upload.key
        )
        return False
