"""What a spool file promises about a power cut: order of fsyncs, and changes that come in between."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from s3mount.core.objects import ByteRange, MultipartUpload, ObjectHeaders, PartTag, WriteCondition
from s3mount.core.spool_record import SpoolRecord, SpoolState
from s3mount.data.journal import Journal
from s3mount.data.spool import SpoolDir, SpoolFile
from s3mount.errors import FsError, NoSpace
from tests.data.spools import HEADERS, data_files, only_record, play, spool_at, stat

MIB = 1 << 20
OTHER = ObjectHeaders(content_type="text/x-odd", metadata={"mode": "33261"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A spool directory that is not there yet."""
    return tmp_path / "spool"


class Fsyncs:
    """Tells which files are made safe, in order; holds one kind up, or lets it fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.failing = ""
        self.held = ""
        self.is_holding = threading.Event()
        self.may_go_on = threading.Event()
        self._real = os.fsync
        monkeypatch.setattr(os, "fsync", self._fsync)

    async def until_held(self) -> None:
        """Wait until one is held up, and every task waits: a thread may take its time to get there."""
        assert await trio.to_thread.run_sync(self.is_holding.wait, 60), "no fsync came"
        await wait_all_tasks_blocked()

    def _fsync(self, fd: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
        kind = "data" if name.endswith(".data") else "log" if name.endswith("-wal") else "directory"
        self.names.append(kind)
        if self.held == kind:
            self.is_holding.set()
            self.may_go_on.wait(60)
        self._real(fd)  # of a closed descriptor: an error
        if self.failing == kind:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def fsyncs(monkeypatch: pytest.MonkeyPatch) -> Fsyncs:
    """Every fsync of this process from now on."""
    return Fsyncs(monkeypatch)


async def old(span: ByteRange) -> bytes:
    """Give bytes of the object underneath."""
    await trio.lowlevel.checkpoint()
    return b"o" * span.size


async def upload_begun(file: SpoolFile, headers: ObjectHeaders = HEADERS) -> None:
    """Let an upload in parts have sent its first part."""
    await file.begin_upload("k", headers, WriteCondition())
    await file.ledger.asked(1)
    file.ledger.begun(MultipartUpload("k", "id"), 5 * MIB)
    file.ledger.sent(PartTag(1, '"a"', 5 * MIB))


def test_data_goes_before_its_name_and_both_before_the_row(path: Path, fsyncs: Fsyncs) -> None:
    """A row that is safe must never speak of bytes that are not; the name costs an fsync only once."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"x")
        fsyncs.names.clear()
        await file.make_durable(SpoolState.QUEUED, headers=HEADERS)
        assert fsyncs.names == ["data", "directory", "log"]
        assert only_record(path).is_synced
        await file.park("wait")
        await file.write(1, b"y")
        fsyncs.names.clear()
        await file.make_durable(SpoolState.QUEUED)
        assert fsyncs.names == ["data", "log"]

    play(path, main)


def test_a_small_file_that_is_sent_at_once_costs_no_fsync(path: Path, fsyncs: Fsyncs) -> None:
    """The bucket is what makes it safe."""

    async def main(spool: SpoolDir) -> None:
        fsyncs.names.clear()
        file = await spool.create("k")
        await file.write(0, b"x")
        await file.begin_upload("k", HEADERS, WriteCondition())
        file.sent()
        await file.write(0, b"y")
        await file.begin_upload("k", HEADERS, WriteCondition())
        file.sent()
        await file.discard()
        assert fsyncs.names == []

    play(path, main)


