"""What the spool says of files below a directory that is renamed: their keys go along."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from s3mount.core.objects import ObjectStat, WriteCondition
from s3mount.core.spool_record import SpoolRecord
from s3mount.data.spool import SpoolDir
from s3mount.errors import FsError
from s3mount.fs.open_file import OpenFile
from s3mount.fs.open_files import OpenFiles

CopyOf = Callable[[str, str], ObjectStat | None]
"""Gives the copy of the version (key, ETag); None where others have taken it away, or it is of no tree."""


class SpoolMove:
    """Changes the rows of all files below *old* to what is below *new*, and back."""

    def __init__(
        self, spool_dir: SpoolDir, open_files: OpenFiles, old: str, new: str, copy_of: CopyOf
    ) -> None:
        self._spool_dir = spool_dir
        self._open_files = open_files
        self._old = old
        self._new = new
        self._copy_of = copy_of
        self._files: list[tuple[OpenFile, str, ObjectStat | None, WriteCondition | None]] = []
        self._rows: list[SpoolRecord] = []

    def go(self) -> None:
        """Record the new keys. Raises: NoSpace, FsError; nothing has changed then.

        Safe from the death of this process; from a power cut with whatever is made safe next.
        """
        try:
            for file in self._open_files.below(self._old):
                if file.is_unsent and file.node.is_linked:
                    self._files.append((file, file.node.key, file.base, file.condition))
                    self._move_file(file)
            for record in self._spool_dir.at_rest():
                if record.key.startswith(self._old):
                    self._rows.append(record)
                    self._move_row(record)
        except FsError:
            self.go_back()
            raise

    def go_back(self) -> None:
        """Undo :meth:`go`."""
        files, self._files = self._files, []
        rows, self._rows = self._rows, []
        for file, key, base, condition in files:
            file.base = base
            file.keep_name(key, condition)
        with suppress(FsError):
            for record in rows:
                self._spool_dir.rows.update(
                    record, key=record.key, condition=record.condition, base=record.base
                )

    def _move_file(self, file: OpenFile) -> None:
        key = file.node.key
        base = self._moved(file.base)
        file.follow_name(self._renamed(key), self._named(file.write_condition(), key), base=base)
        file.base = base

    def _move_row(self, record: SpoolRecord) -> None:
        rows = self._spool_dir.rows
        record = rows.abandon(record)
        rows.update(
            record,
            key=self._renamed(record.key),
            condition=self._named(record.condition, record.key),
            base=self._moved(record.base),
            unanswered=(),
        )

    def _moved(self, base: ObjectStat | None) -> ObjectStat | None:
        """Return where the bytes of *base* are then."""
        if base is None or not base.key.startswith(self._old):
            return base
        return self._copy_of(base.key, base.etag) or base

    def _named(self, condition: WriteCondition, key: str) -> WriteCondition:
        """Return *condition* of *key* as one of the new key: the version that it names has a copy there."""
        copy = None if condition.if_match is None else self._copy_of(key, condition.if_match)
        return condition if copy is None else replace(condition, if_match=copy.etag)

    def _renamed(self, key: str) -> str:
        return self._new + key[len(self._old) :]
