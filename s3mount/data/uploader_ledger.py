"""What an upload in parts remembers, so that the next try sends only what is missing."""

from __future__ import annotations

from typing import Protocol

from s3mount.core.objects import MultipartUpload, PartTag
from s3mount.core.spool_record import Fingerprint, SpoolUpload


class UploadLedger(Protocol):
    """The memory of the uploads of one file to one key with the same headers.

    The uploader calls it; :class:`s3mount.data.spool_ledger.SpoolLedger` keeps it in the journal. A part
    that is remembered need not be true: the uploader asks the server and compares checksums. What the
    methods raise ends the upload; its parts stay in the bucket and in the ledger.
    """

    @property
    def upload(self) -> SpoolUpload | None:
        """The upload that was begun by an earlier try and was neither completed nor aborted."""

    @property
    def unanswered(self) -> tuple[Fingerprint, ...]:
        """What earlier tries wanted to publish at this key and got no answer for."""

    def asked(self, asked_ns: int) -> None:
        """An upload is about to be asked for, at *asked_ns* by this machine's clock."""

    def begun(self, upload: MultipartUpload, part_size: int) -> None:
        """The answer came."""

    def sent(self, tag: PartTag) -> None:
        """The server has a part."""

    def ended(self) -> None:
        """The upload is no more: completed, aborted, or the server does not know it."""

    def given_up(self) -> None:
        """The upload is of no use and could not be aborted: somebody else is to see to it."""

    def lost(self, fingerprint: Fingerprint) -> None:
        """The server may have published an object with *fingerprint*, and its answer did not come."""

    async def secure(self) -> None:
        """Make file and ledger safe from a power cut; called once for each upload, beside it.

        Raises: FsError: the file cannot be trusted any more.
        """