def test_what_was_safe_is_called_unsafe_for_good_before_it_changes(path: Path, fsyncs: Fsyncs) -> None:
    """The row is on the disk before the first byte; further writes cost nothing."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"safe")
        await file.park("cannot be sent")
        fsyncs.names.clear()
        fsyncs.held = "log"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.write, 0, b"next")
            await fsyncs.until_held()
            assert content(file) == b"safe"
            assert only_record(path).state is SpoolState.WRITING
            fsyncs.may_go_on.set()
        assert content(file) == b"next"
        await file.write(0, b"more")
        assert fsyncs.names == ["log"]

    play(path, main)


@pytest.mark.parametrize("ending", ["cancelled", "failed"])
def test_a_change_waits_for_its_mark_even_if_an_earlier_one_gave_up(
    path: Path, fsyncs: Fsyncs, ending: str
) -> None:
    """A write that ran into its deadline has told the row, but not for good: the next one must."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"safe")
        await file.park("cannot be sent")
        if ending == "cancelled":
            with trio.CancelScope() as scope:
                scope.cancel()
                await file.write(0, b"gave up")
            assert scope.cancelled_caught
        else:
            fsyncs.failing = "log"
            with pytest.raises(FsError):
                await file.write(0, b"gave up")
        assert content(file) == b"safe"
        fsyncs.names.clear()
        if ending == "cancelled":
            await file.write(0, b"next")
            assert fsyncs.names == ["log"]
        else:
            with pytest.raises(FsError):  # the journal cannot make anything safe any more
                await file.write(0, b"next")
            assert content(file) == b"safe"

    play(path, main)


def test_a_file_that_was_sent_is_not_missed_after_a_power_cut(path: Path, fsyncs: Fsyncs) -> None:
    """Its row says for good that nobody needs it, before the file is taken away."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"safe")
        await file.make_durable(SpoolState.QUEUED, headers=HEADERS)
        await file.begin_upload("k", HEADERS, WriteCondition())
        file.sent()
        fsyncs.names.clear()
        fsyncs.held = "log"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.discard)
            await fsyncs.until_held()
            assert (fsyncs.names, len(data_files(path))) == (["log"], 1)
            fsyncs.may_go_on.set()
        assert data_files(path) == []

    play(path, main)


def test_a_file_without_a_name_is_forgotten_for_good_before_it_changes(path: Path, fsyncs: Fsyncs) -> None:
    """It was queued, then deleted; a power cut must not send what was written afterwards."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"safe")
        await file.make_durable(SpoolState.QUEUED, headers=HEADERS)
        file.forget()
        fsyncs.names.clear()
        await file.write(0, b"next")
        assert fsyncs.names == ["log"]
        assert spool.records() == []
        await file.write(0, b"more")
        assert fsyncs.names == ["log"]
        await file.discard()

    play(path, main)


def test_a_write_that_is_under_way_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large write in a thread, begun before: its bytes are in what is made safe, or nothing is promised."""
    may_go_on = threading.Event()
    real = os.pwrite

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if threading.current_thread() is not threading.main_thread():
            may_go_on.wait(60)
        return real(fd, data, offset)

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"small")
        monkeypatch.setattr(os, "pwrite", pwrite)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.write, 5, bytes(MIB))
            await wait_all_tasks_blocked()
            nursery.start_soon(file.queue)
            await wait_all_tasks_blocked()
            assert file.state is SpoolState.WRITING
            may_go_on.set()
        record = only_record(path)
        assert (record.state, record.size, record.present) == (
            SpoolState.QUEUED,
            5 + MIB,
            (ByteRange(0, 5 + MIB),),
        )

    play(path, main)


def test_a_write_during_the_fsync_is_in_it_or_marks_the_file_again(path: Path, fsyncs: Fsyncs) -> None:
    """Both orders end with a row that is true of the bytes."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"first")
        fsyncs.held = "data"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.queue)
            await fsyncs.until_held()
            await file.write(5, b" second")
            fsyncs.may_go_on.set()
        record = only_record(path)
        assert (record.state, record.size, record.is_synced) == (SpoolState.QUEUED, 12, True)
        assert fsyncs.names.count("data") == 2

    play(path, main)


