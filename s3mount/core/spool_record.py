"""What the spool's journal knows of a file, and what is to be done with one that a mount left behind."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from s3mount.core.answers import same_etag
from s3mount.core.objects import (
    ByteRange,
    MultipartUpload,
    ObjectHeaders,
    ObjectStat,
    PartTag,
    WriteCondition,
)

UNKNOWN_KEY = ""
"""The key of a file of which nobody knows what it was to become; no object can have it."""

DATA_SUFFIX = ".data"
"""What the names of the files in a spool directory end in that have users' bytes; no others do."""

NO_CONDITION = WriteCondition()


class SpoolState(enum.Enum):
    """Where a spool file stands; the value is what the journal stores and ``spool list`` shows."""

    WRITING = "writing"  # being written: no close was answered since the last change
    QUEUED = "queued"  # on the disk for good, and to be sent
    UPLOADING = "uploading"  # whole, and being sent
    CONFLICT = "conflict"  # the bucket has another writer's object: waits for the user
    PARKED = "parked"  # cannot be finished by itself, the cause says why: waits for the user
    DONE = "done"  # nobody needs the bytes any more: here only while the file is open


SENDABLE = frozenset({SpoolState.QUEUED, SpoolState.UPLOADING})
"""The states in which the bytes are whole and meant for the bucket."""

SUPERSEDING = frozenset({*SENDABLE, SpoolState.CONFLICT})
"""The states in which a file takes the place of the version that was closed before it."""


@dataclass(frozen=True, slots=True)
class SpoolUpload:
    """An upload in parts that was begun for a spool file.

    ``upload`` is None while the answer with its id has not come: a crash may have left one in the
    bucket that began at ``asked_ns`` (this machine's clock) or later.
    """

    asked_ns: int
    part_size: int = 0
    upload: MultipartUpload | None = None
    parts: tuple[PartTag, ...] = ()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells an object with certain bytes from others: size, the ETag that S3 gives it, and CRC32.

    ``etag`` has quotes: the MD5 of a body sent in one PUT, else the MD5 of the parts' MD5s and their
    number. ``crc32`` is base64: of the body, else of the parts' checksums, without their number; None
    where nobody knows it.
    """

    size: int
    etag: str
    crc32: str | None = None

    def matches(self, stat: ObjectStat) -> bool:
        """Return whether *stat* can only be the object that this is of."""
        if stat.size != self.size:
            return False
        # Some servers give a checksum of checksums without the number of parts behind it.
        crc32 = (stat.crc32 or "").partition("-")[0]
        return same_etag(stat.etag, self.etag) or (self.crc32 is not None and crc32 == self.crc32)


@dataclass(frozen=True, slots=True)
class SpoolRecord:
    """One row of the journal: one spool file, from its creation until nobody needs it any more.

    A byte below ``base_limit`` that is in no range of ``present`` is the one of the object ``base``; one
    at or beyond it is zero. While WRITING, ``size``, ``base_limit`` and ``present`` are those of the
    last commit, not of this moment. ``headers`` are what the upload is to carry, None before a close.
    ``changed_ns`` is when the state was last changed. ``attempts`` counts the uploads that failed.
    ``unanswered`` are those tries that the server may have carried out without our knowing.
    ``is_synced`` says that data and directory entry were on the disk for good when the row was written;
    ``boot_id`` tells whether the machine has restarted since. ``replaces`` is the row of the version that
    was closed before and not sent yet, which stays until this one is closed, too; that row may be gone.
    """

    id: int
    file_name: str
    key: str
    state: SpoolState
    condition: WriteCondition = NO_CONDITION
    base: ObjectStat | None = None
    base_limit: int = 0
    size: int = 0
    present: tuple[ByteRange, ...] = ()
    headers: ObjectHeaders | None = None
    changed_ns: int = 0
    cause: str = ""
    attempts: int = 0
    is_synced: bool = False
    boot_id: str = ""
    upload: SpoolUpload | None = None
    unanswered: tuple[Fingerprint, ...] = ()
    replaces: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether no byte is to be fetched from the object underneath."""
        position = 0
        for span in self.present:
            if span.start > position:
                break
            position = max(position, span.stop)
        return position >= min(self.base_limit, self.size)

    @property
    def is_promised(self) -> bool:
        """Whether the bytes were made safe as those that are to be sent: they must not change any more."""
        return self.is_synced and self.state in SENDABLE

    def edited(self, size: int, base_limit: int, present: tuple[ByteRange, ...]) -> SpoolRecord:
        """Return the row of a copy that is to be changed, until which nobody needs it.

        It has the key, the conditions and the unanswered tries of what it was copied from; the upload in
        parts stays with that.
        """
        return replace(
            self,
            id=0,
            file_name="",
            state=SpoolState.DONE,
            size=size,
            base_limit=base_limit,
            present=present,
            cause="",
            attempts=0,
            is_synced=False,
            upload=None,
            replaces=self.id,
        )


