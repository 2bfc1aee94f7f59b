"""The rename of a directory, object by object: what to do next, given what was recorded and what is there.

A bucket cannot rename, so every object is copied and then deleted, and the job that does it can be
interrupted between any two requests. Three records lead it to one whole tree all the same::

    COPYING ---> DELETING ---> (done)     the old tree is whole until DELETING is recorded,
       |            |                     the new one from then on
       +--> UNDOING <-+ -----> (done)     refused before anything was deleted: the copies go again

Others change the bucket meanwhile. What they stored last is never deleted: not at the old name, where
only the very version that was copied goes, and not at the new one, where only our own copies go.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from s3mount.core.attributes import Attributes, from_metadata
from s3mount.core.objects import ObjectStat


class JobPhase(enum.Enum):
    """How far a job is; the value is what the journal stores and `spool list` shows."""

    COPYING = "copying"  # the old tree is whole, the new one is not
    DELETING = "deleting"  # the new tree is whole, the old one is going
    UNDOING = "undoing"  # the rename was given up: the old tree is whole, the copies are going


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object, as a LIST shows it.

    The time tells apart what the ETag does not: the same bytes with other metadata.
    """

    etag: str
    size: int
    last_modified_ns: int


@dataclass(frozen=True, slots=True)
class JobObject:
    """What is recorded of one object of the tree, under its key without the tree's prefix.

    ``source`` is the version that was listed, or was copied once there is a ``copy_etag``. The copy is
    to show ``mtime_ns``, unless the source has a stored time.
    """

    name: str
    source: Version
    mtime_ns: int
    copy_etag: str | None = None


def version_of(stat: ObjectStat) -> Version:
    """Return what tells *stat* from other versions of its key."""
    return Version(stat.etag, stat.size, stat.last_modified_ns)


def is_marker(name: str, size: int) -> bool:
    """Whether an object is nothing but the sign of a directory; ``""`` is the one of the tree's top."""
    return size == 0 and (not name or name.endswith("/"))


def wanted_attributes(stored: Attributes, mtime_ns: int) -> Attributes:
    """Return the attributes of a copy: the copy's own Last-Modified is now, and must not show."""
    return stored if stored.mtime_ns is not None else replace(stored, mtime_ns=mtime_ns)


def looks_copied(source: ObjectStat, target: ObjectStat, mtime_ns: int) -> bool:
    """Whether *target* is as the copy of *source* would be, as far as size and attributes tell.

    Both came with their headers. The stored time, to the nanosecond, tells copies from strangers.
    """
    assert source.headers is not None
    assert target.headers is not None
    wanted = wanted_attributes(from_metadata(source.headers.metadata), mtime_ns)
    return source.size == target.size and from_metadata(target.headers.metadata) == wanted


class CopyStep(enum.Enum):
    """What is to be done with one object while COPYING."""

    COPY = "copy"  # nothing is at the new name
    COPY_OVER = "copy over"  # a copy of ours is, and another one must take its place
    COMPARE = "compare"  # what is there may be a copy of ours that a crash left unrecorded
    DONE = "done"  # it is copied
    LEAVE = "leave"  # somebody else's object is there: both stay where they are


def next_copy(known: JobObject | None, source: Version, target_etag: str | None) -> CopyStep:
    """Decide about the object *source*, which is at the old name now.

    Args:
        known: what is recorded of it.
        target_etag: of what is at the new name now; None where nothing is.
    """
    if target_etag is None:
        return CopyStep.COPY
    if known is None or known.copy_etag is None:
        return CopyStep.COMPARE
    if known.source == source:
        # Whoever replaced the copy since did so at the name that it was to have.
        return CopyStep.DONE
    return CopyStep.COPY_OVER if target_etag == known.copy_etag else CopyStep.LEAVE


def after_comparing(name: str, source: ObjectStat, target: ObjectStat, mtime_ns: int) -> CopyStep:
    """Decide about an unrecorded object at the new name; both stats have headers.

    COPY_OVER where it looks like our copy and the bytes cannot be compared by their ETags (uploaded in
    parts): if it is no copy, it is one of the same size and of the same time to the nanosecond.
    """
    if is_marker(name, target.size) and is_marker(name, source.size):
        return CopyStep.COPY_OVER  # SeaweedFS stores no attributes with a marker that could be compared
    if not looks_copied(source, target, mtime_ns):
        return CopyStep.LEAVE
    return CopyStep.DONE if source.etag == target.etag else CopyStep.COPY_OVER


class DeleteStep(enum.Enum):
    """What is to be done with one object at the old name while DELETING; all but DELETE leave it there."""

    DELETE = "delete"
    ADDED = "added"  # it came after the tree was listed, or could not be copied
    CHANGED = "changed"  # it is not the version that was copied
    UNCOPIED = "uncopied"  # its copy is not there any more


def next_delete(known: JobObject | None, source: Version, *, has_copy: bool) -> DeleteStep:
    """Decide about the object *source*, which is at the old name now.

    *has_copy*: an object, whosever, is at the new name.
    """
    if known is None or known.copy_etag is None:
        return DeleteStep.ADDED
    if known.source != source:
        return DeleteStep.CHANGED
    return DeleteStep.DELETE if has_copy else DeleteStep.UNCOPIED


class UndoStep(enum.Enum):
    """What is to be done with one object at the new name while UNDOING."""

    DELETE = "delete"
    COMPARE = "compare"  # a copy of ours that is not recorded, or somebody else's
    LEAVE = "leave"


def next_undo(known: JobObject | None, target_etag: str, *, keeps_top: bool) -> UndoStep:
    """Decide about an object that is at the new name now.

    *keeps_top*: an empty directory was there before, whose marker stays.
    """
    if known is None or (keeps_top and not known.name):
        return UndoStep.LEAVE
    if known.copy_etag is None:
        return UndoStep.DELETE if is_marker(known.name, known.source.size) else UndoStep.COMPARE
    return UndoStep.DELETE if target_etag == known.copy_etag else UndoStep.LEAVE


def state_if_given_up(phase: JobPhase, old: str, new: str, *, done: int, total: int) -> str:
    """Return what is in the bucket when nobody goes on with a job, as a sentence without its full stop.

    Args:
        old, new: the two names, in words for the user.
        done, total: objects, as recorded; the last requests may have been carried out unrecorded.
    """
    if phase is JobPhase.COPYING:
        return (
            f"{old} has everything, and nothing of it was deleted; {done} of its objects, or some more, "
            f"are copied to {new} as well"
        )
    if phase is JobPhase.DELETING:
        return (
            f"{new} has everything; {done} of the {total} objects that were copied, or some more, are "
            f"deleted at {old}, and the others are there as well"
        )
    return (
        f"{old} has everything, and nothing of it was deleted; {done} of {total} copies, or some more, are "
        f"deleted at {new}, and the others are there as well"
    )


def after_failure(phase: JobPhase, *, is_passing: bool, has_caller: bool, may_turn_back: bool) -> JobPhase:
    """Return the phase to go on in after a failure.

    Args:
        is_passing: the same request may succeed later.
        has_caller: rename(2) has not been answered yet. Whoever gets an error from it expects the old
            name to be as it was, now and not in an hour.
        may_turn_back: of DELETING: every object is still at the old name.
    """
    if phase is JobPhase.COPYING and (has_caller or not is_passing):
        return JobPhase.UNDOING
    if phase is JobPhase.DELETING and has_caller and may_turn_back and not is_passing:
        return JobPhase.UNDOING
    return phase