def test_two_who_make_a_file_safe_do_not_mix(path: Path, fsyncs: Fsyncs) -> None:
    """One after the other: the row is that of the second."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"x")
        fsyncs.held = "data"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.queue)
            await fsyncs.until_held()
            nursery.start_soon(file.conflict, "changed elsewhere")
            await wait_all_tasks_blocked()
            fsyncs.may_go_on.set()
        assert (only_record(path).state, only_record(path).attempts) == (SpoolState.CONFLICT, 1)

    play(path, main)


def test_a_file_is_not_closed_under_an_fsync(path: Path, fsyncs: Fsyncs) -> None:
    """The descriptor would be another file's by then; who discards waits."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"x")
        fsyncs.held = "data"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.queue)
            await fsyncs.until_held()
            nursery.start_soon(file.discard)
            await wait_all_tasks_blocked()
            assert len(data_files(path)) == 1
            fsyncs.may_go_on.set()
        assert data_files(path) == []
        assert spool.records() == []
        assert spool.used_bytes == 0

    play(path, main)


@pytest.mark.parametrize("kind", ["data", "directory"])
def test_a_disk_that_fails_to_make_bytes_safe_poisons_them_for_good(
    path: Path, fsyncs: Fsyncs, kind: str
) -> None:
    """For this mount and for the next: the row is parked, and a second fsync heals nothing."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"x")
        await file.begin_upload("k", HEADERS, WriteCondition())
        fsyncs.failing = kind
        with pytest.raises(FsError, match="the spool's disk failed"):
            await file.queue()
        fsyncs.failing = ""
        assert file.poison is not None
        with pytest.raises(FsError):
            file.slice(ByteRange(0, 1))
        with pytest.raises(FsError):
            await file.queue()
        record = only_record(path)
        assert (record.state, record.is_synced) == (SpoolState.PARKED, False)
        assert "the spool's disk failed" in record.cause
        await file.park("cannot be read")
        assert only_record(path).cause == "cannot be read"

    play(path, main)


def test_a_file_on_a_failing_disk_is_parked_by_the_first_who_asks(path: Path, fsyncs: Fsyncs) -> None:
    """park() itself meets the failure: the row says what was to be said all the same."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"x")
        fsyncs.failing = "data"
        await file.park("the bucket is gone")
        record = only_record(path)
        assert (record.state, record.cause, record.is_synced) == (
            SpoolState.PARKED,
            "the bucket is gone",
            False,
        )

    play(path, main)


def test_bytes_that_are_fetched_for_the_upload_are_safe_before_the_row_has_them(
    path: Path, fsyncs: Fsyncs
) -> None:
    """The file was queued with bytes missing: a power cut must not leave a row that claims them."""
    seen: list[tuple[str, SpoolRecord]] = []

    async def fetch(span: ByteRange) -> bytes:
        seen.append(("fetch", only_record(path)))
        return await old(span)

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k", stat(2 * MIB))
        await file.write(MIB, b"new")
        await file.make_durable(SpoolState.QUEUED, headers=HEADERS)
        queued = only_record(path)
        assert queued.present == (ByteRange(MIB, MIB + 3),)
        fsyncs.names.clear()
        fsyncs.held = "data"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.fill, fetch)
            while not fsyncs.names:
                await wait_all_tasks_blocked()
            assert only_record(path) == queued
            fsyncs.may_go_on.set()
        assert fsyncs.names == ["data"]
        filled = only_record(path)
        assert (filled.present, filled.is_synced) == ((ByteRange(0, 2 * MIB),), True)
        await file.begin_upload("k", HEADERS, WriteCondition())
        assert (only_record(path).state, only_record(path).is_synced) == (SpoolState.UPLOADING, True)

    play(path, main)


