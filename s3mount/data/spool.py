"""The directory of spool files: ours alone, bounded, and careful with what it finds."""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from s3mount.core.exits import Exit
from s3mount.core.objects import ByteRange, ObjectStat, WriteCondition
from s3mount.core.spool_record import (
    DATA_SUFFIX,
    NO_CONDITION,
    SENDABLE,
    Fingerprint,
    SpoolRecord,
    SpoolState,
    doubt_file,
)
from s3mount.data.disk import Disk, boot_id, sync_directory, translated
from s3mount.data.journal import Journal, JournalTooNew
from s3mount.data.journal_rows import SpoolRows
from s3mount.data.spool_entry import SpoolEntry
from s3mount.data.spool_file import SpoolFile
from s3mount.data.spool_holder import Holder, claim, living_holder_of, lock
from s3mount.data.spool_recovery import Leftover, open_journal, recover
from s3mount.data.spool_space import SpoolSpace
from s3mount.data.spool_version import SpoolVersion
from s3mount.data.uploader_settle import content, fingerprint_of, fingerprint_of_parts
from s3mount.errors import FsError, StartupError

__all__ = ["Leftover", "SpoolDir", "SpoolFile"]

DISK_THREADS = 4
"""Large reads and writes of the disk at once; more only queue in the kernel."""

_OWN_DIRECTORY = "name a directory of your own, with mode 0700, with --spool-dir"


class SpoolInUse(StartupError):
    """Another process holds the directory's lock."""


