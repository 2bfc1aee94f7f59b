"""What ``s3mount spool`` shows of a file that is in the spool, and what it may do with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from s3mount.core.objects import ByteRange, WriteCondition
from s3mount.core.ranges import RangeSet
from s3mount.core.spool_record import (
    NO_CONDITION,
    SENDABLE,
    UNKNOWN_KEY,
    Action,
    SpoolRecord,
    SpoolState,
    what_to_do,
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not done, and the next step."""

    cause: str
    advice: str


def shown(record: SpoolRecord, boot_id: str, *, has_mount: bool) -> SpoolRecord:
    """Return *record* as the user is to see it: without a mount, as the next one will find it."""
    if has_mount:
        return record
    decision = what_to_do(record, boot_id, is_dead_mount=True)
    state = SpoolState.PARKED if decision.action is Action.PARK else record.state
    return replace(record, state=state, cause=decision.cause or record.cause)


def refuse_change(record: SpoolRecord, mount: str) -> Refusal | None:
    """Return why a command must not send or delete a file while *mount*, in words, works in its directory.

    Whether a program has the file open there is another question.
    """
    if record.state is SpoolState.WRITING:
        return Refusal(f"it is being written through {mount}", "close it there, or unmount")
    if record.state in SENDABLE:
        failed = f", {record.attempts} tries so far, the last error: {record.cause}" if record.cause else ""
        return Refusal(
            f"{mount} sends it by itself{failed}",
            "wait for it; to have it out of the way, delete the file there, or unmount",
        )
    return None


def refuse_giving_up(cause: str, mount: str) -> Refusal | None:
    """Return why the rename of a directory must not be given up while *mount*, in words, is there.

    Args:
        cause: what the rename failed from last, empty for nothing.
        mount: empty where there is none.
    """
    if not mount:
        return None
    failed = f", the last error: {cause}" if cause else ""
    return Refusal(
        f"{mount} goes on with it by itself{failed}",
        "wait for it; to give it up, unmount, and discard it then",
    )


def refuse_push(record: SpoolRecord, *, overwrite: bool, other_key: str | None) -> Refusal | None:
    """Return why *record* cannot be sent.

    Args:
        overwrite: whatever is there may be replaced.
        other_key: what it is to become instead.
    """
    if record.key == UNKNOWN_KEY and other_key is None:
        return Refusal("nobody knows what it was to become", "say it: push --as KEY ID")
    if record.base is None and missing_ranges(record):
        return Refusal("bytes of it are missing, and nobody knows where they are", "see export --partial")
    is_same = other_key in (None, record.key)
    if record.state is SpoolState.CONFLICT and is_same and not overwrite:
        return Refusal(
            "the bucket has another writer's object there",
            "compare the two (export), then push --overwrite ID, or push --as OTHER-KEY ID to keep both",
        )
    return None


def push_condition(record: SpoolRecord, *, overwrite: bool, other_key: str | None) -> WriteCondition:
    """Return what must hold of the key that *record* is sent to, so that nothing is replaced unsaid."""
    if overwrite:
        return NO_CONDITION
    if other_key not in (None, record.key):
        return WriteCondition(if_none_match=True)
    if record.condition:
        return record.condition
    if record.base is not None:
        return WriteCondition(if_match=record.base.etag)
    # A directory's marker, without bytes, is no file that anybody else has made.
    return WriteCondition(if_none_match=not record.key.endswith("/"))


def why_not_in_all(record: SpoolRecord, boot_id: str, *, overwrite: bool) -> str | None:
    """Return why ``push --all`` leaves a file to be named; None where its bytes are known to be whole."""
    if record.state is SpoolState.CONFLICT:
        return None if overwrite else "the bucket has another writer's object there"
    decision = what_to_do(record, boot_id, is_dead_mount=True)
    if decision.action is Action.SEND:
        return None
    if record.state is SpoolState.PARKED and record.is_synced and record.key != UNKNOWN_KEY:
        return None
    return decision.cause or record.cause


def missing_ranges(record: SpoolRecord) -> Sequence[ByteRange]:
    """Return the bytes of *record* that only the object underneath has."""
    present = RangeSet()
    for span in record.present:
        present.add(span)
    return present.missing(ByteRange(0, min(record.base_limit, record.size)))


def with_size_on_disk(record: SpoolRecord, size_on_disk: int) -> SpoolRecord:
    """Return a record that covers all of a file of which the journal knows nothing, or something untrue.

    Whatever is in the file is what can be rescued of it.
    """
    if record.size == size_on_disk:
        return record
    if not record.size:
        return replace(record, size=size_on_disk, base_limit=0, present=(ByteRange(0, size_on_disk),))
    clipped = tuple(
        ByteRange(span.start, min(span.stop, size_on_disk))
        for span in record.present
        if span.start < size_on_disk
    )
    return replace(record, size=size_on_disk, present=clipped)