class Action(enum.Enum):
    """What is to be done with a file that was found in the spool."""

    SEND = "send"  # becomes an open file of the tree and is sent
    COMPARE = "compare"  # goes if the bucket has the very same bytes, and is parked otherwise
    PARK = "park"  # its row becomes PARKED
    LEAVE = "leave"  # waits for the user, or belongs to a mount that is alive
    DROP = "drop"  # nobody needs it


@dataclass(frozen=True, slots=True)
class Decision:
    """An action, and its cause as a sentence for the user; empty where nothing is amiss."""

    action: Action
    cause: str = ""


INTERRUPTED = "the mount ended while the file was being written: no close of it was answered"
CLOSED_BEFORE = "what was closed before is a file of its own here, or in the bucket by now"
RESTARTED = (
    "the machine restarted before the bytes were safe on the disk: some of them may not be what was written"
)
EDGES = "in the disk blocks where something was written, what was not written itself may be zeros"
NO_KEY = "the journal does not know this file, so nobody can tell what it was to become"
DAMAGED = "the journal is damaged, so nobody can tell what this file was to become"
NO_HEADERS = "the journal does not say with which attributes the file was to be stored"


def what_to_do(record: SpoolRecord, boot_id: str, is_dead_mount: bool) -> Decision:
    """Decide about a file that is in the spool.

    Args:
        boot_id: of the machine as it runs now.
        is_dead_mount: the mount that wrote *record* has ended, however it did.
    """
    if not is_dead_mount:
        return Decision(Action.LEAVE, record.cause)
    if record.state is SpoolState.DONE:
        return Decision(Action.DROP)
    if record.state in (SpoolState.CONFLICT, SpoolState.PARKED):
        return Decision(Action.LEAVE, record.cause)
    may_be_garbage = not record.is_synced and record.boot_id != boot_id
    if record.state is SpoolState.WRITING:
        return Decision(Action.PARK, f"{INTERRUPTED}; {RESTARTED}" if may_be_garbage else INTERRUPTED)
    if record.key == UNKNOWN_KEY:
        return Decision(Action.PARK, NO_KEY)
    if record.headers is None:
        return Decision(Action.PARK, NO_HEADERS)
    if may_be_garbage:
        return Decision(Action.COMPARE, RESTARTED)
    return Decision(Action.SEND)


def is_missed(record: SpoolRecord, boot_id: str) -> bool:
    """Return whether bytes are lost with the data file of *record*, which is gone.

    A row that was safe says for good that nobody needs the file before that goes. Another row may come back
    with a power cut, as it was when some other row was made safe: its file was sent or unlinked since, or
    was not on the disk yet itself.
    """
    if record.state is SpoolState.DONE or not record.size:
        return False
    return record.is_synced or record.boot_id == boot_id


def doubt_file(record: SpoolRecord, size_on_disk: int) -> str | None:
    """Return why the data file of *record*, found with *size_on_disk* bytes, cannot be what it says.

    Asked for records in a state of :data:`SENDABLE`; None where nothing speaks against it.
    """
    if size_on_disk != record.size:
        return f"the file in the spool has {size_on_disk} bytes, and {record.size} are what the journal says"
    if record.base_limit > record.size or (record.base is not None and record.base_limit > record.base.size):
        return "the journal contradicts itself about the size of the file"
    if not record.is_complete and record.base is None:
        return "bytes are missing, and the journal does not say which object has them"
    last = 0
    for span in record.present:
        if span.start < last or span.stop > record.size:
            return "the journal contradicts itself about which bytes are here"
        last = span.stop
    return None