class SpoolDir:
    """A directory of spool files, used by one mount at a time, and the journal that says what they are.

    It is made with mode 0700, and refused if it is anything but a directory of this user that nobody
    else can enter. File names are a number and random letters, never anything of a key. What earlier
    mounts left is brought into a state that can be gone on from (``leftovers``), and never deleted
    while it may be the only copy of anything.

    Args:
        path: the directory; the last component must not be a symbolic link.
        cap_bytes: the most that all files may take on disk; None leaves it to the floor.
        free_floor_bytes: how much of the disk is to stay free.
        mountpoint, source: of the mount, for whoever is refused because of it.
        owner: the uid that it must belong to; None: this process's.

    Raises: StartupError.
    """

    def __init__(
        self,
        path: str,
        *,
        cap_bytes: int | None,
        free_floor_bytes: int,
        mountpoint: str = "",
        source: str = "",
        owner: int | None = None,
    ) -> None:
        self.path = os.path.abspath(path)
        self._fd = _open_directory(self.path, os.geteuid() if owner is None else owner)
        try:
            if not lock(self._fd, Holder(os.getpid(), mountpoint, source)):
                raise _in_use(self.path)
            self._space = SpoolSpace(
                self._fd, cap_bytes=cap_bytes, free_floor_bytes=free_floor_bytes, recount=self._recount
            )
            self._disk = Disk(DISK_THREADS)
            self._numbers = itertools.count(1)
            self._files: dict[int, SpoolVersion] = {}
            self._found: dict[str, int] = {}
            self._boot_id = boot_id()
            self._try_to_write()
            self._rows, self._leftovers = self._recovered()
        except BaseException:
            os.close(self._fd)
            raise
        #: Bytes on the disk of the files that nobody here has open.
        self._found = _sizes_on_disk(self._fd)
        self._space.used_bytes = sum(self._found.values())

    @property
    def used_bytes(self) -> int:
        """Bytes on disk that files here are charged with."""
        return self._space.used_bytes

    @property
    def space(self) -> SpoolSpace:
        """How much of the disk that is, and may be."""
        return self._space

    @property
    def journal(self) -> Journal:
        """The journal, for who has tables of its own in it."""
        return self._rows.journal

    @property
    def rows(self) -> SpoolRows:
        """The rows of the files, and of the uploads that wait to be aborted."""
        return self._rows

    async def create(
        self, key: str, base: ObjectStat | None = None, condition: WriteCondition = NO_CONDITION
    ) -> SpoolFile:
        """Make a file over the object *base*, or an empty one, that is to become *key*.

        Raises: NoSpace, FsError.
        """
        size = 0 if base is None else base.size
        record = SpoolRecord(
            id=0,
            file_name="",
            key=key,
            state=SpoolState.WRITING,
            condition=condition,
            base=base,
            base_limit=size,
            size=size,
        )
        return self._opened(self._begin(record))

    async def reopen(self, record: SpoolRecord) -> SpoolFile:
        """Take over a file that an earlier mount left, with the bytes that it has here.

        Raises: FsError (the file on disk is not what *record* says: it is parked with that cause; or it is
            open already, here or in a command).
        """
        if record.id in self._files:
            raise FsError(f"{record.file_name} of the spool is open already")
        path = os.path.join(self.path, record.file_name)
        try:
            fd = os.open(record.file_name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)
        except OSError as exc:
            raise translated(exc, path) from exc
        if not claim(fd):
            os.close(fd)
            raise FsError(f"a command is at work on {path}")
        doubt = doubt_file(record, os.fstat(fd).st_size)
        if doubt is not None:
            os.close(fd)
            if record.state in SENDABLE:
                self._rows.update(record, state=SpoolState.PARKED, cause=doubt)
            raise FsError(f"{path}: {doubt}")
        self._space.refund(self._found.pop(record.file_name, 0))
        file = self._opened(self._version(record, fd, present=record.present))
        self._space.used_bytes += file.charged_bytes  # they are there, cap or not
        try:
            if record.state is SpoolState.UPLOADING:
                await remember_try(file)
        except BaseException:
            await file.close()
            raise
        return file

    def records(self) -> list[SpoolRecord]:
        """Return the rows of all files that somebody still needs, the oldest first."""
        return [record for record in self._rows.all() if record.state is not SpoolState.DONE]

    def at_rest(self) -> list[SpoolRecord]:
        """Return the rows of those of them that are not open here, the oldest first."""
        return [record for record in self.records() if record.id not in self._files]

    def leftovers(self) -> list[Leftover]:
        """Return what earlier mounts left and this one found at its start, the oldest first."""
        return list(self._leftovers)

    def delete(self, record: SpoolRecord) -> None:
        """Delete a file that is not open, and its row: the bucket has its bytes, or nobody wants them.

        Raises: NoSpace, FsError (it is open; the disk failed).
        """
        if record.id in self._files:
            raise FsError(f"{record.file_name} of the spool is open")
        try:
            with suppress(FileNotFoundError):
                os.unlink(record.file_name, dir_fd=self._fd)
        except OSError as exc:
            raise translated(exc, record.file_name) from exc
        self._space.refund(self._found.pop(record.file_name, 0))
        self._rows.delete(record)

    def close(self) -> None:
        """Let another mount use the directory. Deletes nothing: what is here may be unsent."""
        for version in self._files.values():
            version.close_now()
        self._rows.journal.close()
        os.close(self._fd)

    def _recovered(self) -> tuple[SpoolRows, list[Leftover]]:
        try:
            rows, was_damaged = open_journal(self.path)
        except JournalTooNew as exc:
            raise _refused(self.path, f"was used by a later version of s3mount ({exc})") from exc
        except FsError as exc:
            raise _refused(self.path, f"has a journal that cannot be opened ({exc})") from exc
        try:
            return rows, recover(self.path, rows, self._boot_id, is_new_after_damage=was_damaged)
        except (FsError, OSError) as exc:
            rows.journal.close()
            raise _refused(self.path, f"has files that cannot be taken over ({exc})") from exc

    def _begin(self, record: SpoolRecord) -> SpoolVersion:
        """Make the file of a new row, whose id, file name and times are given here, and both.

        Raises: NoSpace, FsError.
        """
        name = f"{next(self._numbers):06d}-{secrets.token_hex(6)}{DATA_SUFFIX}"
        # The row comes first: a file without one would be nobody's after a crash.
        record = self._rows.insert(
            replace(record, file_name=name, changed_ns=time.time_ns(), boot_id=self._boot_id)
        )
        try:
            fd = self._make_file(name, record.size)
        except OSError as exc:
            self._rows.delete(record)
            raise translated(exc, os.path.join(self.path, name)) from exc
        claim(fd)  # nobody else touches a file of a live mount that is being written
        return self._version(record, fd)

    def _version(self, record: SpoolRecord, fd: int, *, present: Iterable[ByteRange] = ()) -> SpoolVersion:
        version = SpoolVersion(
            self._disk,
            self._space,
            SpoolEntry(self._rows, record, self._boot_id),
            fd=fd,
            path=os.path.join(self.path, record.file_name),
            on_close=lambda kept_bytes: self._let_go(record, kept_bytes),
            present=present,
        )
        self._files[record.id] = version
        return version

    def _opened(self, version: SpoolVersion) -> SpoolFile:
        return SpoolFile(self._disk, version, self._begin, directory_fd=self._fd)

    def _let_go(self, record: SpoolRecord, kept_bytes: int) -> None:
        self._files.pop(record.id)
        if kept_bytes:
            self._found[record.file_name] = kept_bytes

    def _recount(self) -> None:
        """Give back the room of files that a command has sent or discarded."""
        for name in [name for name in self._found if not os.path.lexists(os.path.join(self.path, name))]:
            self._space.refund(self._found.pop(name))

    def _make_file(self, name: str, size: int) -> int:
        fd = self._open_new(name)
        try:
            os.ftruncate(fd, size)
        except OSError:
            os.close(fd)
            os.unlink(name, dir_fd=self._fd)
            raise
        return fd

    def _open_new(self, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self._fd)

    def _try_to_write(self) -> None:
        name = f"probe-{secrets.token_hex(6)}"
        try:
            os.close(self._open_new(name))
            os.unlink(name, dir_fd=self._fd)
        except OSError as exc:
            raise _refused(self.path, f"cannot be written to ({exc.strerror})") from exc


