"""A file that is being changed, and what the journal is told of it on its way to the bucket."""

from __future__ import annotations

import logging

from s3mount.core.objects import ObjectHeaders, ObjectStat, WriteCondition
from s3mount.core.spool_record import SENDABLE, SUPERSEDING, SpoolState
from s3mount.data.spool_bytes import SpoolBytes
from s3mount.errors import FsError

log = logging.getLogger(__name__)


class SpoolFile(SpoolBytes):
    """A file in the spool; its bytes are in :class:`~s3mount.data.spool_bytes.SpoolBytes`.

    The way of an upload: ``begin_upload``, ``Uploader.upload(..., ledger=file.ledger)``, then ``sent``, or
    ``queue``, ``conflict`` or ``park`` with the cause.
    """

    async def begin_upload(self, key: str, headers: ObjectHeaders, condition: WriteCondition) -> None:
        """Say that the file is complete and is being sent to *key*.

        Takes microseconds, or, where a power cut may leave a row that says that the file is to be sent, an
        fsync of the journal. An upload that was begun for another key or with other headers is given up.
        What was closed before must have been replaced: see :meth:`make_durable`.
        Cancel: the row may say so, and nothing was sent.
        Raises: the poison; FsError (bytes are missing; the disk failed).
        """
        assert self._older is None
        self._need_whole()
        await self._entry.begin_upload(key, headers, condition, **self._facts())

    def sent(self, etag: str | None = None) -> None:
        """Say that the bucket has the file as it is: the bytes are here for those who have it open.

        With *etag*, the one that it has got there, what is written from now on is a change of that
        object, also for who finds it after a crash; so is an edit that was interrupted by one.
        Where the journal cannot be told, the next mount finds out by itself.
        """
        if self._entry.is_unwanted:
            return
        told: dict[str, object] = {}
        if etag is not None and self.is_complete:
            self.base_limit = 0
            told = {"condition": WriteCondition(if_match=etag), "base": None, **self._facts()}
        try:
            if etag is not None:
                self._entry.become(ObjectStat(self.key, self.size, etag, 0))
            self.ledger.given_up()
            self._entry.note(state=SpoolState.DONE, cause="", attempts=0, unanswered=(), **told)
        except FsError as exc:
            log.warning("the spool's journal does not know that %s was uploaded: %s", self.key, exc)

    def forget(self) -> None:
        """Say that nobody wants the file in the bucket any more: it has no name. Readers keep the bytes.

        What is written from now on is not noted.
        """
        self.sent()
        self._entry.is_unwanted = True
        if self._older is not None:
            try:
                self._older.entry.note(state=SpoolState.DONE)
            except FsError as exc:
                log.warning("the spool's journal does not know that %s was unlinked: %s", self.key, exc)

    async def make_durable(
        self,
        state: SpoolState,
        *,
        key: str | None = None,
        headers: ObjectHeaders | None = None,
        condition: WriteCondition | None = None,
        cause: str = "",
        is_failure: bool = False,
    ) -> None:
        """Return once data, name and row survive a power cut, the row with *state* and *cause*.

        In a state of SUPERSEDING the file takes the place of what was closed before, in the same commit.

        Args:
            key, headers, condition: what the row is to say of them; None leaves them as they are.
            is_failure: counts one more failed attempt.

        Changes that come meanwhile are waited out. The bytes of the object underneath need not be here.
        Cancel: the file may be as it was or as it was to be.
        Raises: the poison, where *state* means that the file is to be sent; NoSpace; FsError (the disk
            failed: the file is poisoned for good).
        """
        if state in SENDABLE and self.poison is not None:
            raise self.poison
        given: dict[str, object] = {"key": key, "headers": headers, "condition": condition}
        told = {name: value for name, value in given.items() if value is not None}
        if is_failure:
            told["attempts"] = self._entry.record.attempts + 1
        async with self._synced() as facts:
            told |= {"state": state, "cause": cause, "is_synced": True, **facts}
            record = self._entry.record
            if self._older is not None and state in SUPERSEDING:
                self._entry.supersede(self._older.entry, **told)
            else:
                self._entry.abandon_other_upload(key or record.key, headers or record.headers)
                self._entry.write(**told)
        await self._entry.sync()
        await self.drop_older()

    async def queue(self, cause: str = "", *, is_failure: bool = False) -> None:
        """Say that the file is to be sent later. As :meth:`make_durable`."""
        await self.make_durable(SpoolState.QUEUED, cause=cause, is_failure=is_failure)

    async def conflict(self, cause: str) -> None:
        """Say that the bucket has another writer's object. As :meth:`park`."""
        await self._wait_for_user(SpoolState.CONFLICT, cause)

    async def park(self, cause: str) -> None:
        """Say that the file cannot be finished by itself, and why. As :meth:`make_durable`.

        If the disk has failed, only the row is made safe, and says that the data may not be.
        """
        await self._wait_for_user(SpoolState.PARKED, cause)

    async def _wait_for_user(self, state: SpoolState, cause: str) -> None:
        """An upload in parts is given up: nobody knows when the user will come, and it is paid for."""
        self.ledger.given_up()
        if self._broken is None:
            try:
                await self.make_durable(state, cause=cause, is_failure=True)
            except FsError:
                if self._broken is None:
                    raise
            else:
                return
        self._entry.write(state=state, cause=cause, is_synced=False, **self._facts())
        await self._entry.sync()

    def describe(self, headers: ObjectHeaders) -> None:
        """Say that the upload is to carry other *headers*. Safe from the death of this process.

        One that was begun in parts has the old ones for good, so it is given up.
        Raises: NoSpace, FsError; nothing has changed then.
        """
        if not self._entry.is_unwanted:
            self._entry.abandon_other_upload(self.key, headers)
            self._entry.write(headers=headers)

    def rekey(
        self,
        key: str,
        condition: WriteCondition,
        *,
        base: ObjectStat | None = None,
        with_edits: bool = True,
    ) -> None:
        """Say that the file, whose bytes are unsent, has another name now.

        Args:
            base: where the object underneath lies now; None leaves it. It must have the same bytes.
            with_edits: so have the edits of it that were interrupted by the end of a mount.

        Safe from the death of this process, not from a power cut, as a rename is anywhere; see
        :meth:`secure_row`.
        Raises: NoSpace, FsError; nothing has changed then.
        """
        new_base = self.base if base is None else base
        older = None if self._older is None else self._older.entry
        self._entry.rekey(key, condition, new_base, older=older, with_edits=with_edits)
        self.base = new_base

    async def secure_row(self) -> None:
        """Return once no power cut brings back an earlier row by which the file would be sent.

        Asked for before the object goes that such a row is over, and after. Costs nothing where there is
        none. Cancel: whether it is so is unknown. Raises: NoSpace, FsError (the disk failed).
        """
        for version in self._versions():
            await version.entry.secure()
