"""What a mount finds that an earlier one left, kind by kind, and what it makes of it."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from s3mount.core.objects import ByteRange, WriteCondition
from s3mount.core.spool_record import (
    DAMAGED,
    EDGES,
    INTERRUPTED,
    NO_HEADERS,
    NO_KEY,
    RESTARTED,
    UNKNOWN_KEY,
    Action,
    Decision,
    SpoolState,
)
from s3mount.data.journal import JOURNAL_NAME
from s3mount.data.spool import SpoolDir
from s3mount.errors import FsError, StartupError
from tests.data.spools import HEADERS, data_files, die_with, nothing, only_record, play, power_cut, spool_at

BLOCK = 4096
QUEUE = """
file = await spool.create("k", condition=WriteCondition(if_none_match=True))
await file.write(0, b"queued")
await file.begin_upload("k", HEADERS, WriteCondition(if_none_match=True))
await file.queue("the store was away", is_failure=True)
"""
CHANGE = 'await file.write(0, b"Q")'
SEND = """
file = await spool.create("k")
await file.write(0, b"sending")
await file.begin_upload("k", HEADERS, WriteCondition())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A spool directory that is not there yet."""
    return tmp_path / "spool"


def test_a_file_that_nobody_needs_goes(path: Path) -> None:
    """Sent, and still open when the process died."""
    die_with(path, SEND + "file.sent()")
    with spool_at(path) as spool:
        assert spool.leftovers() == []
        assert spool.records() == []
        assert spool.used_bytes == 0
    assert data_files(path) == []


def test_a_file_that_was_being_written_is_parked_with_what_is_on_the_disk(path: Path) -> None:
    """Its row knew of nothing yet; all bytes are present, for there is no object underneath."""
    die_with(path, 'file = await spool.create("k")\nawait file.write(2 * 4096, b"half a sentence")')
    with spool_at(path) as spool:
        (left,) = spool.leftovers()
        assert left.decision == Decision(Action.LEAVE, INTERRUPTED)
        record = left.record
        assert (record.key, record.state, record.cause) == ("k", SpoolState.PARKED, INTERRUPTED)
        assert (record.size, record.base_limit) == (2 * BLOCK + 15, 0)
        assert record.present == (ByteRange(0, 2 * BLOCK + 15),)
        assert spool.used_bytes > 0
    assert only_record(path) == record


def test_what_was_written_over_an_object_is_told_from_what_was_not(path: Path) -> None:
    """Blocks with data are present, the others are still the object's; the cause says what is uncertain."""
    die_with(
        path,
        f"""
file = await spool.create("k", stat({100 * BLOCK}))
await file.write({7 * BLOCK}, b"x" * {BLOCK})
await file.write({20 * BLOCK} + 5, b"y")
await file.truncate({50 * BLOCK})
""",
    )
    with spool_at(path) as spool:
        (left,) = spool.leftovers()
        assert left.record.cause == f"{INTERRUPTED}; {EDGES}"
        assert (left.record.size, left.record.base_limit) == (50 * BLOCK, 50 * BLOCK)
        assert left.record.present == (
            ByteRange(7 * BLOCK, 8 * BLOCK),
            ByteRange(20 * BLOCK, 21 * BLOCK),
        )


@pytest.mark.parametrize("is_power_cut", [True, False])
@pytest.mark.parametrize("body", [QUEUE, SEND])
def test_a_row_that_a_power_cut_has_brought_back_without_its_file_is_no_loss(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    body: str,
    is_power_cut: bool,
) -> None:
    """It was not safe, so its file may have been sent or unlinked since; users took the warning for a loss.

    One that was safe, or is of this very run of the machine, misses a file that somebody took away.
    """
    die_with(path, body)
    for name in data_files(path):
        os.unlink(path / name)
    if is_power_cut:
        power_cut(monkeypatch, tmp_path)
    with spool_at(path) as spool:
        assert spool.records() == []
    assert ("is gone" in caplog.text) is not (is_power_cut and body == SEND)


@pytest.mark.parametrize("body", [QUEUE, SEND])
def test_a_file_that_is_whole_is_to_be_sent(path: Path, body: str) -> None:
    """Only the process died: data in the page cache is as it was. It can be gone on with."""
    die_with(path, body)

    async def main(spool: SpoolDir) -> None:
        (left,) = spool.leftovers()
        assert left.decision == Decision(Action.SEND)
        assert left.record.headers == HEADERS
        file = await spool.reopen(left.record)
        data = await file.read(ByteRange(0, 99), nothing)
        assert data == (b"queued" if body == QUEUE else b"sending")
        assert file.slice(ByteRange(0, 3)).span == ByteRange(0, 3)
        used = spool.used_bytes
        await file.close()
        assert spool.used_bytes == used
        file = await spool.reopen(left.record)
        await file.discard()
        assert spool.used_bytes == 0

    play(path, main)
    assert data_files(path) == []


