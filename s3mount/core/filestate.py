"""What may happen to an open file's bytes, as a table; anything else is a bug and raises."""

from __future__ import annotations

import enum


class FileState(enum.Enum):
    """Where the bytes of an open file stand."""

    CLEAN = "clean"  # the bucket has them
    DIRTY = "dirty"  # the spool has more than the bucket
    QUEUED = "queued"  # closed and safe on the disk; the bucket gets it later
    UPLOADING = "uploading"
    FAILED = "failed"  # an upload was tried and refused; the spool is the only copy
    CONFLICT = "conflict"  # the bucket has somebody else's object; the spool keeps this one, for good


class FileEvent(enum.Enum):
    """What happens to them."""

    CHANGE = "change"
    QUEUE = "queue"
    BEGIN = "begin"
    SENT = "sent"
    REFUSED = "refused"
    CONFLICT = "conflict"
    DROP = "drop"  # the file was unlinked: nobody wants the bytes


_NEXT: dict[tuple[FileState, FileEvent], FileState] = {
    (FileState.CLEAN, FileEvent.CHANGE): FileState.DIRTY,
    (FileState.DIRTY, FileEvent.CHANGE): FileState.DIRTY,
    (FileState.QUEUED, FileEvent.CHANGE): FileState.DIRTY,
    (FileState.FAILED, FileEvent.CHANGE): FileState.DIRTY,
    (FileState.DIRTY, FileEvent.QUEUE): FileState.QUEUED,
    (FileState.DIRTY, FileEvent.BEGIN): FileState.UPLOADING,
    (FileState.QUEUED, FileEvent.BEGIN): FileState.UPLOADING,
    (FileState.FAILED, FileEvent.BEGIN): FileState.UPLOADING,
    (FileState.UPLOADING, FileEvent.SENT): FileState.CLEAN,
    (FileState.UPLOADING, FileEvent.REFUSED): FileState.FAILED,
    (FileState.UPLOADING, FileEvent.CONFLICT): FileState.CONFLICT,
    (FileState.CLEAN, FileEvent.DROP): FileState.CLEAN,
    (FileState.DIRTY, FileEvent.DROP): FileState.CLEAN,
    (FileState.QUEUED, FileEvent.DROP): FileState.CLEAN,
    (FileState.FAILED, FileEvent.DROP): FileState.CLEAN,
}


def advance(state: FileState, event: FileEvent) -> FileState:
    """Return the state after *event*. Raises: ValueError where that cannot happen."""
    try:
        return _NEXT[state, event]
    except KeyError:
        raise ValueError(f"{event.value} while {state.value}") from None
