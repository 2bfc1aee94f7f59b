"""What an upload in parts remembers: for the next try, or at least so that it is aborted one day."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Protocol

from s3mount.core.objects import MultipartUpload, PartTag
from s3mount.core.spool_record import Fingerprint, SpoolUpload
from s3mount.data.journal_rows import BegunUpload
from s3mount.errors import NoSpace

log = logging.getLogger(__name__)


class UploadLedger(Protocol):
    """The memory of the uploads of one file to one key with the same headers.

    The uploader calls it; :class:`s3mount.data.spool_ledger.SpoolLedger` keeps it in the journal. A part
    that is remembered need not be true: the uploader asks the server and compares checksums. What the
    methods raise ends the upload.
    """

    @property
    def is_resumable(self) -> bool:
        """Whether another try will come, so that a passing failure leaves the upload in the bucket."""

    @property
    def upload(self) -> SpoolUpload | None:
        """The upload that was begun by an earlier try and was neither completed nor aborted."""

    @property
    def unanswered(self) -> tuple[Fingerprint, ...]:
        """What earlier tries wanted to publish at this key and got no answer for."""

    async def asked(self, asked_ns: int) -> None:
        """An upload is about to be asked for, at *asked_ns* by this machine's clock.

        Returns once a power cut cannot make it forgotten, if the disk has room: nobody would ever abort it.
        """

    def begun(self, upload: MultipartUpload, part_size: int) -> None:
        """The answer came."""

    def sent(self, tag: PartTag) -> None:
        """The server has a part."""

    def completed(self) -> None:
        """The upload has become the object.

        Not to be forgotten before whoever reads the ledger knows that: else a crash in between leaves nothing
        by which the object is told from another writer's.
        """

    def ended(self) -> None:
        """The upload is no more: aborted, never begun, or the server does not know it."""

    def given_up(self) -> None:
        """The upload is of no use and could not be aborted: somebody else is to see to it."""

    def lost(self, fingerprint: Fingerprint) -> None:
        """The server may have published an object with *fingerprint*, and its answer did not come."""

    async def secure(self) -> None:
        """Make file and ledger safe from a power cut; called once for each upload, beside it.

        Raises: FsError: the file cannot be trusted any more.
        """


class BegunList(Protocol):
    """Uploads that are to be aborted if this process does not end them.

    :class:`s3mount.data.journal_rows.SpoolRows` is one.
    """

    def begun(self) -> list[BegunUpload]:
        """Return all of them, the oldest first."""

    def kept(self, key: str) -> frozenset[str]:
        """Return the ids of the uploads to *key* that are not to be aborted: some file goes on with them."""

    def begin(self, key: str, asked_ns: int) -> BegunUpload:
        """Put one on the list that is about to be asked for."""

    def name(self, begun: BegunUpload, upload_id: str) -> BegunUpload:
        """Note the id that came for *begun*."""

    def end(self, begun: BegunUpload) -> None:
        """Take *begun* from the list."""

    async def sync(self) -> None:
        """Return once the list as it is survives a power cut."""


class MemoryLedger:
    """A ledger that forgets with this process: no try follows."""

    is_resumable = False

    def __init__(self) -> None:
        self.upload: SpoolUpload | None = None
        self.unanswered: tuple[Fingerprint, ...] = ()

    async def asked(self, asked_ns: int) -> None:
        self.upload = SpoolUpload(asked_ns)

    def begun(self, upload: MultipartUpload, part_size: int) -> None:
        assert self.upload is not None
        self.upload = replace(self.upload, upload=upload, part_size=part_size)

    def sent(self, tag: PartTag) -> None:
        """Nobody will ask."""

    def completed(self) -> None:
        self.ended()

    def ended(self) -> None:
        self.upload = None

    def given_up(self) -> None:
        self.upload = None

    def lost(self, fingerprint: Fingerprint) -> None:
        """Nobody will ask."""

    async def secure(self) -> None:
        """There is nothing to make safe."""


class ListedLedger(MemoryLedger):
    """A ledger of which a list remembers the upload's id, so that the next mount can abort it.

    Args:
        alive: the ids of rows that this process is at work on.
    """

    def __init__(self, listed: BegunList, key: str, alive: set[int]) -> None:
        super().__init__()
        self._listed = listed
        self._key = key
        self._alive = alive
        self._row: BegunUpload | None = None

    async def asked(self, asked_ns: int) -> None:
        await super().asked(asked_ns)
        try:
            self._row = self._listed.begin(self._key, asked_ns)
        except NoSpace as exc:
            log.debug("upload to %s goes unlisted: %s", self._key, exc)
        else:
            self._alive.add(self._row.id)
            await self._listed.sync()

    def begun(self, upload: MultipartUpload, part_size: int) -> None:
        super().begun(upload, part_size)
        if self._row is not None:
            self._row = self._listed.name(self._row, upload.upload_id)

    def ended(self) -> None:
        super().ended()
        if self._row is not None:
            self._alive.discard(self._row.id)
            self._listed.end(self._row)
            self._row = None

    def given_up(self) -> None:
        super().given_up()
        if self._row is not None:
            self._alive.discard(self._row.id)
            self._row = None
