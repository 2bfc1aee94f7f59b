"""What the spool's journal knows of directory renames: each job, and each object of its tree.

A job is there from before its first copy until nothing is left to do. That it began, and that its phase
changed, is safe from a power cut; all else is only safe from the death of this process, and a job that
goes on after a power cut finds by looking into the bucket what is not recorded.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import trio

from s3mount.core.rename_job import JobObject, JobPhase, Version
from s3mount.data.journal import Journal, JournalDamaged, Schema, open_to_read

SCHEMA = Schema(
    "rename_jobs",
    (
        """CREATE TABLE rename_job (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            old TEXT NOT NULL,
            new TEXT NOT NULL,
            keeps_top INTEGER NOT NULL,
            phase TEXT NOT NULL,
            began_ns INTEGER NOT NULL,
            deleted INTEGER NOT NULL DEFAULT 0,
            cause TEXT NOT NULL DEFAULT ''
        )""",
        """CREATE TABLE rename_object (
            job INTEGER NOT NULL,
            name TEXT NOT NULL,
            etag TEXT NOT NULL,
            size INTEGER NOT NULL,
            last_modified_ns INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            copy_etag TEXT,
            PRIMARY KEY (job, name)
        ) WITHOUT ROWID""",
    ),
)

_OBJECT = "name, etag, size, last_modified_ns, mtime_ns, copy_etag"

VARIABLES = 500
"""Names in one SELECT: SQLite takes 999 in its oldest versions."""

FORGOTTEN_AT_ONCE = 5000
"""Rows deleted in one transaction: some milliseconds, in which the mount answers nobody."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A rename of the prefix *old* to *new*, both whole keys that end in a slash.

    ``keeps_top``: an empty directory was at *new* before. ``began_ns`` is by this machine's clock.
    ``cause`` says what it failed from last, as a sentence; empty where nothing is amiss.
    """

    id: int
    old: str
    new: str
    keeps_top: bool
    phase: JobPhase
    began_ns: int
    cause: str = ""


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job as `spool list` shows it: *done* of *total* objects of its phase.

    While copying, *total* grows with each page of the old tree's listing.
    """

    id: int
    kind: str
    old: str
    new: str
    phase: JobPhase
    done: int
    total: int
    since_ns: int
    cause: str

    @property
    def name(self) -> str:
        """What commands call it; files of the spool are called by numbers, or by names that end in .data."""
        return f"r{self.id}"


