"""Rows of the journal: what goes in comes out, and what makes no sense does no harm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3mount.core.objects import MultipartUpload, ObjectHeaders, PartTag
from s3mount.core.spool_record import DAMAGED, SpoolRecord, SpoolState, SpoolUpload
from s3mount.data.journal import Journal
from s3mount.data.journal_rows import BegunUpload, SpoolRows, read_records
from tests.support.spool_records import spool_records, uploads

PLAIN = SpoolRecord(0, "1.data", "k", SpoolState.QUEUED, headers=ObjectHeaders())
UPLOAD = SpoolUpload(
    7, 5 << 20, MultipartUpload("k", "id"), (PartTag(1, '"a"', 5 << 20), PartTag(3, '"b"', 9, "AAAAAA=="))
)


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[SpoolRows]:
    """The rows of a fresh journal."""
    journal = Journal(str(tmp_path))
    yield SpoolRows(journal)
    journal.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpoolRows]:
    """One journal for all examples: hypothesis gives no fresh fixture to each."""
    journal = Journal(str(tmp_path_factory.mktemp("journal")))
    yield SpoolRows(journal)
    journal.close()


def parts_left(rows: SpoolRows) -> int:
    """Return how many parts the journal remembers."""
    return int(rows.journal.run(lambda db: db.execute("SELECT count(*) FROM part").fetchone()[0]))


@settings(deadline=None)
@given(record=spool_records())
def test_every_record_comes_back_as_it_was(shared: SpoolRows, record: SpoolRecord) -> None:
    """Inserted without parts, then told of its upload: each field, each kind of value."""
    inserted = shared.insert(replace(record, upload=None))
    written = shared.update(inserted, upload=record.upload)
    assert shared.all() == [written]
    assert written == replace(record, id=inserted.id)
    directory = str(Path(shared.journal.path).parent)
    assert read_records(directory) == ([] if record.state is SpoolState.DONE else [written])
    shared.delete(written)
    assert parts_left(shared) == 0
    for begun in shared.begun():
        shared.end(begun)


@settings(deadline=None)
@given(before=spool_records(), after=spool_records())
def test_every_change_comes_back(shared: SpoolRows, before: SpoolRecord, after: SpoolRecord) -> None:
    """All fields at once, the upload with its parts among them."""
    inserted = shared.insert(replace(before, upload=None))
    names = [name for name in SpoolRecord.__dataclass_fields__ if name not in ("id", "file_name")]
    changed = shared.update(inserted, **{name: getattr(after, name) for name in names})
    assert shared.all() == [changed] == [replace(after, id=inserted.id)]
    shared.delete(replace(changed, upload=None))
    assert parts_left(shared) == 0


@settings(deadline=None)
@given(upload=uploads())
def test_a_part_that_is_sent_again_takes_the_place_of_the_first(
    shared: SpoolRows, upload: SpoolUpload
) -> None:
    """Each number once, in order, whatever the order they were sent in."""
    record = shared.update(shared.insert(PLAIN), upload=replace(upload, parts=()))
    for tag in (*reversed(upload.parts), *upload.parts[:1]):
        record = shared.add_part(record, tag)
    assert record.upload == upload
    assert shared.all() == [record]
    shared.delete(replace(record, upload=None))


def test_an_upload_outlives_its_row(rows: SpoolRows) -> None:
    """Who deletes or abandons a row leaves its upload to be aborted; its parts are forgotten."""
    deleted = rows.update(rows.insert(PLAIN), upload=UPLOAD)
    rows.delete(deleted)
    abandoned = rows.abandon(rows.update(rows.insert(replace(PLAIN, key="j")), upload=SpoolUpload(9)))
    assert abandoned.upload is None
    assert rows.abandon(abandoned) == abandoned
    assert [(row.key, row.upload_id, row.asked_ns) for row in rows.begun()] == [
        ("k", "id", 7),
        ("j", None, 9),
    ]
    assert rows.all() == [abandoned]
    assert parts_left(rows) == 0


def test_the_list_of_begun_uploads(rows: SpoolRows) -> None:
    """Asked for, named, ended."""
    first, second = rows.begin("a", 1), rows.begin("b", 2)
    assert rows.begun() == [first, second] == [BegunUpload(first.id, "a", None, 1), second]
    named = rows.name(first, "id")
    assert rows.begun() == [named, second] == [BegunUpload(first.id, "a", "id", 1), second]
    rows.end(named)
    assert rows.begun() == [second]


def test_a_spool_in_a_path_that_is_not_utf8_can_have_causes(rows: SpoolRows) -> None:
    """A cause names the file in the spool, and the path may be any bytes."""
    rows.update(rows.insert(PLAIN), cause="/spool-\udcff/1.data: the disk is full")
    assert rows.all()[0].cause == "/spool-\\udcff/1.data: the disk is full"


def test_where_there_is_no_journal_there_are_no_rows(tmp_path: Path) -> None:
    """An empty directory, or one of an earlier version, is no error for a reader."""
    assert read_records(str(tmp_path)) == []


BROKEN: dict[str, list[object]] = {
    "state": ["lost", "", None, 5],
    "condition": ["", "{", "[]", "5", '{"if_match": "a", "if_none_match": true}', '{"other": 1}'],
    "base": ["", "{}", "[]", '{"key": "k"}', "5"],
    "base_limit": ["many", -1, None],
    "size": ["many", -1, 1.5],
    "present": ["", "5", "[5]", "[[2, 1]]", "[[-1, 1]]", "[[0.5, 1]]", '[["a", "b"]]', "[" * 100_000],
    "headers": ["", "[]", '{"other": 1}', "5"],
    "changed_ns": ["yesterday", None],
    "cause": [b"\xff"],
    "attempts": ["many", -1],
    "boot_id": [b"\xff"],
    "upload": ["", "5", "{}", '{"asked_ns": 1, "part_size": 1, "upload": 5}'],
    "unanswered": ["", "5", "[5]", '[{"size": 1}]'],
}


@pytest.mark.parametrize(
    ("column", "value"),
    [(column, value) for column, found in BROKEN.items() for value in found],
    ids=lambda value: str(value)[:20],
)
def test_a_row_that_makes_no_sense_is_parked(rows: SpoolRows, column: str, value: object) -> None:
    """The file waits for the user, and the other rows are not affected."""
    record, other = rows.insert(PLAIN), rows.insert(replace(PLAIN, file_name="2.data"))
    loose = rows.journal.run(
        lambda db: db.execute("SELECT sql FROM sqlite_schema WHERE name = 'spool'").fetchone()[0]
    ).replace(" NOT NULL", "")

    def work(db: object) -> None:
        # A disk that changes bits asks no constraint.
        db.execute("ALTER TABLE spool RENAME TO strict")  # type: ignore[attr-defined]
        db.execute(loose)  # type: ignore[attr-defined]
        db.execute("INSERT INTO spool SELECT * FROM strict")  # type: ignore[attr-defined]
        db.execute(f"UPDATE spool SET {column} = ? WHERE id = ?", (value, record.id))  # type: ignore[attr-defined]

    rows.journal.run(work)
    damaged, sound = rows.all()
    assert damaged == SpoolRecord(record.id, "1.data", "k", SpoolState.PARKED, cause=DAMAGED)
    assert sound == other


@settings(deadline=None)
@given(
    column=st.sampled_from([name for name in BROKEN if name not in ("cause", "boot_id")]),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_any_text_in_a_column_is_a_value_or_damage(shared: SpoolRows, column: str, value: object) -> None:
    """Whatever it is, reading does not fail, and a damaged row is parked."""
    record = shared.insert(PLAIN)
    text = json.dumps(value)
    shared.journal.run(
        lambda db: db.execute(f"UPDATE spool SET {column} = ? WHERE id = ?", (text, record.id)).rowcount
    )
    (found,) = shared.all()
    assert found.cause in ("", DAMAGED)
    assert found.cause == "" or found.state is SpoolState.PARKED
    shared.delete(found)
