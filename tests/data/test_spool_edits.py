"""What was closed and is to be sent stays as it is while a program changes the file again."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from s3mount.core.objects import (
    ByteRange,
    MultipartUpload,
    ObjectHeaders,
    ObjectStat,
    PartTag,
    WriteCondition,
)
from s3mount.core.spool_record import (
    CLOSED_BEFORE,
    INTERRUPTED,
    SENDABLE,
    Action,
    Fingerprint,
    SpoolRecord,
    SpoolState,
)
from s3mount.data import spool_version
from s3mount.data.journal import Journal
from s3mount.data.journal_rows import read_records
from s3mount.data.spool import SpoolDir, SpoolFile
from s3mount.errors import FsError, NoSpace
from tests.data.spools import (
    HEADERS,
    data_files,
    die_with,
    nothing,
    only_record,
    play,
    power_cut,
    spool_at,
    stat,
)

BLOCK = 4096
MIB = 1 << 20
QUEUED, WRITING, PARKED = SpoolState.QUEUED, SpoolState.WRITING, SpoolState.PARKED
QUEUE = """
file = await spool.create("k", condition=WriteCondition(if_none_match=True))
await file.write(0, b"closed")
await file.make_durable(SpoolState.QUEUED, headers=HEADERS)
"""
CHANGES = {
    "append": ('await file.write(6, b" and more")', b"closed and more"),
    "edit": ('await file.write(1, b"XX")', b"cXXsed"),
    "truncate": ("await file.truncate(0)", b""),
    "rewrite": ('await file.truncate(0)\nawait file.write(0, b"new")', b"new"),
    "cut": ("await file.truncate(3)", b"clo"),
    "extend": ("await file.truncate(8)", b"closed\0\0"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A spool directory that is not there yet."""
    return tmp_path / "spool"


def rows(path: Path) -> list[SpoolRecord]:
    """Return the rows that another process would see."""
    return read_records(str(path))


def on_disk(path: Path, record: SpoolRecord) -> bytes:
    """Return the bytes of the record's data file."""
    return (path / record.file_name).read_bytes()


async def closed(spool: SpoolDir, data: bytes = b"closed", base: ObjectStat | None = None) -> SpoolFile:
    """Return a file that was closed with *data* at its beginning, and waits to be sent."""
    file = await spool.create("k", base)
    await file.write(0, data)
    await file.make_durable(QUEUED, headers=HEADERS)
    return file


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("ending", ["killed", "power cut"])
def test_what_was_closed_is_sent_after_a_crash_and_the_edit_is_parked(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, ending: str
) -> None:
    """Both are there, each as its program left it."""
    body, after = CHANGES[change]
    die_with(path, QUEUE + body)
    if ending == "power cut":
        power_cut(monkeypatch, tmp_path)
    with spool_at(path) as spool:
        before, edit = spool.leftovers()
        assert before.decision.action is Action.SEND
        assert (before.record.key, before.record.condition) == ("k", WriteCondition(if_none_match=True))
        assert on_disk(path, before.record) == b"closed"
        assert (edit.record.key, edit.record.state) == ("k", PARKED)
        assert edit.record.cause.startswith(INTERRUPTED)
        assert edit.record.cause.endswith(CLOSED_BEFORE)
        assert on_disk(path, edit.record) == after
        assert edit.record.present == ((ByteRange(0, len(after)),) if after else ())


@pytest.mark.parametrize("change", CHANGES)
def test_the_next_close_takes_the_place_of_the_one_before(path: Path, change: str) -> None:
    """At once: another process sees one row or the other to be sent. File, row and room of the old one go."""
    body, after = CHANGES[change]
    die_with(path, f"{QUEUE}{body}\nawait file.make_durable(SpoolState.QUEUED, headers=HEADERS)")
    record = only_record(path)
    assert (record.state, record.condition, record.is_synced) == (
        QUEUED,
        WriteCondition(if_none_match=True),
        True,
    )
    assert data_files(path) == [record.file_name]
    assert on_disk(path, record) == after
    with spool_at(path) as spool:
        assert spool.used_bytes == (BLOCK if after else 0)


