"""A spool directory as a command works in it: on files that nobody else has open."""

from __future__ import annotations

import os
from contextlib import suppress

from s3mount.core.spool_record import SpoolRecord, SpoolState, doubt_file
from s3mount.data.disk import Disk, boot_id, translated
from s3mount.data.journal_rows import SpoolRows
from s3mount.data.spool import remember_try
from s3mount.data.spool_entry import SpoolEntry
from s3mount.data.spool_file import SpoolFile
from s3mount.data.spool_holder import claim
from s3mount.data.spool_space import SpoolSpace
from s3mount.data.spool_version import SpoolVersion
from s3mount.errors import FsError, NotFound, ReadOnly


class FileBusy(FsError):
    """A program has the file open in the mount, or another command is at work on it."""


class SpoolGuest:
    """Gives files of a spool directory to a command.

    Args:
        rows: of the directory's journal; a mount may have it open as well.
    """

    def __init__(self, path: str, rows: SpoolRows) -> None:
        """Raises: FsError (the directory cannot be opened)."""
        self.path = path
        self.rows = rows
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self.fd = os.open(path, flags)
        except OSError as exc:
            raise translated(exc, path) from exc

    def claim(self, record: SpoolRecord) -> ClaimedFile:
        """Take the file of *record*, with its row as it is now.

        Raises: FileBusy; NotFound (the row is gone).
        """
        fd = None
        with suppress(FileNotFoundError):
            fd = os.open(record.file_name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
        claimed = ClaimedFile(self, record, fd)
        try:
            if fd is not None and not claim(fd):
                raise FileBusy(f"{record.file_name} is open elsewhere")
            found = self.rows.find(record.id)
            if found is None or found.state is SpoolState.DONE:
                raise NotFound(f"{record.file_name} is in the spool no more")
            claimed.record = found
        except BaseException:
            claimed.release()
            raise
        return claimed

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self.fd)


class ClaimedFile:
    """A spool file that only this process works on, until it is opened, deleted or released.

    ``record`` is its row.
    """

    def __init__(self, guest: SpoolGuest, record: SpoolRecord, fd: int | None) -> None:
        self.record = record
        self._guest = guest
        self._fd = fd

    async def open(self) -> SpoolFile:
        """Return the file, which keeps the claim until it is closed.

        Raises: FsError (the file is gone, or not what its row says).
        """
        path = os.path.join(self._guest.path, self.record.file_name)
        if self._fd is None:
            raise FsError(f"{path} is gone")
        doubt = doubt_file(self.record, os.fstat(self._fd).st_size)
        if doubt is not None:
            raise FsError(doubt)
        fd, self._fd = self._fd, None
        space = SpoolSpace(self._guest.fd, cap_bytes=None, free_floor_bytes=0)
        disk = Disk(1)
        entry = SpoolEntry(self._guest.rows, self.record, boot_id())
        version = SpoolVersion(
            disk,
            space,
            entry,
            fd=fd,
            path=path,
            on_close=lambda _: None,
            present=self.record.present,
        )
        file = SpoolFile(disk, version, _unchangeable, directory_fd=self._guest.fd)
        space.used_bytes += file.charged_bytes
        if self.record.state is SpoolState.UPLOADING:
            await remember_try(file)
        return file

    def delete(self) -> None:
        """Delete file and row; an upload in parts that was begun for it is aborted by the next mount.

        Raises: NoSpace, FsError.
        """
        # If this process ends in between, the next mount finishes it without a word.
        self._guest.rows.update(self.record, state=SpoolState.DONE)
        # And else a power cut may bring a row back that misses its file.
        self._guest.rows.journal.sync_now()
        try:
            with suppress(FileNotFoundError):
                os.unlink(self.record.file_name, dir_fd=self._guest.fd)
        except OSError as exc:
            raise translated(exc, self.record.file_name) from exc
        self._guest.rows.delete(self.record)
        self.release()

    def release(self) -> None:
        """Leave the file as it is. Again is fine."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _unchangeable(record: SpoolRecord) -> SpoolVersion:
    raise ReadOnly(f"{record.key}: commands change no file of the spool")