def test_a_try_to_send_what_was_promised_is_known_for_good_before_the_request(
    path: Path, fsyncs: Fsyncs
) -> None:
    """A power cut left a row that knew of no try, nor of the bytes that were fetched for it: the next mount
    met its own object, and took it for another writer's."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k", stat(100))
        await file.write(10, b"new")
        await file.make_durable(SpoolState.QUEUED, headers=HEADERS)
        await file.fill(old)
        fsyncs.names.clear()
        fsyncs.held = "log"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.begin_upload, "k", HEADERS, WriteCondition(if_match='"etag"'))
            await fsyncs.until_held()
            record = only_record(path)  # the log has it, and is being made safe
            assert (record.state, record.is_complete) == (SpoolState.UPLOADING, True)
            fsyncs.may_go_on.set()
        assert fsyncs.names == ["log"]

    play(path, main)


def test_on_a_failing_disk_what_was_promised_is_sent_all_the_same(path: Path, fsyncs: Fsyncs) -> None:
    """The bucket saves it; that the next mount may not know whose object that is, is the lesser evil."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"safe")
        await file.make_durable(SpoolState.QUEUED, headers=HEADERS)
        fsyncs.failing = "log"
        await file.begin_upload("k", HEADERS, WriteCondition())
        assert file.slice(ByteRange(0, 4)).span.size == 4
        assert only_record(path).state is SpoolState.UPLOADING

    play(path, main)


def test_filling_a_file_that_was_never_safe_costs_no_fsync(path: Path, fsyncs: Fsyncs) -> None:
    """Its bytes go into the bucket next."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k", stat(100))
        await file.write(10, b"new")
        fsyncs.names.clear()
        await file.fill(old)
        assert fsyncs.names == []

    play(path, main)


@pytest.mark.parametrize("how", ["durable", "begin", "describe"])
def test_an_upload_with_other_headers_is_not_gone_on_with(path: Path, how: str) -> None:
    """chmod between two tries: what was begun has the old mode for good, so it is to be aborted."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, bytes(5 * MIB))
        await upload_begun(file)
        await file.make_durable(SpoolState.QUEUED, headers=HEADERS)
        assert file.ledger.upload is not None
        if how == "durable":
            await file.make_durable(SpoolState.QUEUED, headers=OTHER)
        elif how == "describe":
            file.describe(OTHER)
        else:
            await file.begin_upload("k", OTHER, WriteCondition())
        assert file.ledger.upload is None
        assert [row.upload_id for row in spool.rows.begun()] == ["id"]
        assert only_record(path).headers == OTHER

    play(path, main)


def test_parts_of_a_file_that_changes_are_forgotten(path: Path) -> None:
    """Their upload is not: each part is compared with the new bytes by whoever goes on."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, bytes(5 * MIB))
        await upload_begun(file)
        await file.write(0, b"x")
        await file.make_durable(SpoolState.QUEUED)
        upload = only_record(path).upload
        assert upload is not None
        assert upload.upload == MultipartUpload("k", "id")
        assert upload.parts == ()

    play(path, main)


class Full:
    """Lets the journal have no room from some moment on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        real = Journal.run

        def run(journal: Journal, work: Callable[..., object]) -> object:
            if self.is_full:
                raise NoSpace("the disk is full")
            return real(journal, work)

        monkeypatch.setattr(Journal, "run", run)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Full:
    """A disk that can be filled to the last block."""
    return Full(monkeypatch)


def test_on_a_full_disk_an_upload_goes_on(path: Path, full: Full) -> None:
    """It frees the room: what the row is to say is said as soon as it can be."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, bytes(5 * MIB))
        full.is_full = True
        await upload_begun(file)
        await file.ledger.secure()
        file.ledger.given_up()
        file.sent()
        full.is_full = False
        assert only_record(path).state is SpoolState.WRITING
        file.sent()
        assert spool.records() == []
        await file.discard()
        assert [row.upload_id for row in spool.rows.begun()] == ["id"]
        assert spool.rows.all() == []

    play(path, main)


def test_what_was_noted_late_is_said_with_the_next_change(path: Path, full: Full) -> None:
    """Parts that were sent while the disk was full are not sent again after a crash."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, bytes(5 * MIB))
        full.is_full = True
        await upload_begun(file)
        full.is_full = False
        await file.queue()
        record = only_record(path)
        assert (record.state, record.headers) == (SpoolState.QUEUED, HEADERS)
        assert record.upload is not None
        assert [part.number for part in record.upload.parts] == [1]

    play(path, main)


