"""The spool's durable record: one SQLite database, written by one mount, readable by anybody else.

Whoever has tables in it describes them as a :class:`Schema` and hands transactions to
:meth:`Journal.run` (safe from a crash of this process) or :meth:`Journal.run_durable` (safe from a power
cut, too)::

    journal.ensure(Schema("jobs", ("CREATE TABLE job (id INTEGER PRIMARY KEY, old TEXT, new TEXT)",)))
    number = journal.run(lambda db: db.execute("INSERT INTO job (old, new) VALUES (?, ?)", pair).lastrowid)
    await journal.sync()  # now everything that was committed is on the disk for good

SQLite's write-ahead log is appended to without fsync (synchronous=NORMAL), which takes some ten
microseconds, so it is done at once. A durable commit is such a commit and then an fsync of the log in
a thread: that is what synchronous=FULL does within the transaction, where it would hold up all other
writers. Callers who wait at the same time share one fsync.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TypeVar

import trio

from s3mount.data.disk import sync_directory, translated
from s3mount.errors import FsError, NoSpace

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

JOURNAL_NAME = "journal.sqlite"
RESERVE_NAME = "journal.reserve"
_MEMORY_DISK = "/dev/shm"
_COMPANIONS = ("", "-wal", "-shm")  # the files that a database in WAL mode consists of

BUSY_TIMEOUT_S = 1.0
"""Only a commit of a command beside the mount, or the recovery of the log by one, ever holds a writer up."""

CHECKPOINT_COMMITS = 500
"""After so many commits the log is copied into the database: about 1.5 MB of it, some milliseconds."""

LOG_LIMIT_BYTES = 16 << 20
"""A log that has grown so large, since commits came without a pause, is copied while they wait."""

KEPT_LOG_BYTES = 4 << 20
"""A log that has grown beyond this is cut back once it was copied."""

RESERVE_BYTES = 512 << 10
"""Given up when the disk is full, so that rows can still be changed: over 100 commits."""

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class JournalDamaged(FsError):
    """The database cannot be read as one."""


class JournalTooNew(FsError):
    """A later version of s3mount has written it."""


@dataclass(frozen=True, slots=True)
class Schema:
    """Tables of one owner: *name*, and the statements that lead from each version to the next.

    The version in a database is the number of *steps* that were carried out. A step is never changed
    once it was released, only followed by another.
    """

    name: str
    steps: tuple[str, ...]


class Journal:
    """An open journal. One thread uses it: trio's.

    INVARIANT: what a commit has put into the log before ``sync`` began is on the disk after it.
    """

    def __init__(self, directory: str) -> None:
        """Open the journal in *directory*, made if need be.

        Raises: JournalDamaged, FsError (the disk fails), NoSpace.
        """
        self.path = os.path.join(directory, JOURNAL_NAME)
        self._directory = directory
        self._commits = self._safe_commits = self._checkpointed_commits = 0
        self._broken: FsError | None = None
        self._syncing = trio.Lock()
        self._thread = trio.CapacityLimiter(1)
        self._is_tidying = False
        try:
            self._db = _opened_despite_full_disk(self.path, directory)
        except sqlite3.Error as exc:
            raise self._translated(exc) from exc
        except OSError as exc:
            raise translated(exc, self.path) from exc
        try:
            # The log is there from the first write on, and as long as a connection is.
            self.ensure(Schema("journal", ("SELECT 1",)))
            self._log_fd = os.open(f"{self.path}-wal", os.O_RDONLY | os.O_CLOEXEC)
            try:
                sync_directory(directory)
            except BaseException:
                os.close(self._log_fd)
                raise
        except OSError as exc:
            self._db.close()
            raise translated(exc, self.path) from exc
        except BaseException:
            self._db.close()
            raise
        self._lacks_reserve = not make_reserve(directory)

    def ensure(self, schema: Schema) -> None:
        """Make the tables of *schema*, or bring those of an earlier version up to date.

        Raises: JournalTooNew, FsError, NoSpace.
        """

        def work(db: sqlite3.Connection) -> None:
            db.execute("CREATE TABLE IF NOT EXISTS schema_version (name TEXT PRIMARY KEY, version INTEGER)")
            row = db.execute("SELECT version FROM schema_version WHERE name = ?", (schema.name,)).fetchone()
            version = 0 if row is None else int(row[0])
            if version > len(schema.steps):
                raise JournalTooNew(f"{self.path}: version {version} of {schema.name}")
            for step in schema.steps[version:]:
                db.execute(step)
            db.execute("REPLACE INTO schema_version VALUES (?, ?)", (schema.name, len(schema.steps)))

        self.run(work)

    def run(self, work: Work[T]) -> T:
        """Run *work* as one transaction and return what it returns. It takes microseconds: no fsync.

        The commit survives the death of this process, not a power cut. *work* may run twice, so it
        changes nothing but the database.

        Raises: NoSpace, FsError (the disk failed): nothing has changed then. What *work* raises, as well.
        """
        try:
            result = self._transaction(work)
        except sqlite3.Error as exc:
            result = self._despite_full_disk(work, exc)
        self._commits += 1
        return result

    async def run_durable(self, work: Work[T]) -> T:
        """Like :meth:`run`, then :meth:`sync`. Raises: as both."""
        result = self.run(work)
        await self.sync()
        return result

    async def sync(self) -> None:
        """Return once everything that was committed so far survives a power cut.

        Cancel: the commits stay; whether they are safe is unknown.
        Raises: FsError (the disk failed; so will every later call: what a failed fsync has left behind
            nobody knows, and the kernel says it only once).
        """
        wanted = self._commits
        while self._safe_commits < wanted:
            if self._broken is not None:
                raise self._broken
            async with self._syncing:
                if self._safe_commits >= wanted or self._broken is not None:
                    continue
                covered = self._commits
                try:
                    await trio.to_thread.run_sync(os.fsync, self._log_fd, limiter=self._thread)
                except OSError as exc:
                    raise self._failed(exc) from exc
                self._safe_commits = covered

    def sync_now(self) -> None:
        """Like :meth:`sync`, before anything runs beside it. Raises: as :meth:`sync`."""
        if self._broken is not None:
            raise self._broken
        try:
            os.fsync(self._log_fd)
        except OSError as exc:
            raise self._failed(exc) from exc
        self._safe_commits = self._commits

    async def tidy(self) -> None:
        """Now and then copy the log into the database, in a thread. Called after work that nobody waits for.

        Cancel: not once it has begun. Logs failures, raises none.
        """
        if self._broken is not None or self._is_tidying:
            return  # of a log that could not be made safe, the kernel may have kept less than was written
        self._is_tidying = True
        try:
            if self._commits - self._checkpointed_commits >= CHECKPOINT_COMMITS:
                await self._copy_log()
            if self._lacks_reserve:
                self._lacks_reserve = not make_reserve(self._directory)
        except (sqlite3.Error, OSError) as exc:
            log.debug("%s: the log stays as it is: %s", self.path, exc)
        finally:
            self._is_tidying = False

    def close(self) -> None:
        """Close; the log goes into the database if the disk lets it."""
        os.close(self._log_fd)
        with suppress(sqlite3.Error):
            self._db.close()

    async def _copy_log(self) -> None:
        self._checkpointed_commits = self._commits
        if os.fstat(self._log_fd).st_size > LOG_LIMIT_BYTES:
            _checkpoint(self.path)
        else:
            await trio.to_thread.run_sync(_checkpoint, self.path, limiter=self._thread)

    def _despite_full_disk(self, work: Work[T], failure: sqlite3.Error) -> T:
        """Run *work* again if room can be made for it.

        The blocks of a log that was copied are written over, so that rows can be changed without end.
        Copying may need room itself: the reserve's.
        """
        if _may_be_full(failure):
            self._lacks_reserve = True
            has_room = free_reserve(self._directory)
            if self._restart_log() or has_room:
                try:
                    return self._transaction(work)
                except sqlite3.Error as exc:
                    failure = exc
        raise self._translated(failure) from failure

    def _restart_log(self) -> bool:
        """Copy the log into the database now; return whether that could be done."""
        if self._broken is not None:
            return False
        try:
            _checkpoint(self.path)
        except sqlite3.Error:
            return False
        return True

    def _failed(self, exc: OSError) -> FsError:
        self._broken = FsError(f"{self.path}: the spool's disk failed: {exc.strerror}")
        return self._broken

    def _transaction(self, work: Work[T]) -> T:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._db)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return result

    def _translated(self, exc: sqlite3.Error) -> Exception:
        code = getattr(exc, "sqlite_errorcode", 0)
        if code & 0xFF in _DAMAGED:
            return JournalDamaged(f"{self.path}: {exc}")
        is_full = code & 0xFF == sqlite3.SQLITE_FULL or (_may_be_full(exc) and _is_full(self._directory))
        if is_full:
            return NoSpace(f"{self.path}: the disk is full")
        return FsError(f"{self.path}: the spool's journal failed: {exc}")


def make_reserve(directory: str) -> bool:
    """Set the reserve aside; return whether the disk has room for it."""
    path = os.path.join(directory, RESERVE_NAME)
    with suppress(OSError):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_blocks * 512 < RESERVE_BYTES:
                os.posix_fallocate(fd, 0, RESERVE_BYTES)
            return True
        except OSError:
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)
    return False


def free_reserve(directory: str) -> bool:
    """Give the reserve up; return whether there was any."""
    path = os.path.join(directory, RESERVE_NAME)
    with suppress(OSError):
        had = os.lstat(path).st_blocks > 0
        os.unlink(path)
        return had
    return False


def open_to_read(directory: str) -> closing[sqlite3.Connection] | None:
    """Return a connection that changes nothing, to be closed; None if there is no journal.

    For the command line, beside a mount or without one, also where the disk is full or read-only.
    Raises: JournalDamaged.
    """
    path = os.path.join(directory, JOURNAL_NAME)
    if not os.path.exists(path):
        return None
    try:
        return closing(_connected_to_read(path))
    except sqlite3.Error as exc:
        # To read a log, SQLite makes a file beside it, which needs room.
        if getattr(exc, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            raise JournalDamaged(f"{path}: {exc}") from exc
    try:
        return closing(_copied(path))
    except (sqlite3.Error, OSError) as exc:
        raise JournalDamaged(f"{path}: {exc}") from exc


def _connected_to_read(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(f"file:{_quoted(path)}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
    try:
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _copied(path: str) -> sqlite3.Connection:
    """Return the database in memory, with what is in the log."""
    memory = _MEMORY_DISK if os.access(_MEMORY_DISK, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as place:
        copy = os.path.join(place, JOURNAL_NAME)
        for companion in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(path + companion, copy + companion)
        with closing(sqlite3.connect(copy)) as source:
            db = sqlite3.connect(":memory:")
            source.backup(db)
    return db


def move_aside(directory: str) -> str:
    """Rename a journal that cannot be read, and return its new path."""
    number = 1
    while os.path.exists(target := os.path.join(directory, f"{JOURNAL_NAME}.damaged-{number}")):
        number += 1
    for companion in _COMPANIONS:
        with suppress(FileNotFoundError):
            os.rename(os.path.join(directory, JOURNAL_NAME + companion), target + companion)
    return target


def _opened_despite_full_disk(path: str, directory: str) -> sqlite3.Connection:
    try:
        return _opened(path)
    except sqlite3.Error as exc:
        if not _may_be_full(exc) or not free_reserve(directory):
            raise
    return _opened(path)


def _opened(path: str) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise FsError(f"{path}: the file system has no shared memory for SQLite's write-ahead log")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA wal_autocheckpoint = 0")  # it would fsync in the midst of a commit
        db.execute(f"PRAGMA journal_size_limit = {KEPT_LOG_BYTES}")
        found = db.execute("PRAGMA quick_check(1)").fetchone()
        if found != ("ok",):
            raise JournalDamaged(f"{path}: {found[0]}")
    except BaseException:
        db.close()
        raise
    return db


def _checkpoint(path: str) -> None:
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _may_be_full(exc: sqlite3.Error) -> bool:
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF in (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
    )


def _is_full(directory: str) -> bool:
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize < RESERVE_BYTES or (disk.f_files > 0 and disk.f_favail == 0)


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