class JobJournal:
    """The jobs in *journal*. Sync calls take microseconds for each object and survive a kill.

    Every call raises NoSpace or FsError where the spool's disk fails.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        journal.ensure(SCHEMA)

    async def begin(self, old: str, new: str, *, keeps_top: bool, now_ns: int) -> JobRecord:
        """Record a new job, safe from a power cut."""
        row = (old, new, keeps_top, JobPhase.COPYING.value, now_ns)

        def work(db: sqlite3.Connection) -> int | None:
            statement = "INSERT INTO rename_job (old, new, keeps_top, phase, began_ns) VALUES (?, ?, ?, ?, ?)"
            return db.execute(statement, row).lastrowid

        number = await self._journal.run_durable(work)
        assert number is not None
        return JobRecord(number, old, new, keeps_top, JobPhase.COPYING, now_ns)

    async def enter(self, job: int, phase: JobPhase) -> None:
        """Record the phase that *job* goes on in, safe from a power cut, and everything before it."""
        await self._journal.run_durable(
            lambda db: db.execute(
                "UPDATE rename_job SET phase = ?, deleted = 0, cause = '' WHERE id = ?", (phase.value, job)
            )
        )

    async def finish(self, job: int) -> None:
        """Forget *job*, safe from a power cut: a later one may move the same names back."""
        # Nothing is left to do, so a crash in between finds less to compare and nothing to delete.
        while self._journal.run(lambda db: _forget_some(db, job)):
            await trio.lowlevel.checkpoint()
        await self._journal.run_durable(lambda db: db.execute("DELETE FROM rename_job WHERE id = ?", (job,)))
        await self._journal.tidy()

    def unfinished(self) -> list[JobRecord]:
        """Return all jobs, the oldest first."""

        def work(db: sqlite3.Connection) -> list[JobRecord]:
            rows = db.execute(
                "SELECT id, old, new, keeps_top, phase, began_ns, cause FROM rename_job ORDER BY id"
            )
            return [
                JobRecord(number, old, new, bool(keeps_top), JobPhase(phase), began_ns, cause)
                for number, old, new, keeps_top, phase, began_ns, cause in rows
            ]

        return self._journal.run(work)

    def add(self, job: int, objects: Iterable[JobObject]) -> None:
        """Record objects, in place of what was recorded of their names."""
        rows = [_row(job, one) for one in objects]
        self._journal.run(
            lambda db: db.executemany(
                f"REPLACE INTO rename_object (job, {_OBJECT}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows
            )
        )

    def objects(self, job: int, names: Collection[str]) -> dict[str, JobObject]:
        """Return what is recorded of *names*, by name."""
        asked = list(names)

        def work(db: sqlite3.Connection) -> dict[str, JobObject]:
            found: dict[str, JobObject] = {}
            for start in range(0, len(asked), VARIABLES):
                some = asked[start : start + VARIABLES]
                marks = ", ".join("?" * len(some))
                statement = f"SELECT {_OBJECT} FROM rename_object WHERE job = ? AND name IN ({marks})"
                found |= {one.name: one for one in map(_object, db.execute(statement, (job, *some)))}
            return found

        return self._journal.run(work)

    def copied(self, job: int) -> int:
        """Return how many copies are recorded."""
        statement = "SELECT count(copy_etag) FROM rename_object WHERE job = ?"
        return int(self._journal.run(lambda db: db.execute(statement, (job,)).fetchone()[0]))

    def copied_after(self, job: int, name: str, limit: int) -> list[str]:
        """Return the first *limit* names behind *name* whose copies are recorded."""
        statement = (
            "SELECT name FROM rename_object WHERE job = ? AND name > ? AND copy_etag IS NOT NULL "
            "ORDER BY name LIMIT ?"
        )
        return self._journal.run(lambda db: [row[0] for row in db.execute(statement, (job, name, limit))])

    def note(self, job: int, *, deleted: int = 0, cause: str | None = None) -> None:
        """Record that *deleted* more objects are gone, and what the job failed from (None: as it was)."""
        self._journal.run(
            lambda db: db.execute(
                "UPDATE rename_job SET deleted = deleted + ?, cause = coalesce(?, cause) WHERE id = ?",
                (deleted, cause, job),
            )
        )

    def summaries(self) -> list[JobSummary]:
        """Return all jobs as they stand."""
        return self._journal.run(_summaries)


def list_jobs(directory: str) -> list[JobSummary]:
    """Return the jobs in the spool *directory*, with or without a mount that runs them.

    Raises: JournalDamaged.
    """
    reading = open_to_read(directory)
    if reading is None:
        return []
    with reading as db:
        try:
            tables = db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'rename_job'").fetchone()
            return _summaries(db) if tables[0] else []
        except sqlite3.Error as exc:
            raise JournalDamaged(f"{directory}: the spool's journal cannot be read: {exc}") from exc


def _summaries(db: sqlite3.Connection) -> list[JobSummary]:
    rows = db.execute(
        """SELECT id, old, new, phase, began_ns, deleted, cause,
                  (SELECT count(*) FROM rename_object WHERE job = id),
                  (SELECT count(copy_etag) FROM rename_object WHERE job = id)
           FROM rename_job ORDER BY id"""
    )
    summaries = []
    for number, old, new, phase, began_ns, deleted, cause, listed, copied in rows:
        is_copying = phase == JobPhase.COPYING.value
        # Markers of directories that had none are deleted, too.
        done, total = (copied, listed) if is_copying else (min(deleted, copied), copied)
        summaries.append(
            JobSummary(number, "rename", old, new, JobPhase(phase), done, total, began_ns, cause)
        )
    return summaries


def _forget_some(db: sqlite3.Connection, job: int) -> bool:
    some = "SELECT name FROM rename_object WHERE job = ? LIMIT ?"
    statement = f"DELETE FROM rename_object WHERE job = ? AND name IN ({some})"
    return db.execute(statement, (job, job, FORGOTTEN_AT_ONCE)).rowcount > 0


def _row(job: int, one: JobObject) -> tuple[object, ...]:
    source = one.source
    return (job, one.name, source.etag, source.size, source.last_modified_ns, one.mtime_ns, one.copy_etag)


def _object(row: tuple[str, str, int, int, int, str | None]) -> JobObject:
    name, etag, size, last_modified_ns, mtime_ns, copy_etag = row
    return JobObject(name, Version(etag, size, last_modified_ns), mtime_ns, copy_etag)
