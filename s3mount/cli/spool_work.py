"""Working on the files of a spool: alone, with the directory's lock, or beside the mount that has it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from s3mount.cli.privileges import give_files
from s3mount.cli.spool_places import Found, Place, place_of, printable
from s3mount.config.units import format_size_short
from s3mount.core.exits import Exit
from s3mount.core.spool_commands import Refusal, refuse_change
from s3mount.core.spool_record import EDGES, INTERRUPTED, UNKNOWN_KEY, SpoolRecord
from s3mount.data.journal import Journal
from s3mount.data.journal_rows import SpoolRows
from s3mount.data.spool import SpoolDir, SpoolInUse
from s3mount.data.spool_guest import ClaimedFile, FileBusy, SpoolGuest
from s3mount.errors import FsError, NotFound, StartupError


@dataclass(frozen=True)
class Work:
    """A spool directory that is open for work. ``mount`` is the one that has it, in words, or empty."""

    place: Place
    guest: SpoolGuest
    mount: str

    @property
    def is_alone(self) -> bool:
        """Whether no mount works there, and none can begin."""
        return not self.mount

    def records(self) -> list[SpoolRecord]:
        """Return the rows as they are now, the oldest first. Raises: FsError."""
        return self.guest.rows.all()

    def find(self, found: Found) -> SpoolRecord:
        """Return the row of a file that was found before. Raises: StartupError (it is gone)."""
        for record in self.records():
            if record.file_name == found.record.file_name:
                return record
        raise failed(found.record, Refusal("it is in the spool no more", "see `s3mount spool list`"))

    @contextmanager
    def claimed(self, record: SpoolRecord) -> Iterator[ClaimedFile]:
        """Give a file that nobody else works on.

        Raises: StartupError (the mount or another command has it, or it is gone).
        """
        if self.mount and (refusal := refuse_change(record, self.mount)) is not None:
            raise failed(record, refusal)
        try:
            claimed = self.guest.claim(record)
        except FileBusy:
            raise failed(record, self._who_has_it()) from None
        except NotFound:
            raise failed(record, Refusal("it is in the spool no more", "see `s3mount spool list`")) from None
        try:
            # It may have become the mount's since it was looked at.
            if self.mount and (refusal := refuse_change(claimed.record, self.mount)) is not None:
                raise failed(record, refusal)
            yield claimed
        finally:
            claimed.release()

    def _who_has_it(self) -> Refusal:
        if self.is_alone:
            return Refusal("another command is at work on it", "try again when that has ended")
        return Refusal(
            f"a program has it open in {self.mount}, or another command is at work on it",
            "close it there, then try again",
        )


@contextmanager
def open_work(place: Place) -> Iterator[Work]:
    """Open *place*: with its lock, so that no mount begins meanwhile, or beside the mount that has it.

    What a dead mount left is brought into order, as the next mount would do.
    Raises: StartupError.
    """
    owner = _owner(place.path)
    try:
        spool = SpoolDir(place.path, cap_bytes=None, free_floor_bytes=0, owner=owner)
    except SpoolInUse as error:
        now = place_of(place.path)
        if not now.is_mount:
            raise StartupError(
                error.thing, error.cause, "try again when it has ended", error.exit_code
            ) from None
        with _beside(now) as work:
            yield work
        return
    try:
        with _guest(place, spool.rows) as guest:
            yield Work(place, guest, "")
    finally:
        spool.close()
        _give_back(place.path, owner)


def _owner(path: str) -> int:
    """Return whose the spool *path* is to be: root may work in anybody's."""
    return os.lstat(path).st_uid if os.geteuid() == 0 else os.geteuid()


def _give_back(path: str, owner: int) -> None:
    """Let *owner* have what root has made in their spool, or their next mount could not go on with it."""
    if owner == os.geteuid():
        return
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        give_files(directory, owner, os.fstat(directory).st_gid)
    finally:
        os.close(directory)


@contextmanager
def _beside(place: Place) -> Iterator[Work]:
    try:
        journal = Journal(place.path)
    except FsError as error:
        raise _unusable(place, error) from error
    try:
        with _guest(place, SpoolRows(journal)) as guest:
            yield Work(place, guest, place.mount)
    finally:
        journal.close()


@contextmanager
def _guest(place: Place, rows: SpoolRows) -> Iterator[SpoolGuest]:
    try:
        guest = SpoolGuest(place.path, rows)
    except FsError as error:
        raise _unusable(place, error) from error
    try:
        yield guest
    finally:
        guest.close()


def described(record: SpoolRecord) -> str:
    """Return what a line says of a file: number, key, size, state."""
    return f"{_named(record)} ({format_size_short(record.size)}, {record.state.value})"


def warn_of_edges(record: SpoolRecord) -> None:
    """Say it where what was written into an object cannot be told from its surroundings to the byte."""
    if record.base is not None and record.cause.startswith(INTERRUPTED):
        print(f"s3mount: {_named(record)}: {EDGES}", file=sys.stderr)


def failed(record: SpoolRecord, refusal: Refusal) -> StartupError:
    """Return the error for one file."""
    return StartupError(_named(record), printable(refusal.cause), refusal.advice, Exit.NOT_DRAINED)


def _named(record: SpoolRecord) -> str:
    key = "unknown key" if record.key == UNKNOWN_KEY else printable(record.key)
    return f"file {record.id or record.file_name} ({key})"


def _unusable(place: Place, error: FsError) -> StartupError:
    return StartupError(
        f"spool directory {place.path}", f"cannot be worked on ({error})", "see its disk", Exit.CACHE_DIR
    )