def test_a_change_that_the_journal_has_no_room_for_is_refused(path: Path, full: Full) -> None:
    """The bytes stay as the row says; the file is poisoned until they are written after all."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"safe")
        await file.park("cannot be sent")
        full.is_full = True
        for change in (file.write(0, b"next"), file.truncate(1)):
            with pytest.raises(NoSpace):
                await change
        assert content(file) == b"safe"
        assert isinstance(file.poison, NoSpace)
        full.is_full = False
        await file.write(0, b"next")
        assert file.poison is None
        assert content(file) == b"next"

    play(path, main)


def test_discarding_on_a_full_disk_takes_the_file_away(path: Path, full: Full) -> None:
    """That is what makes room; the row without a file is dropped by the next mount."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"x")
        full.is_full = True
        await file.discard()
        assert data_files(path) == []
        assert spool.used_bytes == 0
        full.is_full = False

    play(path, main)
    with spool_at(path) as spool:
        assert spool.records() == []


def test_a_file_that_cannot_be_deleted_stays_with_its_row(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk has become read-only: an error of ours, and the room stays taken."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"x")

        def unlink(path: str) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        with monkeypatch.context() as patched:
            patched.setattr(os, "unlink", unlink)
            with pytest.raises(FsError, match="the spool's disk failed"):
                await file.discard()
        assert only_record(path).key == "k"
        assert spool.used_bytes == 4096
        spool.delete(file.record)
        assert spool.used_bytes == 0

    play(path, main)


@pytest.mark.parametrize("seed", range(10))
def test_at_every_moment_the_safe_row_is_true_of_the_bytes(path: Path, fsyncs: Fsyncs, seed: int) -> None:
    """Writers, truncates, and those who make the file safe, in any order.

    Whenever bytes are about to change, no row that was made safe last must call their file whole.
    """
    chance = random.Random(seed)
    safe: list[list[SpoolRecord]] = []

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        real_sync, real_change = Journal.sync, file._put

        async def sync(journal: Journal) -> None:
            rows = spool.rows.all()
            await real_sync(journal)
            safe.append(rows)

        async def put(span: ByteRange, data: memoryview) -> None:
            name = os.path.basename(file.path)
            states = [row.state for row in safe[-1] if row.file_name == name] if safe else []
            assert not set(states) & {SpoolState.QUEUED, SpoolState.UPLOADING}
            await real_change(span, data)

        async def change() -> None:
            for _ in range(15):
                await jump(chance.randrange(12))
                with trio.move_on_after(chance.choice([0, 10])):
                    await file.write(chance.randrange(100), bytes(chance.choice([1, 300_000])))

        async def secure() -> None:
            for _ in range(8):
                await jump(chance.randrange(20))
                with trio.move_on_after(chance.choice([0, 10])):
                    await file.make_durable(SpoolState.QUEUED, headers=HEADERS)

        file._put = put  # type: ignore[method-assign]
        spool.journal.sync = sync.__get__(spool.journal)  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            for task in (change, change, secure, secure):
                nursery.start_soon(task)
        await file.make_durable(SpoolState.QUEUED, headers=HEADERS)
        record = only_record(path)
        assert record.size == file.size == os.stat(file.path).st_size
        assert record.present == tuple(file.present)

    play(path, main)


async def jump(count: int) -> None:
    """Let others go first, so many times."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()


def content(file: SpoolFile) -> bytes:
    """Return what is on the disk."""
    return Path(file.path).read_bytes()
