"""What is done with what earlier mounts left in a spool directory, before a new one works there."""

from __future__ import annotations

import errno
import json
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from s3mount.core.objects import ByteRange, ObjectStat
from s3mount.core.spool_record import (
    CLOSED_BEFORE,
    DAMAGED,
    DATA_SUFFIX,
    EDGES,
    NO_KEY,
    SENDABLE,
    UNKNOWN_KEY,
    Action,
    Decision,
    SpoolRecord,
    SpoolState,
    doubt_file,
    is_missed,
    what_to_do,
)
from s3mount.data.journal import Journal, JournalDamaged, move_aside
from s3mount.data.journal_rows import SpoolRows

log = logging.getLogger(__name__)

NOTE_SUFFIX = ".json"
"""Versions before the journal put a note with this suffix beside each file that they kept."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that an earlier mount left, as its row is now, and what is to be done with it."""

    record: SpoolRecord
    decision: Decision


def open_journal(directory: str) -> tuple[SpoolRows, bool]:
    """Open the journal; one that cannot be read is moved aside. Return it and whether that was so.

    Raises: JournalTooNew, NoSpace, FsError.
    """
    try:
        return _opened(directory), False
    except JournalDamaged as exc:
        aside = move_aside(directory)
        log.error(
            "the journal of the spool in %s is damaged (%s): it is now %s, and its files wait for you",
            directory,
            exc,
            aside,
        )
        return _opened(directory), True


def _opened(directory: str) -> SpoolRows:
    journal = Journal(directory)
    try:
        rows = SpoolRows(journal)
        rows.all()
    except BaseException:
        journal.close()
        raise
    return rows


def recover(directory: str, rows: SpoolRows, boot_id: str, *, is_new_after_damage: bool) -> list[Leftover]:
    """Bring rows and files together, park what cannot be finished, and return what is left.

    Every row is taken for a dead mount's: the caller holds the directory's lock.

    What is decided here is safe from a power cut at the end.

    Raises: NoSpace, FsError, OSError.
    """
    found = {entry.name for entry in os.scandir(directory) if entry.name.endswith(DATA_SUFFIX)}
    left = []
    records = rows.all()
    alive = {record.id for record in records if record.state is not SpoolState.DONE}
    for record in records:
        if record.file_name not in found:
            _drop_row(rows, record, boot_id)
        elif (leftover := _judged(directory, rows, record, boot_id, alive)) is not None:
            left.append(leftover)
        found.discard(record.file_name)
    orphans = [_adopted(directory, rows, name, boot_id, is_new_after_damage) for name in sorted(found)]
    left += [Leftover(one, Decision(Action.LEAVE, one.cause)) for one in orphans if one is not None]
    rows.journal.sync_now()
    _drop_notes(directory, {one.record.file_name for one in left if one.record.key == UNKNOWN_KEY})
    return left


def _drop_row(rows: SpoolRows, record: SpoolRecord, boot_id: str) -> None:
    if is_missed(record, boot_id):
        log.warning(
            "the spool's journal has a row of %s (%s), and its file %s is gone",
            record.key,
            record.state.value,
            record.file_name,
        )
    rows.delete(record)


def _judged(
    directory: str, rows: SpoolRows, record: SpoolRecord, boot_id: str, alive: set[int]
) -> Leftover | None:
    """Decide about a row that has its file; None if both are gone now. *alive*: rows that are needed."""
    path = os.path.join(directory, record.file_name)
    decision = what_to_do(record, boot_id, is_dead_mount=True)
    if decision.action is Action.DROP:
        os.unlink(path)
        rows.delete(record)
        return None
    size = os.lstat(path).st_size
    if record.cause == DAMAGED and record.size != size:
        record = rows.update(record, **_facts_of_unknown(path))
    if record.state in SENDABLE and (doubt := doubt_file(record, size)) is not None:
        decision = Decision(Action.PARK, doubt)
    if decision.action is not Action.PARK:
        return Leftover(record, decision)
    cause, facts = decision.cause, {}
    if record.state is SpoolState.WRITING:
        facts = facts_on_disk(path, record)
        if record.base is not None and facts["present"]:
            cause = f"{cause}; {EDGES}"
        if record.replaces in alive:
            cause = f"{cause}; {CLOSED_BEFORE}"
    # Nobody knows when the user will come, and an upload that is under way is paid for.
    record = rows.update(rows.abandon(record), state=SpoolState.PARKED, cause=cause, **facts)
    return Leftover(record, Decision(Action.LEAVE, record.cause))


