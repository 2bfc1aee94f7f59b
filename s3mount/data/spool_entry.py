"""A spool file's row in the journal, as the mount that owns the file keeps it."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any

from s3mount.core.objects import ObjectHeaders, ObjectStat, PartTag, WriteCondition
from s3mount.core.spool_record import SpoolRecord, SpoolState
from s3mount.data.journal_rows import SpoolRows
from s3mount.errors import FsError, NoSpace

log = logging.getLogger(__name__)


class SpoolEntry:
    """One row: ``record`` is what it says, or will say as soon as the disk has room again.

    INVARIANT: before bytes of the file change, the row says WRITING, is_synced false and no parts; where
    a power cut might leave a row that says otherwise, it says so for good.
    """

    def __init__(self, rows: SpoolRows, record: SpoolRecord, boot_id: str) -> None:
        self.record = record
        self.is_unwanted = False
        self._rows = rows
        self._boot_id = boot_id
        self._unwritten: set[str] = set()
        self._may_be_believed = record.is_synced  # by whoever finds the rows that a power cut leaves

    @property
    def needs_mark(self) -> bool:
        """Whether :meth:`mark_changing` must be called before bytes change."""
        record = self.record
        has_parts = record.upload is not None and bool(record.upload.parts)
        is_told = record.state is SpoolState.WRITING and not record.is_synced and not has_parts
        return self._may_be_believed or not (is_told or self.is_unwanted)

    async def mark_changing(self) -> None:
        """Say that bytes are about to change.

        The parts that were sent are not those of the file any more. Their upload stays: whoever resumes
        it compares each part with the bytes of the file, and many may still be the same.

        Raises: NoSpace, FsError: the bytes must stay as they are then.
        """
        await self.tidy()
        if not self.is_unwanted:
            upload = None if self.record.upload is None else replace(self.record.upload, parts=())
            self.write(state=SpoolState.WRITING, is_synced=False, cause="", upload=upload)
        if self._may_be_believed:
            await self.sync()
            # Unless somebody has made it whole meanwhile.
            self._may_be_believed = self.record.is_synced and not self.is_unwanted

    def write(self, **changes: Any) -> None:
        """Change the row. Raises: NoSpace, FsError: nothing has changed then, in ``record`` neither."""
        changes = self._stamped(changes)
        late = {name: getattr(self.record, name) for name in self._unwritten}
        if late or changes:
            self.record = self._rows.update(self.record, **{**late, **changes})
        self._unwritten.clear()
        self._may_be_believed |= self.record.is_synced

    def supersede(self, older: SpoolEntry, **changes: Any) -> None:
        """As :meth:`write`, and from then on nobody needs *older*, whose upload goes on here.

        One that was begun for another key or with other headers is given up.
        """
        wanted = {name: changes.get(name, getattr(self.record, name)) for name in ("key", "headers")}
        for entry in (older, self):
            entry.abandon_other_upload(**wanted)
        changes = self._stamped(changes)
        late = {name: getattr(self.record, name) for name in self._unwritten}
        older.record, self.record = self._rows.supersede(older.record, self.record, **{**late, **changes})
        self._unwritten.clear()
        self._may_be_believed |= self.record.is_synced

    def note(self, **changes: Any) -> None:
        """Change the row if the disk has room, and with the next change else.

        For what a crash may forget: it costs a try that would not have been needed, never a byte.
        Raises: FsError (the disk failed).
        """
        try:
            self.write(**changes)
        except NoSpace as exc:
            log.debug("%s: %s are noted later: %s", self.record.file_name, sorted(changes), exc)
            self.note_with_next(**self._stamped(changes))

    def note_with_next(self, **changes: Any) -> None:
        """Change the row in the commit of the next change."""
        self._unwritten.update(changes)
        self.record = replace(self.record, **changes)

    async def sync(self) -> None:
        """Return once the row as it is survives a power cut. Raises: NoSpace, FsError."""
        if self._unwritten:
            self.write()
        await self._rows.journal.sync()

    async def secure(self) -> None:
        """As :meth:`sync` where a power cut might leave a row that says that the file is to be sent.

        Raises: NoSpace, FsError.
        """
        if self._may_be_believed:
            await self.sync()

    def abandon_upload(self) -> None:
        """Let the upload in parts be aborted by whoever comes by. Raises: NoSpace, FsError."""
        self.record = self._rows.abandon(self.record)

    def abandon_other_upload(self, key: str, headers: ObjectHeaders | None) -> None:
        """Abandon an upload that was begun for another key or with other headers: it has them for good.

        Raises: NoSpace, FsError.
        """
        record = self.record
        if record.upload is not None and (record.key != key or record.headers != headers):
            self.abandon_upload()

    async def begin_upload(
        self, key: str, headers: ObjectHeaders, condition: WriteCondition, **facts: Any
    ) -> None:
        """Say that the file is whole and is being sent to *key*; *facts* describe its bytes.

        If a power cut might leave a row that says that it is still to be sent, this one is made safe first:
        the next mount would meet its own object without knowing that it may be its own, and where that has
        taken the place of the one underneath, the bytes that were fetched of that are nowhere else.
        Raises: FsError (the row cannot be changed).
        """
        self.abandon_other_upload(key, headers)
        told = {"key": key, "headers": headers, "condition": condition}
        if any(getattr(self.record, name) != value for name, value in facts.items()):
            facts["is_synced"] = False  # of the bytes that the row did not know
        self.note(state=SpoolState.UPLOADING, cause="", **told, **facts)
        try:
            await self.secure()
        except FsError as exc:
            # Sending frees the room, and saves what is on a disk that fails.
            log.debug("%s: that it is being sent may be forgotten: %s", self.record.file_name, exc)

    def rekey(
        self,
        key: str,
        condition: WriteCondition,
        base: ObjectStat | None,
        *,
        older: SpoolEntry | None = None,
        with_edits: bool = True,
    ) -> None:
        """Say that the file, with *older* and interrupted edits, is to become *key*, over *base*.

        What was begun for the old key is given up.
        """
        if self.is_unwanted:
            return
        entries = [entry for entry in (older, self) if entry is not None]
        for entry in entries:
            entry.abandon_upload()
        found = [entry.record for entry in entries]
        records = self._rows.rekey(found, key, condition, base, with_edits=with_edits)
        for entry, record in zip(entries, records, strict=True):
            entry.record = record

    def become(self, base: ObjectStat) -> None:
        """Tell the edits of the file that were interrupted which object it has become."""
        self._rows.rebase(self.record, base)

    def add_part(self, tag: PartTag) -> None:
        """Note a part that was sent. Raises: as :meth:`note`."""
        try:
            self.record = self._rows.add_part(self.record, tag)
        except NoSpace:
            upload = self.record.upload
            assert upload is not None
            parts = (*(part for part in upload.parts if part.number != tag.number), tag)
            self.note(upload=replace(upload, parts=parts))

    def distrust(self, cause: str, **facts: Any) -> None:
        """Say that the disk has failed under the bytes: nobody may send them by himself any more."""
        try:
            self.write(state=SpoolState.PARKED, cause=cause, is_synced=False, **facts)
        except FsError as exc:
            log.debug("%s: the journal cannot say so: %s", cause, exc)

    async def withdraw(self) -> None:
        """Let no row that a power cut may leave say that the file is needed, if the disk lets it."""
        if self._may_be_believed and self.record.state is SpoolState.DONE:
            try:
                await self.sync()
            except FsError as exc:
                log.debug("%s: its row may be there again: %s", self.record.file_name, exc)
            else:
                self._may_be_believed = False

    def delete(self) -> None:
        """Remove the row. Raises: NoSpace, FsError."""
        self._rows.delete(self.record)

    async def tidy(self) -> None:
        """Let the journal do what nobody waits for. Cancel: not once it has begun."""
        await self._rows.journal.tidy()

    def _stamped(self, changes: dict[str, Any]) -> dict[str, Any]:
        stamps: dict[str, Any] = {}
        if changes.get("state", self.record.state) is not self.record.state:
            stamps["changed_ns"] = time.time_ns()
        if "state" in changes or "is_synced" in changes:
            stamps["boot_id"] = self._boot_id
        return {**changes, **stamps}