def test_a_process_that_dies_while_it_copies_leaves_only_what_was_closed(path: Path) -> None:
    """A half copy is nobody's, and not shown."""
    die_with(
        path,
        QUEUE
        + """
from s3mount.data import spool_version
def dying(source, target, span):
    os.pwrite(target, b"clo", 0)
    os.kill(os.getpid(), signal.SIGKILL)
spool_version.copy_range = dying
await file.write(0, b"never")
""",
    )
    assert len(data_files(path)) == 2
    assert [record.state for record in rows(path)] == [QUEUED]
    with spool_at(path) as spool:
        (left,) = spool.leftovers()
        assert left.decision.action is Action.SEND
    assert data_files(path) == [left.record.file_name]


def test_two_copies_count_until_one_goes(path: Path) -> None:
    """The cap is of what is on the disk."""

    async def main(spool: SpoolDir) -> None:
        file = await closed(spool, bytes(3 * BLOCK))
        assert spool.used_bytes == 3 * BLOCK
        await file.write(0, b"x")
        assert (spool.used_bytes, file.is_edited) == (6 * BLOCK, True)
        await file.make_durable(QUEUED, headers=HEADERS)
        assert (spool.used_bytes, file.is_edited) == (3 * BLOCK, False)
        await file.truncate(0)
        await file.write(0, b"x")
        assert spool.used_bytes == 4 * BLOCK
        await file.discard()
        assert (spool.used_bytes, data_files(path), rows(path)) == (0, [], [])

    play(path, main)


def test_an_edit_without_room_for_a_copy_is_refused_and_what_was_closed_is_sent(path: Path) -> None:
    """Its close says so, too, until the bytes are written after all; what was closed is not spoiled by it."""

    async def main(spool: SpoolDir) -> None:
        file = await closed(spool, bytes(3 * BLOCK))
        other = await spool.create("other")
        await other.write(0, bytes(BLOCK))
        with pytest.raises(NoSpace):
            await file.write(3 * BLOCK, b"x")
        with pytest.raises(NoSpace):
            await file.truncate(3 * BLOCK - 1)
        assert (file.poison, file.size, file.state, file.is_edited) == (None, 3 * BLOCK, QUEUED, False)
        assert isinstance(file.refusal, NoSpace)
        assert file.slice(ByteRange(0, 3 * BLOCK)).span.size == 3 * BLOCK
        assert len(data_files(path)) == 2
        assert spool.used_bytes == 4 * BLOCK
        await other.discard()
        await file.write(0, b"x")
        assert isinstance(file.poison, NoSpace), "the refused bytes would be a hole"
        with pytest.raises(NoSpace):
            await file.make_durable(QUEUED, headers=HEADERS)
        await file.truncate(3 * BLOCK)
        await file.make_durable(QUEUED, headers=HEADERS)
        assert file.refusal is None

    with spool_at(path, cap_bytes=6 * BLOCK) as spool:
        trio.run(main, spool)


def test_a_change_that_never_began_is_forgotten_with_its_program(path: Path) -> None:
    """The next program to open the file has nothing to do with it."""

    async def main(spool: SpoolDir) -> None:
        file = await closed(spool, bytes(2 * BLOCK))
        with pytest.raises(NoSpace):
            await file.write(6, b"x")
        file.forgive()
        assert file.refusal is None
        await file.truncate(0)
        await file.write(0, b"x")
        with pytest.raises(NoSpace):
            await file.write(BLOCK, b"x")
        file.forgive()
        assert file.poison is not None, "that one has a hole"

    with spool_at(path, cap_bytes=3 * BLOCK) as spool:
        trio.run(main, spool)


