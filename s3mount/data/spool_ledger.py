"""The memory of a spool file's uploads, in its row of the journal."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from s3mount.core.objects import MultipartUpload, PartTag
from s3mount.core.spool_record import Fingerprint, SpoolUpload
from s3mount.data.spool_entry import SpoolEntry
from s3mount.errors import NoSpace

log = logging.getLogger(__name__)

MAX_UNANSWERED = 8
"""Tries whose answers were lost, the latest; more in a row at one key are not told from strangers."""


class SpoolLedger:
    """An :class:`s3mount.data.uploader_ledger.UploadLedger` over an entry of the journal.

    Args:
        secure: makes file and row safe from a power cut.
    """

    is_resumable = True

    def __init__(self, entry: SpoolEntry, secure: Callable[[], Awaitable[None]]) -> None:
        self._entry = entry
        self._secure = secure

    @property
    def upload(self) -> SpoolUpload | None:
        return self._entry.record.upload

    @property
    def unanswered(self) -> tuple[Fingerprint, ...]:
        return self._entry.record.unanswered

    async def asked(self, asked_ns: int) -> None:
        self._entry.note(upload=SpoolUpload(asked_ns))
        with suppress(NoSpace):  # the upload goes on: it frees the room
            await self._entry.sync()

    def begun(self, upload: MultipartUpload, part_size: int) -> None:
        asked = self._entry.record.upload
        assert asked is not None
        self._entry.note(upload=replace(asked, upload=upload, part_size=part_size))

    def sent(self, tag: PartTag) -> None:
        self._entry.add_part(tag)

    def completed(self) -> None:
        self._entry.note_with_next(upload=None)

    def ended(self) -> None:
        self._entry.note(upload=None)

    def given_up(self) -> None:
        try:
            self._entry.abandon_upload()
        except NoSpace as exc:
            # It stays in the row, and whoever changes or deletes that passes it on.
            log.debug("%s: its upload is given up later: %s", self._entry.record.file_name, exc)

    def lost(self, fingerprint: Fingerprint) -> None:
        others = [one for one in self._entry.record.unanswered if one != fingerprint]
        self._entry.note(unanswered=(*others, fingerprint)[-MAX_UNANSWERED:])

    async def secure(self) -> None:
        await self._secure()