def test_after_a_power_cut_only_what_was_safe_is_sent(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was queued was on the disk; what was only being sent may be anything."""
    die_with(path, QUEUE + SEND)
    power_cut(monkeypatch, tmp_path)
    with spool_at(path) as spool:
        assert [left.decision for left in spool.leftovers()] == [
            Decision(Action.SEND),
            Decision(Action.COMPARE, RESTARTED),
        ]
        assert len(data_files(path)) == 2


def test_what_was_changed_after_it_was_safe_is_not_safe(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row says so before the bytes change, for good."""
    die_with(path, QUEUE.replace("file.queue", "file.park").replace(", is_failure=True", "") + CHANGE)
    power_cut(monkeypatch, tmp_path)
    with spool_at(path) as spool:
        (left,) = spool.leftovers()
        assert left.record.state is SpoolState.PARKED
        assert left.record.cause == f"{INTERRUPTED}; {RESTARTED}"


@pytest.mark.parametrize(("state", "cause"), [("conflict", "changed elsewhere"), ("park", "no such bucket")])
def test_what_waits_for_the_user_waits_on(path: Path, state: str, cause: str) -> None:
    """Through any number of mounts, with its cause."""
    die_with(path, SEND + f'await file.{state}("{cause}")')
    for _ in range(2):
        with spool_at(path) as spool:
            (left,) = spool.leftovers()
            assert left.decision == Decision(Action.LEAVE, cause)
            assert left.record.attempts == 1
            assert left.record.is_synced
    assert len(data_files(path)) == 1


def test_a_file_without_headers_is_parked(path: Path) -> None:
    """Sending it would lose mode and type."""
    die_with(path, 'file = await spool.create("k")\nawait file.write(0, b"x")\nawait file.queue()')
    with spool_at(path) as spool:
        (left,) = spool.leftovers()
        assert (left.record.state, left.record.cause) == (SpoolState.PARKED, NO_HEADERS)


def test_a_file_without_a_row_is_kept(path: Path) -> None:
    """Somebody's bytes, of which nobody knows what they were to become."""
    path.mkdir(mode=0o700)
    (path / "000001-abc.data").write_bytes(b"whose?")
    for _ in range(2):
        with spool_at(path) as spool:
            (left,) = spool.leftovers()
            record = left.record
            assert (record.key, record.state, record.cause) == (UNKNOWN_KEY, SpoolState.PARKED, NO_KEY)
            assert (record.size, record.present) == (6, (ByteRange(0, 6),))
    assert (path / "000001-abc.data").read_bytes() == b"whose?"


def test_a_file_without_a_row_and_without_bytes_goes(path: Path) -> None:
    """A power cut came between its row and the first byte."""
    path.mkdir(mode=0o700)
    (path / "000001-abc.data").touch()
    with (path / "000002-abc.data").open("wb") as file:
        file.truncate(1 << 20)
    with spool_at(path) as spool:
        assert spool.leftovers() == []
    assert data_files(path) == []


def test_other_files_in_the_directory_are_nobody_elses_business(path: Path) -> None:
    """Only what ends in .data is a spool file."""
    path.mkdir(mode=0o700)
    (path / "notes.txt").write_text("mine")
    with spool_at(path) as spool:
        assert spool.leftovers() == []
    assert (path / "notes.txt").read_text() == "mine"


def test_a_row_without_its_file_is_told_and_dropped(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody has deleted bytes that the bucket does not have: the log says which."""
    die_with(path, QUEUE)
    os.unlink(path / data_files(path)[0])
    with caplog.at_level(logging.WARNING), spool_at(path) as spool:
        assert spool.leftovers() == []
        assert spool.records() == []
    assert "has a row of k (queued), and its file" in caplog.text


def test_a_row_of_a_file_that_was_never_written_goes_silently(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The process died between the row and the file."""
    die_with(path, 'file = await spool.create("k")\nos.unlink(file.path)')
    with caplog.at_level(logging.WARNING), spool_at(path) as spool:
        assert spool.leftovers() == []
    assert caplog.text == ""


@pytest.mark.parametrize("size", [3, 9])
def test_a_file_of_another_size_than_its_row_says_is_parked(path: Path, size: int) -> None:
    """Something has changed it, so nothing of it is sent."""
    die_with(path, QUEUE)
    os.truncate(path / data_files(path)[0], size)
    with spool_at(path) as spool:
        (left,) = spool.leftovers()
        assert left.record.state is SpoolState.PARKED
        assert left.record.cause == (
            f"the file in the spool has {size} bytes, and 6 are what the journal says"
        )
        assert left.record.key == "k"


def test_a_file_that_changed_after_it_was_found_is_not_taken_over(path: Path) -> None:
    """Between the look and the open, somebody cut it: it is parked then."""
    die_with(path, QUEUE)

    async def main(spool: SpoolDir) -> None:
        (left,) = spool.leftovers()
        os.truncate(path / left.record.file_name, 2)
        with pytest.raises(FsError, match="has 2 bytes"):
            await spool.reopen(left.record)
        (record,) = spool.records()
        assert record.state is SpoolState.PARKED

    play(path, main)


def test_a_file_that_is_open_is_not_opened_or_deleted_again(path: Path) -> None:
    """Two owners of one row would undo each other's work."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        with pytest.raises(FsError, match="open already"):
            await spool.reopen(file.record)
        with pytest.raises(FsError, match="is open"):
            spool.delete(file.record)
        await file.close()
        spool.delete(file.record)
        assert data_files(path) == []
        assert spool.used_bytes == 0

    play(path, main)


def test_a_file_that_was_closed_is_charged_until_it_is_deleted(path: Path) -> None:
    """What lost a conflict stays on the disk, and frees its room when the user discards it."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"x")
        await file.conflict("changed elsewhere")
        await file.close()
        assert spool.used_bytes == BLOCK
        spool.delete(file.record)
        assert spool.used_bytes == 0

    play(path, main)


def note(name: str, **fields: object) -> str:
    """Return a note as the version before the journal wrote it."""
    told = {
        "key": "old/key",
        "size": 6,
        "present": None,
        "base_limit": 0,
        "base_etag": None,
        "poison": None,
        "time_ns": 5,
        "name": name,
    }
    return json.dumps({**told, **fields})


def test_files_of_earlier_versions_are_taken_into_the_journal(path: Path) -> None:
    """With their key and what was underneath; the note goes, once the row is safe."""
    path.mkdir(mode=0o700)
    (path / "a.data").write_bytes(b"kept!!")
    (path / "a.data.json").write_text(note("a"))
    (path / "b.data").write_bytes(b"kept!!")
    (path / "b.data.json").write_text(
        note("b", present=[[0, 2], [4, 4]], base_limit=6, base_etag='"e"', poison="the disk failed")
    )
    with spool_at(path) as spool:
        first, second = (left.record for left in spool.leftovers())
    assert (first.key, first.state, first.size, first.present) == (
        "old/key",
        SpoolState.PARKED,
        6,
        (ByteRange(0, 6),),
    )
    assert first.cause == "an earlier version of s3mount could not upload it"
    assert second.base is not None
    assert (second.base.etag, second.base_limit, second.present) == ('"e"', 6, (ByteRange(0, 2),))
    assert second.cause.endswith(": the disk failed")
    assert sorted(os.listdir(path))[:2] == ["a.data", "b.data"]
    assert not (path / "a.data.json").exists()


def test_a_note_that_cannot_be_read_stays_for_the_user(path: Path) -> None:
    """The file is kept as one that nobody knows, and a human may read more in the note."""
    path.mkdir(mode=0o700)
    (path / "a.data").write_bytes(b"kept!!")
    (path / "a.data.json").write_text('{"key": "old/k')
    with spool_at(path) as spool:
        (left,) = spool.leftovers()
    assert left.record.cause == NO_KEY
    assert (path / "a.data.json").exists()


def test_after_damage_to_the_journal_every_file_is_kept(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is sent, for nobody knows what it was; the journal is kept as well, under another name."""
    die_with(path, QUEUE + SEND + 'file = await spool.create("z")\nawait file.truncate(5)')
    for name in (f"{JOURNAL_NAME}-wal", f"{JOURNAL_NAME}-shm"):
        (path / name).unlink()
    (path / JOURNAL_NAME).write_bytes(b"not a database at all" * 300)
    with caplog.at_level(logging.ERROR), spool_at(path) as spool:
        records = [left.record for left in spool.leftovers()]
    assert [(record.state, record.cause) for record in records] == [(SpoolState.PARKED, DAMAGED)] * 3
    assert sorted(record.size for record in records) == [5, 6, 7]
    assert len(data_files(path)) == 3
    assert (path / f"{JOURNAL_NAME}.damaged-1").read_bytes().startswith(b"not a database")
    assert "is damaged" in caplog.text


def test_a_damaged_row_does_not_harm_the_others(path: Path) -> None:
    """Its file is kept, with the size that it has; its neighbour is sent."""
    die_with(path, QUEUE + SEND)
    with closing(sqlite3.connect(path / JOURNAL_NAME)) as db:
        db.execute("UPDATE spool SET present = 'nonsense' WHERE id = 1")
        db.commit()
    with spool_at(path) as spool:
        damaged, sound = spool.leftovers()
    assert damaged.decision == Decision(Action.LEAVE, DAMAGED)
    assert (damaged.record.key, damaged.record.size, damaged.record.present) == ("k", 6, (ByteRange(0, 6),))
    assert sound.decision == Decision(Action.SEND)


def test_a_spool_of_a_later_version_is_refused(path: Path) -> None:
    """Its rows may mean something else by then."""
    with spool_at(path):
        pass
    with closing(sqlite3.connect(path / JOURNAL_NAME)) as db:
        db.execute("UPDATE schema_version SET version = 99 WHERE name = 'spool'")
        db.commit()
    with pytest.raises(StartupError, match="was used by a later version of s3mount"), spool_at(path):
        pass


def test_an_upload_that_was_begun_is_known_after_a_crash(path: Path) -> None:
    """With its parts, and what it was to make: the answer to Complete may have been lost with the process."""
    die_with(
        path,
        SEND
        + """
await file.ledger.asked(5)
file.ledger.begun(MultipartUpload("k", "id"), 5 << 20)
file.ledger.sent(PartTag(1, '"0123456789abcdef0123456789abcdef"', 7))
""",
    )

    async def main(spool: SpoolDir) -> None:
        (left,) = spool.leftovers()
        file = await spool.reopen(left.record)
        upload = file.ledger.upload
        assert upload is not None
        assert upload.upload is not None
        assert (upload.upload.upload_id, [part.number for part in upload.parts]) == ("id", [1])
        (sent,) = file.ledger.unanswered
        assert (sent.size, sent.etag[-3:]) == (7, '-1"')
        await file.discard()
        assert [row.upload_id for row in spool.rows.begun()] == ["id"]

    play(path, main)


def test_a_file_sent_in_one_request_is_known_by_its_bytes_after_a_crash(path: Path) -> None:
    """The answer to the PUT may have been lost with the process."""
    die_with(path, SEND)

    async def main(spool: SpoolDir) -> None:
        (left,) = spool.leftovers()
        file = await spool.reopen(left.record)
        (sent,) = file.ledger.unanswered
        assert (sent.size, len(sent.etag)) == (7, 34)

    play(path, main)


def test_names_in_a_new_directory_are_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each directory that is made is in its parent for good before anything in it is promised."""
    synced = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "a" / "b" / "spool"
    with spool_at(path):
        pass
    assert synced[:3] == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")]
    assert str(path) in synced


def test_what_is_written_after_an_upload_is_a_change_of_what_was_uploaded(path: Path) -> None:
    """Who pushes it after a crash meets no conflict with himself, and needs no byte of the first object."""
    die_with(
        path,
        f"""
file = await spool.create("k", stat({3 * BLOCK}), WriteCondition(if_match='"old"'))
await file.write(0, b"x" * {3 * BLOCK})
await file.begin_upload("k", HEADERS, WriteCondition(if_match='"old"'))
file.sent('"new"')
await file.write(5, b"y")
""",
    )
    with spool_at(path) as spool:
        (left,) = spool.leftovers()
        assert left.record.cause == INTERRUPTED
        assert left.record.condition == WriteCondition(if_match='"new"')
        assert (left.record.base, left.record.present) == (None, (ByteRange(0, 3 * BLOCK),))


def test_a_rename_of_unsent_bytes_survives_a_crash(path: Path) -> None:
    """The next mount sends them to the new name; what was begun for the old one is to be aborted."""
    die_with(
        path,
        QUEUE
        + """
await file.ledger.asked(5)
file.ledger.begun(MultipartUpload("k", "id"), 5 << 20)
file.rekey("new", WriteCondition(if_none_match=True))
""",
    )
    with spool_at(path) as spool:
        (left,) = spool.leftovers()
        assert (left.record.key, left.decision.action) == ("new", Action.SEND)
        assert left.record.condition == WriteCondition(if_none_match=True)
        assert [(row.key, row.upload_id) for row in spool.rows.begun()] == [("k", "id")]