def test_a_copy_that_fails_or_is_given_up_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither file nor row nor charge."""

    async def main(spool: SpoolDir) -> None:
        file = await closed(spool, bytes(MIB))
        scope = trio.CancelScope()

        def failing(source: int, target: int, span: ByteRange) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patched:
            patched.setattr(spool_version, "copy_range", failing)
            with pytest.raises(FsError, match="the spool's disk failed"):
                await file.write(0, b"x")
        assert file.poison is None
        assert file.refusal is not None
        file.forgive()
        scope.cancel()
        with scope:
            await file.write(0, b"x")
        assert scope.cancelled_caught
        assert (len(spool.rows.all()), len(data_files(path)), spool.used_bytes) == (1, 1, MIB)
        await file.make_durable(QUEUED, headers=HEADERS)

    play(path, main)


@pytest.mark.parametrize("headers", [HEADERS, ObjectHeaders(content_type="other")])
def test_an_upload_in_parts_is_gone_on_with_after_the_edit(path: Path, headers: ObjectHeaders) -> None:
    """Until the next close it is that of what was closed; with other headers it is given up."""

    async def main(spool: SpoolDir) -> None:
        file = await closed(spool, bytes(5 * MIB))
        await file.begin_upload("k", HEADERS, WriteCondition())
        await file.ledger.asked(1)
        file.ledger.begun(MultipartUpload("k", "id"), 5 * MIB)
        file.ledger.sent(PartTag(1, '"a"', 5 * MIB))
        file.ledger.lost(Fingerprint(5 * MIB, '"try"'))
        await file.queue("given up")
        await file.write(0, b"x")
        assert file.ledger.upload is None
        assert file.ledger.unanswered == (Fingerprint(5 * MIB, '"try"'),)
        before, edit = rows(path)
        assert before.upload is not None
        assert len(before.upload.parts) == 1
        assert edit.upload is None
        await file.make_durable(QUEUED, headers=headers)
        upload = only_record(path).upload
        if headers == HEADERS:
            assert upload is not None
            assert (upload.upload, upload.parts) == (MultipartUpload("k", "id"), ())
            assert file.ledger.upload == upload
            assert spool.rows.begun() == []
        else:
            assert upload is None
            assert [begun.upload_id for begun in spool.rows.begun()] == ["id"]

    play(path, main)


def test_a_rename_takes_both_along(path: Path) -> None:
    """In one commit, with the object underneath."""

    async def main(spool: SpoolDir) -> None:
        file = await closed(spool, base=stat(3 * BLOCK))
        await file.write(BLOCK, b"x")
        base = stat(3 * BLOCK, "other", '"copy"')
        file.rekey("other", WriteCondition(if_match='"copy"'), base=base)
        assert [(row.key, row.condition, row.base) for row in rows(path)] == [
            ("other", WriteCondition(if_match='"copy"'), base)
        ] * 2
        await file.make_durable(QUEUED)
        assert only_record(path).key == "other"

    play(path, main)


def test_an_interrupted_edit_is_over_what_was_closed_before_as_soon_as_the_bucket_has_that(
    path: Path,
) -> None:
    """The object that both were over is gone then; what the edit misses is the same in the new one."""
    die_with(
        path,
        f"""
file = await spool.create("k", stat({3 * BLOCK}))
await file.write(0, b"x" * {BLOCK})
await file.make_durable(SpoolState.QUEUED, headers=HEADERS)
await file.write({BLOCK}, b"y" * {BLOCK})
""",
    )

    async def old(span: ByteRange) -> bytes:
        return b"o" * span.size

    async def main(spool: SpoolDir) -> None:
        before, edit = (left.record for left in spool.leftovers())
        assert edit.present == (ByteRange(0, 2 * BLOCK),)
        file = await spool.reopen(before)
        file.rekey("moved", WriteCondition(if_match='"copy"'), base=stat(3 * BLOCK, "moved", '"copy"'))
        found = spool.rows.find(edit.id)
        assert found is not None
        assert found.base == stat(3 * BLOCK, "moved", '"copy"')
        await file.fill(old)
        await file.begin_upload("moved", HEADERS, WriteCondition(if_match='"copy"'))
        file.sent('"new"')
        await file.discard()
        found = only_record(path)
        assert found == replace(
            edit,
            key="moved",
            base=stat(3 * BLOCK, "moved", '"new"'),
            condition=WriteCondition(if_match='"new"'),
        )

    play(path, main)


def test_unlinking_takes_both_away(path: Path) -> None:
    """Readers keep the bytes, and what was closed is not sent by the next mount."""

    async def main(spool: SpoolDir) -> None:
        file = await closed(spool)
        await file.write(0, b"X")
        file.forget()
        assert rows(path) == []
        await file.drop_older()
        assert len(data_files(path)) == 1
        assert await file.read(ByteRange(0, 9), nothing) == b"Xlosed"
        await file.discard()

    play(path, main)
    assert data_files(path) == []


def test_a_reader_that_waits_for_the_object_gets_over_an_edit_and_its_close(path: Path) -> None:
    """It gets the bytes as they are by then."""
    may_go_on = trio.Event()

    async def slow(span: ByteRange) -> bytes:
        await may_go_on.wait()
        return b"o" * span.size

    async def main(spool: SpoolDir) -> None:
        file = await closed(spool, base=stat(10))
        read = []

        async def reader() -> None:
            read.append(await file.read(ByteRange(0, 10), slow))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader)
            await wait_all_tasks_blocked()
            await file.write(0, b"CLO")
            await file.make_durable(QUEUED)
            may_go_on.set()
        assert read == [b"CLOsedoooo"]
        assert file.is_complete

    play(path, main)


def test_a_close_that_was_given_up_half_way_is_finished_by_the_next_change(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are never three versions: before a copy is made, the last commit is made safe."""

    async def main(spool: SpoolDir) -> None:
        file = await closed(spool)
        await file.write(0, b"2")
        with monkeypatch.context() as patched:

            async def unsafe(journal: Journal) -> None:
                raise FsError("not now")

            patched.setattr(Journal, "sync", unsafe)
            with pytest.raises(FsError):
                await file.make_durable(QUEUED)
        assert (file.state, file.is_edited, len(data_files(path))) == (QUEUED, True, 2)
        await file.write(0, b"3")
        assert len(data_files(path)) == 2
        assert [on_disk(path, row) for row in rows(path)] == [b"2losed", b"3losed"]

    play(path, main)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EXDEV, errno.EOPNOTSUPP])
