"""The directory of spool files: ours alone, bounded, and careful with what it finds."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass

from s3mount.core.exits import Exit
from s3mount.core.objects import ObjectStat
from s3mount.data.disk import Disk, translated
from s3mount.data.spool_file import SpoolFile
from s3mount.data.spool_note import SpoolNote
from s3mount.data.spool_space import SpoolSpace
from s3mount.errors import StartupError

__all__ = ["Leftover", "SpoolDir", "SpoolFile"]

DATA_SUFFIX = ".data"

DISK_THREADS = 4
"""Large reads and writes of the disk at once; more only queue in the kernel."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that an earlier mount left: *note* is None if that mount died without writing one."""

    path: str
    size: int
    note: SpoolNote | None


class SpoolDir:
    """A directory of spool files, used by one mount at a time.

    It is made with mode 0700, and refused if it is anything but a directory of this user that nobody
    else can enter. File names are a number and random letters, never anything of a key. Files that
    earlier mounts left are counted, never touched.

    Args:
        path: the directory; the last component must not be a symbolic link.
        cap_bytes: the most that all files may take on disk; None leaves it to the floor.
        free_floor_bytes: how much of the disk is to stay free.

    Raises: StartupError.
    """

    def __init__(self, path: str, *, cap_bytes: int | None, free_floor_bytes: int) -> None:
        self.path = os.path.abspath(path)
        self._fd = _open_directory(self.path)
        try:
            _lock(self._fd, self.path)
            self._space = SpoolSpace(self._fd, cap_bytes=cap_bytes, free_floor_bytes=free_floor_bytes)
            self._disk = Disk(DISK_THREADS)
            self._numbers = itertools.count(1)
            self._own: set[str] = set()
            self._space.used_bytes = sum(_bytes_on_disk(entry.path) for entry in os.scandir(self.path))
            self._try_to_write()
        except BaseException:
            os.close(self._fd)
            raise

    @property
    def used_bytes(self) -> int:
        """Bytes on disk that files here are charged with."""
        return self._space.used_bytes

    async def create(self, key: str, base: ObjectStat | None = None) -> SpoolFile:
        """Make a file over the object *base*, or an empty one. *key* is only for messages and notes.

        Raises: NoSpace, FsError.
        """
        name = f"{next(self._numbers):06d}-{secrets.token_hex(6)}{DATA_SUFFIX}"
        path = os.path.join(self.path, name)
        try:
            fd = self._open_new(name)
        except OSError as exc:
            raise translated(exc, path) from exc
        try:
            if base is not None:
                os.ftruncate(fd, base.size)
        except OSError as exc:
            os.close(fd)
            os.unlink(name, dir_fd=self._fd)
            raise translated(exc, path) from exc
        self._own.add(name)
        return SpoolFile(self._disk, self._space, fd=fd, path=path, key=key, base=base)

    def leftovers(self) -> list[Leftover]:
        """Return the files that earlier mounts left here, in the order of their names."""
        found = []
        for name in sorted(os.listdir(self.path)):
            if name.endswith(DATA_SUFFIX) and name not in self._own:
                path = os.path.join(self.path, name)
                found.append(Leftover(path, os.lstat(path).st_size, SpoolNote.read(path)))
        return found

    def close(self) -> None:
        """Let another mount use the directory. Deletes nothing: what is here may be unsent."""
        os.close(self._fd)

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


def _open_directory(path: str) -> int:
    """Open the directory, made if need be, and make sure that it is ours alone."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
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
    if facts.st_uid != os.geteuid():
        cause = f"belongs to user {facts.st_uid}, not to {os.geteuid()}"
    elif stat.S_IMODE(facts.st_mode) & 0o077:
        cause = f"has mode {stat.S_IMODE(facts.st_mode):04o}: others could read or replace unsent files"
    else:
        return fd
    os.close(fd)
    raise _refused(path, cause)


def _lock(fd: int, path: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        raise _refused(path, "is in use by another mount") from exc


def _refused(path: str, cause: str) -> StartupError:
    return StartupError(
        f"spool directory {path}",
        cause,
        "name a directory of your own, with mode 0700, with --spool-dir",
        Exit.CACHE_DIR,
    )


def _bytes_on_disk(path: str) -> int:
    return os.lstat(path).st_blocks * 512