def _open_directory(path: str, owner: int) -> int:
    """Open the directory, made if need be, and make sure that it is *owner*'s alone."""
    try:
        _make_directory(path)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        if os.path.islink(path):
            raise _refused(path, "is a symbolic link") from exc
        if exc.errno == errno.ENOTDIR:
            raise _refused(path, "is not a directory") from exc
        if exc.errno == errno.EEXIST:
            raise _refused(path, f"cannot be made: {os.path.dirname(path)} is not a directory") from exc
        raise _refused(path, f"cannot be made or opened ({exc.strerror})") from exc
    facts = os.fstat(fd)
    if facts.st_uid != owner:
        cause = f"belongs to user {facts.st_uid}, not to {owner}"
    elif stat.S_IMODE(facts.st_mode) & 0o077:
        cause = f"has mode {stat.S_IMODE(facts.st_mode):04o}: others could read or replace unsent files"
    elif _may_be_swapped(path):
        cause = f"is in {os.path.dirname(path)}, where other users could put another in its place"
    else:
        return fd
    os.close(fd)
    raise _refused(path, cause)


def _may_be_swapped(path: str) -> bool:
    """Return whether anybody may rename *path*: its parent is for all to write, without a sticky bit."""
    mode = os.stat(os.path.dirname(path)).st_mode
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def _make_directory(path: str) -> None:
    """Make the directory and its parents, with their names on the disk for good. Raises: OSError."""
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        if os.path.lexists(parent):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), parent)
        _make_directory(parent)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
        sync_directory(parent)


async def remember_try(file: SpoolFile) -> None:
    """Note what the server may have of *file*: the process that was sending it got no answer.

    Raises: FsError (the disk failed).
    """
    upload = file.record.upload
    if upload is None:
        # What misses bytes was never sent in one request.
        sent: Fingerprint | None = fingerprint_of(await content(file)) if file.is_complete else None
    else:
        sent = fingerprint_of_parts(upload.parts)
    if sent is not None and sent.size == file.size:
        file.ledger.lost(sent)


def _in_use(path: str) -> StartupError:
    holder = living_holder_of(path)
    cause = f"is in use by {'another mount' if holder is None else holder}"
    return SpoolInUse(f"spool directory {path}", cause, _OWN_DIRECTORY, Exit.CACHE_DIR)


def _refused(path: str, cause: str) -> StartupError:
    return StartupError(f"spool directory {path}", cause, _OWN_DIRECTORY, Exit.CACHE_DIR)


def _sizes_on_disk(directory_fd: int) -> dict[str, int]:
    names = [name for name in os.listdir(directory_fd) if name.endswith(DATA_SUFFIX)]
    return {name: os.stat(name, dir_fd=directory_fd, follow_symlinks=False).st_blocks * 512 for name in names}
