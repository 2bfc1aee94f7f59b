"""Beginning uploads in parts, and aborting those that are left: a crash or a lost answer may leave one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import trio

from s3mount.core.objects import MultipartUpload, ObjectHeaders
from s3mount.core.parts import strays
from s3mount.data.journal_rows import BegunUpload
from s3mount.data.uploader_ledger import BegunList, ListedLedger, MemoryLedger, UploadLedger
from s3mount.data.uploader_requests import UNANSWERED, Requests
from s3mount.errors import FsError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Beginning:
    """An upload that was begun.

    ``strays_since_ns`` is not None if a request of that time or later may have begun another; ``row`` is
    the list's memory of that.
    """

    upload: MultipartUpload
    strays_since_ns: int | None = None
    row: BegunUpload | None = None


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
    ) -> Beginning:
        """Begin an upload. The caller ends it, whatever happens, and calls :meth:`sweep` meanwhile.

        Cancel: not within a request: nobody could abort what its answer names.
        Raises: what the store raises; FsError of *ledger*.
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
        row = self._remembered(key, asked_ns) if may_have_strays else None
        try:
            ledger.begun(upload, part_size)
        except BaseException:
            await self._requests.abort(upload)  # nobody else knows of it
            raise
        self._ids.add(upload.upload_id)
        return Beginning(upload, asked_ns if may_have_strays else None, row)

    async def sweep(self, begun: Beginning) -> None:
        """Abort what was begun by requests whose answers were lost, in this try or in an earlier one.

        Cancel: at any time; the list remembers.
        """
        if begun.strays_since_ns is None:
            return
        try:
            is_clean = await self._swept(begun.upload, begun.strays_since_ns)
            if is_clean and begun.row is not None and self._listed is not None:
                self._listed.end(begun.row)
        except FsError as exc:
            log.debug("lost uploads to %s stay listed: %s", begun.upload.key, exc)
        finally:
            if begun.row is not None:
                self._rows.discard(begun.row.id)

    def _remembered(self, key: str, asked_ns: int) -> BegunUpload | None:
        """Put what a lost answer may have begun on the list, as being worked on."""
        if self._listed is None:
            return None
        try:
            row = self._listed.begin(key, asked_ns)
        except FsError as exc:
            log.debug("lost uploads to %s go unlisted: %s", key, exc)
            return None
        self._rows.add(row.id)
        return row

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
            listed = await self._requests.repeated(lambda: store.list_multipart_uploads(row.key))
            known = self._known(row.key)
            if all(one.key != row.key or one.upload_id in known for one in listed):
                return True
            return await self._is_swept_by_time(row)
        except FsError as exc:
            log.debug("an upload to %s is aborted later: %s", row.key, exc)
            return False

    async def _is_swept_by_time(self, row: BegunUpload) -> bool:
        """Abort what began when *row* was asked for: an upload of our own tells what time it is there."""
        ledger = self.ledger(row.key)
        try:
            await ledger.asked(self._clock_ns())
            with trio.CancelScope(shield=True):
                own = await self._requests.store.create_multipart(row.key, ObjectHeaders())
                ledger.begun(own, 0)
        except UNANSWERED:
            ledger.given_up()
            raise
        except BaseException:
            ledger.ended()
            raise
        try:
            return await self._swept(own, row.asked_ns)
        finally:
            if await self._requests.abort(own):
                ledger.ended()
            else:
                ledger.given_up()

    def _known(self, key: str) -> frozenset[str]:
        """Return the ids of uploads that somebody here goes on with, now or later."""
        return frozenset(self._ids) | (frozenset() if self._listed is None else self._listed.kept(key))

    async def _swept(self, own: MultipartUpload, asked_ns: int) -> bool:
        """Abort the uploads to the key of *own* that were asked for since *asked_ns* without an answer.

        Returns: whether it is certain that none is left.
        """
        store = self._requests.store
        try:
            listed = await self._requests.repeated(lambda: store.list_multipart_uploads(own.key))
            known = self._known(own.key)
        except FsError as exc:
            log.debug("cannot look for lost uploads to %s: %s", own.key, exc)
            return False
        if own not in listed:
            return False  # what cannot be seen there tells neither the time nor who else is there
        elapsed_ns = max(0, self._clock_ns() - asked_ns)
        are_gone = [
            await self._requests.abort(stray)
            for stray in strays(listed, own, elapsed_ns=elapsed_ns, known=known)
        ]
        return all(are_gone)