def test_a_file_system_that_cannot_copy_by_itself_gets_the_bytes_through_us(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Holes stay holes."""
    data = random.Random(1).randbytes(3 * MIB + 5)

    def unable(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, data)
        await file.write(40 * MIB, b"end")
        await file.make_durable(QUEUED)
        monkeypatch.setattr(os, "copy_file_range", unable)
        await file.write(0, b"")
        await file.write(1, b"x")
        assert file.is_edited
        copy = on_disk(path, file.record)
        assert copy[: len(data)] == data[:1] + b"x" + data[2:]
        assert copy[40 * MIB :] == b"end"
        assert os.stat(file.path).st_blocks * 512 < 5 * MIB

    play(path, main)


class Promises:
    """After each commit: what was closed last is to be sent, and its bytes are in its file.

    ``closing`` is what a close that has begun may have put in its place already.
    """

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.closed: bytes | None = None
        self.closing: bytes | None = None
        self.checks = 0
        real = Journal.run

        def run(journal: Journal, work: Callable[..., object]) -> object:
            result = real(journal, work)
            self.check()
            return result

        monkeypatch.setattr(Journal, "run", run)

    def check(self) -> None:
        """Look as another process would."""
        if self.closed is None:
            return
        self.checks += 1
        (found,) = (on_disk(self.path, row) for row in rows(self.path) if row.state in SENDABLE)
        assert found in (self.closed, self.closing)


@pytest.mark.parametrize("seed", range(8))
def test_after_every_commit_exactly_what_was_closed_last_is_to_be_sent(
    path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Whatever a program does to the file, and wherever it is when the process dies."""
    chance = random.Random(seed)
    print(f"seed {seed}")

    async def main(spool: SpoolDir) -> None:
        promises = Promises(path, monkeypatch)
        file = await spool.create("k")
        model = bytearray()
        for _ in range(120):
            what = chance.choice(["write", "write", "append", "truncate", "close", "close", "read"])
            if what == "write":
                offset, data = chance.randrange(20_000), chance.randbytes(chance.choice([1, 5000]))
                await file.write(offset, data)
                model.extend(bytes(max(0, offset - len(model))))
                model[offset : offset + len(data)] = data
            elif what == "append":
                await file.write(len(model), b"more")
                model += b"more"
            elif what == "truncate":
                size = chance.choice([0, chance.randrange(30_000)])
                await file.truncate(size)
                model[:] = model[:size] + bytes(max(0, size - len(model)))
            elif what == "close":
                promises.closing = bytes(model)
                await file.make_durable(QUEUED, headers=HEADERS)
                promises.closed, promises.closing = promises.closing, None
                promises.check()
            assert await file.read(ByteRange(0, 1 << 20), nothing) == model
        assert promises.checks > 20

    play(path, main)
