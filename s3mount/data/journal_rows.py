"""The journal's rows of spool files, and of uploads in parts that wait to be aborted."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from s3mount.core.objects import (
    ByteRange,
    MultipartUpload,
    ObjectHeaders,
    ObjectStat,
    PartTag,
    WriteCondition,
)
from s3mount.core.spool_record import (
    DAMAGED,
    UNKNOWN_KEY,
    Fingerprint,
    SpoolRecord,
    SpoolState,
    SpoolUpload,
)
from s3mount.data.journal import Journal, JournalDamaged, Schema, open_to_read

SCHEMA: Final = Schema(
    "spool",
    (
        """CREATE TABLE spool (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            file_name TEXT NOT NULL UNIQUE,
            key TEXT NOT NULL,
            state TEXT NOT NULL,
            condition TEXT NOT NULL,
            base TEXT,
            base_limit INTEGER NOT NULL,
            size INTEGER NOT NULL,
            present TEXT NOT NULL,
            headers TEXT,
            changed_ns INTEGER NOT NULL,
            cause TEXT NOT NULL,
            attempts INTEGER NOT NULL,
            is_synced INTEGER NOT NULL,
            boot_id TEXT NOT NULL,
            upload TEXT,
            unanswered TEXT NOT NULL
        )""",
        """CREATE TABLE part (
            spool_id INTEGER NOT NULL,
            number INTEGER NOT NULL,
            etag TEXT NOT NULL,
            size INTEGER NOT NULL,
            crc32 TEXT,
            PRIMARY KEY (spool_id, number)
        ) WITHOUT ROWID""",
        """CREATE TABLE begun (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            key TEXT NOT NULL,
            upload_id TEXT,
            asked_ns INTEGER NOT NULL
        )""",
        "ALTER TABLE spool ADD COLUMN replaces INTEGER",
        "CREATE INDEX spool_replaces ON spool (replaces) WHERE replaces IS NOT NULL",
    ),
)

_COLUMNS: Final = (
    *("id", "file_name", "key", "state", "condition", "base", "base_limit", "size", "present", "headers"),
    *("changed_ns", "cause", "attempts", "is_synced", "boot_id", "upload", "unanswered", "replaces"),
)
_NUMBERS: Final = ("base_limit", "size", "changed_ns", "attempts")
_SELECT_PARTS: Final = "SELECT spool_id, number, etag, size, crc32 FROM part"


@dataclass(frozen=True, slots=True)
class BegunUpload:
    """An upload in parts that no spool file answers for: of a copy, or one that was given up.

    ``upload_id`` is None while the answer with it has not come; then the uploads of exactly *key* that
    began at ``asked_ns`` (this machine's clock) or later may be it.
    """

    id: int
    key: str
    upload_id: str | None
    asked_ns: int


class SpoolRows:
    """Reads and writes the rows. Each method is one transaction, safe from the death of this process.

    Each raises NoSpace and FsError as :meth:`Journal.run` does.
    """

    def __init__(self, journal: Journal) -> None:
        """Make the tables. Raises: as :meth:`Journal.ensure`."""
        self.journal = journal
        journal.ensure(SCHEMA)

    def all(self) -> list[SpoolRecord]:
        """Return every row, the oldest first."""
        return self.journal.run(_read_all)

    def insert(self, record: SpoolRecord) -> SpoolRecord:
        """Add a row without parts; return it with the id that it got."""
        values = _values({name: getattr(record, name) for name in _COLUMNS[1:]})
        marks = ", ".join("?" * len(values))
        statement = f"INSERT INTO spool ({', '.join(values)}) VALUES ({marks})"
        row_id = self.journal.run(lambda db: db.execute(statement, tuple(values.values())).lastrowid)
        assert row_id is not None
        return replace(record, id=row_id)

    def find(self, row_id: int) -> SpoolRecord | None:
        """Return a row as it is now, None if it is gone."""
        return next((record for record in self.all() if record.id == row_id), None)

    def update(self, record: SpoolRecord, **changes: Any) -> SpoolRecord:
        """Change fields of a row, by their names in SpoolRecord; return the record as it is now.

        A change of ``upload`` replaces the parts as well. What the row had of an upload that is no
        longer there must have been given to :meth:`abandon` before.
        """
        self.journal.run(lambda db: _update(db, record.id, changes))
        return replace(record, **changes)

    def supersede(
        self, older: SpoolRecord, newer: SpoolRecord, **changes: Any
    ) -> tuple[SpoolRecord, SpoolRecord]:
        """Let *newer*, whose fields change, take the place of *older*, which nobody needs any more.

        Both at once, so that there is always exactly one of them. An upload that *older* has is *newer*'s
        from here on: whoever goes on with it compares the parts that the server has with the bytes.

        Returns: both records as they are now.
        """
        if older.upload is not None:
            changes["upload"] = replace(older.upload, parts=())
        gone: dict[str, Any] = {"state": SpoolState.DONE, "upload": None}

        def work(db: sqlite3.Connection) -> None:
            _update(db, newer.id, changes)
            _update(db, older.id, gone)

        self.journal.run(work)
        return replace(older, **gone), replace(newer, **changes)

    def rekey(
        self,
        records: Sequence[SpoolRecord],
        key: str,
        condition: WriteCondition,
        base: ObjectStat | None,
        *,
        with_edits: bool,
    ) -> list[SpoolRecord]:
        """Let rows be of *key*, over *base*; *with_edits*, also those of interrupted edits of them.

        Returns: *records* as they are now.
        """
        changes: dict[str, Any] = {"key": key, "condition": condition, "base": base, "unanswered": ()}

        def work(db: sqlite3.Connection) -> None:
            for record in records:
                _update(db, record.id, changes)
                if with_edits:
                    _rebase(db, record.id, key, condition, base)

        self.journal.run(work)
        return [replace(record, **changes) for record in records]

    def rebase(self, record: SpoolRecord, base: ObjectStat) -> None:
        """Let edits of *record* that were interrupted be over *base*, the object that it has become.

        What they miss is the same there: they were copies of it.
        """
        condition = WriteCondition(if_match=base.etag)
        self.journal.run(lambda db: _rebase(db, record.id, base.key, condition, base))

    def add_part(self, record: SpoolRecord, tag: PartTag) -> SpoolRecord:
        """Note a part that was sent of the row's upload."""
        assert record.upload is not None
        self.journal.run(lambda db: _add_part(db, record.id, tag))
        others = tuple(part for part in record.upload.parts if part.number != tag.number)
        parts = tuple(sorted((*others, tag), key=lambda part: part.number))
        return replace(record, upload=replace(record.upload, parts=parts))

    def delete(self, record: SpoolRecord) -> None:
        """Remove a row; an upload that it has is kept among those to be aborted."""

        def work(db: sqlite3.Connection) -> None:
            if record.upload is not None:
                _begin(db, record.key, record.upload)
            db.execute("DELETE FROM part WHERE spool_id = ?", (record.id,))
            db.execute("DELETE FROM spool WHERE id = ?", (record.id,))

        self.journal.run(work)

    def abandon(self, record: SpoolRecord) -> SpoolRecord:
        """Take the upload from a row and keep it among those to be aborted."""
        upload = record.upload
        if upload is None:
            return record

        def work(db: sqlite3.Connection) -> None:
            _begin(db, record.key, upload)
            db.execute("UPDATE spool SET upload = NULL WHERE id = ?", (record.id,))
            db.execute("DELETE FROM part WHERE spool_id = ?", (record.id,))

        self.journal.run(work)
        return replace(record, upload=None)

    def begun(self) -> list[BegunUpload]:
        """Return the uploads that no spool file answers for, the oldest first."""
        statement = "SELECT id, key, upload_id, asked_ns FROM begun ORDER BY id"
        return self.journal.run(lambda db: [BegunUpload(*row) for row in db.execute(statement)])

    def kept(self, key: str) -> frozenset[str]:
        """Return the ids of the uploads to *key* that some file goes on with one day."""
        statement = "SELECT upload FROM spool WHERE upload IS NOT NULL"
        texts = self.journal.run(lambda db: [text for (text,) in db.execute(statement)])
        found = [_loaded_upload(text, []) for text in texts]
        return frozenset(
            one.upload.upload_id for one in found if one and one.upload and one.upload.key == key
        )

    def begin(self, key: str, asked_ns: int) -> BegunUpload:
        """Note that an upload in parts to *key* is being asked for."""
        upload = SpoolUpload(asked_ns)
        row_id = self.journal.run(lambda db: _begin(db, key, upload))
        return BegunUpload(row_id, key, None, asked_ns)

    def name(self, begun: BegunUpload, upload_id: str) -> BegunUpload:
        """Note the id that came for *begun*."""
        statement = "UPDATE begun SET upload_id = ? WHERE id = ?"
        self.journal.run(lambda db: db.execute(statement, (upload_id, begun.id)))
        return replace(begun, upload_id=upload_id)

    def end(self, begun: BegunUpload) -> None:
        """Forget *begun*: it was completed or aborted."""
        self.journal.run(lambda db: db.execute("DELETE FROM begun WHERE id = ?", (begun.id,)))

    async def sync(self) -> None:
        """Return once everything that was said so far survives a power cut. As :meth:`Journal.sync`."""
        await self.journal.sync()


def read_records(directory: str) -> list[SpoolRecord]:
    """Return the rows of the spool in *directory*, for who does not hold its lock; DONE ones left out.

    A mount may be at work: rows of files being written are as of their last commit.

    Raises: JournalDamaged.
    """
    with ExitStack() as stack:
        opened = open_to_read(directory)
        if opened is None:
            return []
        db = stack.enter_context(opened)
        try:
            return [record for record in _read_all(db) if record.state is not SpoolState.DONE]
        except sqlite3.Error as exc:
            raise JournalDamaged(f"{directory}: the spool's journal cannot be read: {exc}") from exc


def _read_all(db: sqlite3.Connection) -> list[SpoolRecord]:
    parts: dict[int, list[PartTag]] = {}
    for spool_id, *fields in db.execute(f"{_SELECT_PARTS} ORDER BY spool_id, number"):
        parts.setdefault(spool_id, []).append(PartTag(*fields))
    # Columns by name: who only reads may meet a journal of an earlier or a later version.
    found = db.execute("SELECT * FROM spool ORDER BY id")
    names = [column[0] for column in found.description]
    rows = [dict(zip(names, row, strict=True)) for row in found]
    return [
        _record({name: row[name] for name in _COLUMNS if name in row}, parts.get(row["id"], []))
        for row in rows
    ]


def _update(db: sqlite3.Connection, row_id: int, changes: dict[str, Any]) -> None:
    values = _values(changes)
    statement = f"UPDATE spool SET {', '.join(f'{name} = ?' for name in values)} WHERE id = ?"
    db.execute(statement, (*values.values(), row_id))
    if "upload" in changes:
        db.execute("DELETE FROM part WHERE spool_id = ?", (row_id,))
        upload: SpoolUpload | None = changes["upload"]
        for tag in () if upload is None else upload.parts:
            _add_part(db, row_id, tag)


def _rebase(
    db: sqlite3.Connection, replaced_id: int, key: str, condition: WriteCondition, base: ObjectStat | None
) -> None:
    """Change the rows that replace another; one that misses no byte of an object goes on missing none."""
    db.execute(
        "UPDATE spool SET key = ?, condition = ?, base = CASE WHEN base IS NULL THEN NULL ELSE ? END "
        "WHERE replaces = ?",
        (key, _dumped_condition(condition), _dumped(base), replaced_id),
    )


def _add_part(db: sqlite3.Connection, row_id: int, tag: PartTag) -> None:
    db.execute(
        "REPLACE INTO part (spool_id, number, etag, size, crc32) VALUES (?, ?, ?, ?, ?)",
        (row_id, tag.number, tag.etag, tag.size, tag.crc32),
    )


def _begin(db: sqlite3.Connection, key: str, begun: SpoolUpload) -> int:
    upload = begun.upload
    row_id = db.execute(
        "INSERT INTO begun (key, upload_id, asked_ns) VALUES (?, ?, ?)",
        (key, None, begun.asked_ns) if upload is None else (upload.key, upload.upload_id, begun.asked_ns),
    ).lastrowid
    assert row_id is not None
    return row_id


# One field of a record as it is stored, and back. JSON, so that sqlite3(1) shows it to whoever has to
# rescue something by hand.


def _dumped_condition(condition: WriteCondition) -> str:
    return json.dumps(asdict(condition)) if condition else "{}"


def _dumped_ranges(ranges: tuple[ByteRange, ...]) -> str:
    return json.dumps([(span.start, span.stop) for span in ranges])


def _dumped(record: Any) -> str | None:
    return None if record is None else json.dumps(asdict(record))


def _dumped_upload(upload: SpoolUpload | None) -> str | None:
    if upload is None:
        return None
    sent = None if upload.upload is None else [upload.upload.key, upload.upload.upload_id]
    return json.dumps({"asked_ns": upload.asked_ns, "part_size": upload.part_size, "upload": sent})


def _dumped_tries(tries: tuple[Fingerprint, ...]) -> str:
    return json.dumps([(one.size, one.etag, one.crc32) for one in tries])


def _dumped_text(text: str) -> str:
    """The path of the spool, in a cause, may have bytes that are not UTF-8."""
    return text.encode(errors="backslashreplace").decode()


_DUMP: Final[dict[str, Callable[[Any], object]]] = {
    "state": lambda state: state.value,
    "cause": _dumped_text,
    "condition": _dumped_condition,
    "base": _dumped,
    "present": _dumped_ranges,
    "headers": _dumped,
    "is_synced": int,
    "upload": _dumped_upload,
    "unanswered": _dumped_tries,
}


def _values(fields: dict[str, Any]) -> dict[str, object]:
    return {name: _DUMP[name](value) if name in _DUMP else value for name, value in fields.items()}


def _record(row: dict[str, Any], parts: list[PartTag]) -> SpoolRecord:
    """Return the record of a row; of one that makes no sense, a parked one that says so."""
    try:
        _need_types(row)
        fields = {
            **row,
            "state": SpoolState(row["state"]),
            "condition": WriteCondition(**json.loads(row["condition"])),
            "base": _loaded_stat(row["base"]),
            "present": tuple(_range(start, stop) for start, stop in json.loads(row["present"])),
            "headers": _loaded_headers(row["headers"]),
            "is_synced": bool(row["is_synced"]),
            "upload": _loaded_upload(row["upload"], parts),
            "unanswered": tuple(Fingerprint(*one) for one in json.loads(row["unanswered"])),
        }
        return SpoolRecord(**fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        key = row["key"] if isinstance(row["key"], str) else UNKNOWN_KEY
        return SpoolRecord(row["id"], str(row["file_name"]), key, SpoolState.PARKED, cause=DAMAGED)


def _need_types(row: dict[str, Any]) -> None:
    """Refuse what SQLite would store in any column. Raises: ValueError."""
    for name in _NUMBERS:
        value = row.get(name, 0)
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} is {value!r}")
    if not isinstance(row.get("replaces"), int | None):
        raise ValueError(f"replaces is {row['replaces']!r}")
    for name in ("file_name", "key", "cause", "boot_id"):
        if not isinstance(row.get(name, ""), str):
            raise ValueError(f"{name} is {row[name]!r}")


def _range(start: object, stop: object) -> ByteRange:
    if not isinstance(start, int) or not isinstance(stop, int):
        raise ValueError(f"no range: {start!r} to {stop!r}")
    return ByteRange(start, stop)


def _loaded_headers(text: str | None) -> ObjectHeaders | None:
    return None if text is None else ObjectHeaders(**json.loads(text))


def _loaded_stat(text: str | None) -> ObjectStat | None:
    if text is None:
        return None
    fields = json.loads(text)
    headers = fields.pop("headers")
    return ObjectStat(**fields, headers=None if headers is None else ObjectHeaders(**headers))


def _loaded_upload(text: str | None, parts: list[PartTag]) -> SpoolUpload | None:
    if text is None:
        return None
    fields = json.loads(text)
    sent = fields.pop("upload")
    return SpoolUpload(**fields, upload=None if sent is None else MultipartUpload(*sent), parts=tuple(parts))
