"""Beginning uploads in parts, and aborting those that are left: a crash or a lost answer may leave one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import trio

from s3mount.core.objects import MultipartUpload, ObjectHeaders
from s3mount.core.parts import strays
from s3mount.data.journal_rows import BegunUpload
from s3mount.data.uploader_ledger import BegunList, ListedLedger, MemoryLedger, UploadLedger
from s3mount.data.uploader_requests import UNANSWERED, Requests
from s3mount.errors import FsError

log = logging.getLogger(__name__)


class Begun:
    """The uploads that this process is at work on, and the list of those that must not be forgotten.

    Args:
        listed: None forgets with this process.
        clock_ns: this machine's clock.
    """

    def __init__(
        self, requests: Requests, listed: BegunList | None, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._requests = requests
        self._listed = listed
        self._clock_ns = clock_ns
        self._rows: set[int] = set()
        self._ids: set[str] = set()
        self._is_aborting = False

    def ledger(self, key: str) -> UploadLedger:
        """Return the ledger of an upload that no try will follow."""
        return MemoryLedger() if self._listed is None else ListedLedger(self._listed, key, self._rows)

    async def begin(
        self, key: str, headers: ObjectHeaders, part_size: int, ledger: UploadLedger
    ) -> MultipartUpload:
        """Begin an upload; one whose answer is lost, now or in an earlier try, is found and aborted.

        Cancel: not within a request: nobody could abort what its answer names.
        Raises: what the store raises.
        """
        earlier = ledger.upload
        asked_ns = self._clock_ns() if earlier is None else earlier.asked_ns
        may_have_strays = earlier is not None

        async def create() -> MultipartUpload:
            nonlocal may_have_strays
            try:
                with trio.CancelScope(shield=True):
                    created = await self._requests.store.create_multipart(key, headers)
            except UNANSWERED:
                may_have_strays = True
                raise
            return created

        try:
            if earlier is None:
                await ledger.asked(asked_ns)
            upload = await self._requests.repeated(create)
        except BaseException:
            if not may_have_strays:
                ledger.ended()
            elif not ledger.is_resumable:
                ledger.given_up()
            raise
        self._ids.add(upload.upload_id)
        ledger.begun(upload, part_size)
        if may_have_strays and not await self._swept(upload, asked_ns) and self._listed is not None:
            self._listed.begin(key, asked_ns)
        return upload

    def resume(self, upload: MultipartUpload) -> None:
        """Say that an upload of an earlier try is being worked on."""
        self._ids.add(upload.upload_id)

    def rest(self, upload: MultipartUpload) -> None:
        """Say that nobody works on *upload* any more."""
        self._ids.discard(upload.upload_id)

    async def abort_left(self) -> None:
        """Abort what is on the list and not being worked on; what cannot be aborted now stays there.

        Cancel: at any time. Raises: FsError (the list cannot be read or written).
        """
        if self._listed is None or self._is_aborting:
            return
        self._is_aborting = True
        try:
            for row in self._listed.begun():
                if row.id not in self._rows and await self._is_gone(row):
                    self._listed.end(row)
        finally:
            self._is_aborting = False

    async def _is_gone(self, row: BegunUpload) -> bool:
        store = self._requests.store
        try:
            if row.upload_id is not None:
                await self._requests.once(
                    lambda: store.abort_multipart(MultipartUpload(row.key, row.upload_id or ""))
                )
                return True
            # An upload of our own tells what time it is at the server.
            with trio.CancelScope(shield=True):
                own = await store.create_multipart(row.key, ObjectHeaders())
            try:
                return await self._swept(own, row.asked_ns)
            finally:
                await self._requests.abort(own)
        except FsError as exc:
            log.debug("an upload to %s is aborted later: %s", row.key, exc)
            return False

    async def _swept(self, own: MultipartUpload, asked_ns: int) -> bool:
        """Abort the uploads to the key of *own* that were asked for since *asked_ns* without an answer.

        Returns: whether it is certain that none is left.
        """
        store = self._requests.store
        try:
            listed = await self._requests.repeated(lambda: store.list_multipart_uploads(own.key))
        except FsError as exc:
            log.debug("cannot look for lost uploads to %s: %s", own.key, exc)
            return False
        elapsed_ns = max(0, self._clock_ns() - asked_ns)
        are_gone = [
            await self._requests.abort(stray)
            for stray in strays(listed, own, elapsed_ns=elapsed_ns, known=frozenset(self._ids))
        ]
        return all(are_gone)