def facts_on_disk(path: str, record: SpoolRecord) -> dict[str, Any]:
    """Return what a file's row is to say of its bytes, which only the dead process knew exactly.

    Where there was no object underneath, what is no data is a hole. Else the blocks that have data are
    what was written, up to the bytes around them in their first and last block.
    """
    size = os.lstat(path).st_size
    limit = min(record.base_limit, size)
    present = (ByteRange(0, size),) if record.base is None and size else tuple(_data_in(path))
    return {"size": size, "base_limit": limit, "present": present}


def _facts_of_unknown(path: str) -> dict[str, Any]:
    """Return what a row is to say of bytes of which nobody knows what was underneath."""
    size = os.lstat(path).st_size
    return {"size": size, "base_limit": 0, "present": (ByteRange(0, size),) if size else ()}


def _adopted(
    directory: str, rows: SpoolRows, name: str, boot_id: str, is_new_after_damage: bool
) -> SpoolRecord | None:
    """Give a file that has no row one; None if there is nothing in it, and it is gone now."""
    path = os.path.join(directory, name)
    noted = _from_note(path, name)
    if noted is not None:
        return rows.insert(noted)
    facts = os.lstat(path)
    # With a sound journal, one without data is of a mount that the power cut off before its row was safe.
    if not facts.st_size or not (is_new_after_damage or _data_in(path)):
        os.unlink(path)
        return None
    return rows.insert(
        SpoolRecord(
            id=0,
            file_name=name,
            key=UNKNOWN_KEY,
            state=SpoolState.PARKED,
            **_facts_of_unknown(path),
            changed_ns=facts.st_mtime_ns,
            cause=DAMAGED if is_new_after_damage else NO_KEY,
            boot_id=boot_id,
        )
    )


def _drop_notes(directory: str, unknown: set[str]) -> None:
    """Take away the notes of earlier versions, but not of *unknown* files: a user may read more in them."""
    for name in os.listdir(directory):
        data_name = name.removesuffix(NOTE_SUFFIX)
        if data_name != name and data_name.endswith(DATA_SUFFIX) and data_name not in unknown:
            os.unlink(os.path.join(directory, name))


def _from_note(path: str, name: str) -> SpoolRecord | None:
    """Return the record of a file that an earlier version kept, None if it left no note."""
    try:
        with open(path + NOTE_SUFFIX, encoding="utf-8") as file:
            note = json.load(file)
        size = os.lstat(path).st_size
        ranges = [(0, size)] if note["present"] is None else note["present"]
        limit, etag = int(note["base_limit"]), note["base_etag"]
        poison = note["poison"]
        return SpoolRecord(
            id=0,
            file_name=name,
            key=str(note["key"]),
            state=SpoolState.PARKED,
            base=None if etag is None else ObjectStat(str(note["key"]), limit, str(etag), 0),
            base_limit=limit,
            size=size,
            present=tuple(ByteRange(int(start), int(stop)) for start, stop in ranges if start < stop),
            changed_ns=int(note["time_ns"]),
            cause=f"an earlier version of s3mount could not upload it{f': {poison}' if poison else ''}",
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _data_in(path: str) -> list[ByteRange]:
    """Return where the file at *path* is no hole."""
    found = []
    position = 0
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with suppress(_NoMoreData):
            while True:
                start = _seek(fd, position, os.SEEK_DATA)
                position = _seek(fd, start, os.SEEK_HOLE)
                found.append(ByteRange(start, position))
    finally:
        os.close(fd)
    return found


class _NoMoreData(Exception):
    pass


def _seek(fd: int, position: int, whence: int) -> int:
    try:
        return os.lseek(fd, position, whence)
    except OSError as exc:
        if exc.errno == errno.ENXIO:
            raise _NoMoreData from None
        raise
