"""The journal: what a commit promises, and what becomes of it on a full, failing or damaged disk."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from s3mount.data import journal as journal_module
from s3mount.data.journal import (
    JOURNAL_NAME,
    RESERVE_BYTES,
    RESERVE_NAME,
    Journal,
    JournalDamaged,
    JournalTooNew,
    Schema,
    free_reserve,
    open_to_read,
)
from s3mount.errors import FsError, NoSpace
from tests.support.small_disk import fill, needs_root, small_disk

COUNTER = Schema("counter", ("CREATE TABLE counter (value INTEGER, text TEXT)",))
ROOT = Path(__file__).parents[2]


def add(value: int, text: str = "") -> Callable[[sqlite3.Connection], None]:
    """Return work that adds a row."""
    return lambda db: void(db.execute("INSERT INTO counter VALUES (?, ?)", (value, text)))


def set_to(value: int) -> Callable[[sqlite3.Connection], None]:
    """Return work that changes every row."""
    return lambda db: void(db.execute("UPDATE counter SET value = ?", (value,)))


def void(_: object) -> None:
    """Return nothing, for work that returns nothing."""


def content(path: str) -> bytes:
    """Return what is in a file."""
    return Path(path).read_bytes()


def values(journal: Journal) -> list[int]:
    """Return the values of all rows."""
    return journal.run(lambda db: [row[0] for row in db.execute("SELECT value FROM counter ORDER BY rowid")])


def opened(directory: Path) -> Journal:
    """Open a journal with the table of these tests."""
    journal = Journal(str(directory))
    journal.ensure(COUNTER)
    return journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An open journal."""
    journal = opened(tmp_path)
    yield journal
    journal.close()


class Fsyncs:
    """Counts what a journal's syncs ask of the disk, holds them up, lets them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.failures = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self._real = os.fsync
        monkeypatch.setattr(os, "fsync", self._fsync)

    def _fsync(self, fd: int) -> None:
        self.count += 1
        self.may_go_on.wait(60)
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._real(fd)


@pytest.fixture
def fsyncs(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Fsyncs:
    """The fsyncs of the open journal, from now on."""
    return Fsyncs(monkeypatch)


def test_a_transaction_that_fails_changes_nothing(journal: Journal) -> None:
    """What it did before is undone, and its error reaches the caller."""

    def work(db: sqlite3.Connection) -> None:
        add(1)(db)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        journal.run(work)
    journal.run(add(2))
    assert values(journal) == [2]


def test_a_commit_is_not_held_up_by_the_disk(journal: Journal, fsyncs: Fsyncs) -> None:
    """Only who asks for safety waits for it."""
    journal.run(add(1))
    assert fsyncs.count == 0
    trio.run(journal.run_durable, add(2))
    assert fsyncs.count == 1


def test_what_is_safe_already_costs_no_fsync(journal: Journal, fsyncs: Fsyncs) -> None:
    """Two who ask one after the other, without a commit between, cost one."""

    async def main() -> None:
        await journal.run_durable(add(1))
        await journal.sync()

    trio.run(main)
    assert fsyncs.count == 1


def test_those_who_wait_at_the_same_time_share_an_fsync(journal: Journal, fsyncs: Fsyncs) -> None:
    """The first fsync has one commit in it, the second those of all who came meanwhile."""
    fsyncs.may_go_on.clear()
    done = []

    async def commit(number: int) -> None:
        await journal.run_durable(add(number))
        done.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(commit, 0)
            await trio.testing.wait_all_tasks_blocked()
            for number in range(1, 30):
                nursery.start_soon(commit, number)
            await trio.testing.wait_all_tasks_blocked()
            assert done == []
            fsyncs.may_go_on.set()

    trio.run(main)
    assert sorted(done) == list(range(30))
    assert fsyncs.count == 2


def test_a_failed_fsync_fails_all_who_trusted_in_it_and_for_good(journal: Journal, fsyncs: Fsyncs) -> None:
    """The kernel tells it once: a second fsync would succeed, with the bytes lost."""
    fsyncs.failures = 1
    fsyncs.may_go_on.clear()
    failed = []

    async def commit(number: int) -> None:
        try:
            await journal.run_durable(add(number))
        except FsError as exc:
            failed.append(str(exc))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(commit, number)
            await trio.testing.wait_all_tasks_blocked()
            fsyncs.may_go_on.set()
        await commit(6)

    trio.run(main)
    assert len(failed) == 6
    assert "the spool's disk failed" in failed[0]
    assert fsyncs.count == 1
    with pytest.raises(FsError, match="failed"):
        journal.sync_now()
    assert sorted(values(journal)) == [0, 1, 2, 3, 4, 6]  # rows that only must survive this process go on


def test_a_log_that_could_not_be_made_safe_is_not_copied(
    journal: Journal, fsyncs: Fsyncs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its pages the kernel may have kept less than was written: the database stays as it was."""
    monkeypatch.setattr(journal_module, "CHECKPOINT_COMMITS", 1)
    fsyncs.failures = 1

    async def main() -> None:
        with pytest.raises(FsError):
            await journal.run_durable(add(1))
        before = content(journal.path)
        await journal.tidy()
        assert content(journal.path) == before

    trio.run(main)


def test_a_cancelled_wait_leaves_the_commit(journal: Journal, fsyncs: Fsyncs) -> None:
    """Who gave up waiting has committed all the same, and the next wait covers it."""

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await journal.run_durable(add(1))
        assert scope.cancelled_caught
        await journal.sync()

    trio.run(main)
    assert values(journal) == [1]
    assert fsyncs.count == 1


def test_the_log_is_copied_now_and_then(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """After enough commits, and not before; nothing is lost by it and the log begins again."""
    monkeypatch.setattr(journal_module, "CHECKPOINT_COMMITS", 50)

    async def main() -> None:
        for number in range(40):
            journal.run(add(number))
        before = content(journal.path)
        await journal.tidy()
        assert content(journal.path) == before
        size = os.stat(f"{journal.path}-wal").st_size
        for number in range(40, 60):
            journal.run(add(number))
        await journal.tidy()
        assert content(journal.path) != before
        for number in range(60, 70):
            journal.run(add(number))
        assert os.stat(f"{journal.path}-wal").st_size < 2 * size

    trio.run(main)
    assert values(journal) == list(range(70))


def test_a_log_that_grew_large_once_does_not_stay_large(tmp_path: Path) -> None:
    """Else each later copy would be made while everybody waits."""
    journal = opened(tmp_path)

    async def main() -> None:
        for number in range(600):
            journal.run(add(number, "x" * 40_000))
        assert os.stat(f"{journal.path}-wal").st_size > journal_module.LOG_LIMIT_BYTES
        await journal.tidy()
        journal.run(add(600))
        assert os.stat(f"{journal.path}-wal").st_size <= journal_module.KEPT_LOG_BYTES

    trio.run(main)
    assert values(journal) == list(range(601))
    journal.close()


# Crashes.

CHILD = """
import os, signal, sys, trio
from s3mount.data import journal as module
from tests.data.test_journal import add, opened
module.CHECKPOINT_COMMITS = 2
directory, last = sys.argv[1], int(sys.argv[2])
steps = 0

def step():
    global steps
    steps += 1
    if steps > last:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    step()
    journal = opened(directory)
    step()
    for number in range(1, 4):
        journal.run(add(number))
        step()
    await journal.sync()
    step()
    await journal.tidy()
    step()
    await journal.run_durable(add(4))
    step()
    journal.close()
    step()

trio.run(main)
"""


def crash(directory: Path, last: int) -> None:
    """Run the child, which kills itself after *last* steps."""
    command = [sys.executable, "-c", CHILD, str(directory), str(last)]
    done = subprocess.run(command, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == -9


@pytest.mark.parametrize(
    ("steps", "expected"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3), (5, 3), (6, 3), (7, 4), (8, 4)]
)
def test_each_commit_survives_the_death_of_the_process(tmp_path: Path, steps: int, expected: int) -> None:
    """SIGKILL after each step: what run() returned from is there, in order, and the journal goes on."""
    crash(tmp_path, steps)
    journal = opened(tmp_path)
    assert values(journal) == list(range(1, expected + 1))
    journal.run(add(99))
    assert values(journal)[-1] == 99
    journal.close()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_power_cut_leaves_all_that_was_safe_and_no_gap(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Of the log, the disk has what was synced; what came later it may have in part, or as garbage."""
    directory, after = tmp_path_factory.mktemp("before"), tmp_path_factory.mktemp("after")
    safe, later = data.draw(st.integers(0, 6)), data.draw(st.integers(0, 6))
    journal = opened(directory)
    for number in range(safe):
        journal.run(add(number))
    journal.sync_now()
    log = Path(f"{journal.path}-wal")
    on_disk = len(log.read_bytes())
    for number in range(safe, safe + later):
        journal.run(add(number))
    whole = bytearray(log.read_bytes())
    cut = data.draw(st.integers(on_disk, len(whole)))
    garbage = data.draw(st.binary(max_size=64))
    at = data.draw(st.integers(cut, len(whole)))
    del whole[at:]
    whole[cut : cut + len(garbage)] = garbage
    (after / JOURNAL_NAME).write_bytes(content(journal.path))
    (after / f"{JOURNAL_NAME}-wal").write_bytes(whole)
    journal.close()

    found = opened(after)
    left = values(found)
    assert left == list(range(len(left)))
    assert safe <= len(left) <= safe + later
    found.close()


STRACED = """
import sys, trio
from tests.data.test_journal import add, opened
journal = opened(sys.argv[1])
async def main():
    print("begin", flush=True)
    for number in range(100):
        journal.run(add(number))
    print("middle", flush=True)
    await journal.run_durable(add(100))
    print("end", flush=True)
trio.run(main)
"""


def test_commits_ask_the_disk_for_nothing_and_a_durable_one_once(tmp_path: Path) -> None:
    """Seen from outside: no fsync of SQLite's own either, between the marks."""
    log = tmp_path / "strace"
    command = ["strace", "-f", "-o", str(log), "-e", "trace=fsync,fdatasync,sync_file_range,write"]
    subprocess.run(
        [*command, sys.executable, "-c", STRACED, str(tmp_path)],
        cwd=ROOT,
        check=True,
        timeout=120,
        stdout=subprocess.DEVNULL,
    )
    text = log.read_text()
    begin, middle, end = (text.index(f'"{mark}"') for mark in ("begin", "middle", "end"))
    assert "sync" not in text[begin:middle]
    durable = [line for line in text[middle:end].splitlines() if "sync(" in line]
    assert len(durable) == 1, durable


# A full disk.


@needs_root
def test_on_a_full_disk_rows_can_still_be_changed(tmp_path: Path) -> None:
    """The reserve is given up, then the log is written over; nobody loses the state of a file."""
    with small_disk(tmp_path / "disk", 8 << 20) as disk:
        journal = opened(disk)
        journal.run(add(0))
        ballast = fill(disk)
        for number in range(1, 3000):
            journal.run(set_to(number))
        assert values(journal) == [2999]
        trio.run(journal.sync)
        assert not (disk / RESERVE_NAME).exists() or not os.stat(disk / RESERVE_NAME).st_blocks
        ballast.unlink()
        trio.run(journal.tidy)
        assert os.stat(disk / RESERVE_NAME).st_blocks * 512 >= RESERVE_BYTES
        journal.close()


@needs_root
def test_what_a_full_disk_cannot_take_fails_as_such_and_changes_nothing(tmp_path: Path) -> None:
    """NoSpace, at some row; those before it stay, and go through once there is room."""
    with small_disk(tmp_path / "disk", 8 << 20) as disk:
        journal = opened(disk)
        ballast = fill(disk)
        taken = 0
        with pytest.raises(NoSpace):
            for taken in range(3000):
                journal.run(add(taken, "x" * 5000))
        assert values(journal) == list(range(taken))
        ballast.unlink()
        journal.run(add(taken))
        assert values(journal) == list(range(taken + 1))
        journal.close()


@needs_root
def test_a_journal_opens_on_a_disk_that_is_full(tmp_path: Path) -> None:
    """What is in the spool can only be sent, and the disk be freed, by a mount that comes up."""
    with small_disk(tmp_path / "disk", 8 << 20) as disk:
        journal = opened(disk)
        journal.run(add(1))
        journal.close()
        fill(disk)
        journal = opened(disk)
        journal.run(add(2))
        assert values(journal) == [1, 2]
        journal.close()


@needs_root
def test_a_new_journal_on_a_disk_that_is_full_is_refused_as_such(tmp_path: Path) -> None:
    """There is no reserve yet that could be given up."""
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        fill(disk)
        with pytest.raises(NoSpace):
            opened(disk)


def test_a_disk_that_is_full_for_the_log_alone_is_full(tmp_path: Path) -> None:
    """Whatever statvfs says (a quota): ENOSPC for the third write and all that follow is NoSpace."""
    script = """
import sys, os, signal
from s3mount.errors import NoSpace
from tests.data.test_journal import add, opened, values
journal = opened(sys.argv[1])
os.kill(os.getpid(), signal.SIGCONT)
try:
    for number in range(50):
        journal.run(add(number))
except NoSpace:
    print("NoSpace")
"""
    command = ["strace", "-f", "-o", os.devnull, "-P", str(tmp_path / f"{JOURNAL_NAME}-wal")]
    inject = ["-e", "inject=pwrite64,write:error=ENOSPC:when=20+"]
    done = subprocess.run(
        [*command, *inject, sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        timeout=120,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout == "NoSpace\n"
    assert not free_reserve(str(tmp_path))


# A damaged database, and one from the future.


@pytest.mark.parametrize("place", ["head", "page", "garbage"])
def test_a_damaged_database_is_recognised(tmp_path: Path, place: str) -> None:
    """Whether it is no database at all, or one whose pages make no sense."""
    journal = opened(tmp_path)
    for number in range(300):
        journal.run(add(number, "x" * 100))
    journal.close()
    path = tmp_path / JOURNAL_NAME
    body = bytearray(path.read_bytes())
    if place == "garbage":
        body = bytearray(b"not a database" * 500)
    else:
        at = 0 if place == "head" else 2 * 4096
        body[at : at + 2000] = b"\xa5" * 2000
    path.write_bytes(body)
    with pytest.raises(JournalDamaged):
        opened(tmp_path)


def test_tables_of_a_later_version_are_refused_untouched(tmp_path: Path) -> None:
    """They may mean something that this version does not know, so nothing of them is changed."""
    journal = opened(tmp_path)
    journal.ensure(Schema("counter", (*COUNTER.steps, "ALTER TABLE counter ADD COLUMN more TEXT")))
    with pytest.raises(JournalTooNew, match="version 2 of counter"):
        journal.ensure(COUNTER)
    found = journal.run(lambda db: db.execute("SELECT * FROM schema_version ORDER BY name").fetchall())
    assert found == [("counter", 2), ("journal", 1)]
    journal.close()


def test_tables_of_an_earlier_version_are_brought_up_to_date(tmp_path: Path) -> None:
    """Only the steps that are missing are carried out, and once."""
    journal = opened(tmp_path)
    journal.run(add(1))
    later = Schema("counter", (*COUNTER.steps, "ALTER TABLE counter ADD COLUMN more TEXT DEFAULT 'x'"))
    for _ in range(2):
        journal.ensure(later)
    assert journal.run(lambda db: db.execute("SELECT value, more FROM counter").fetchall()) == [(1, "x")]
    journal.close()


def test_a_failure_of_the_disk_when_opening_is_no_traceback(tmp_path: Path) -> None:
    """A link in the place of the database, or a directory, is refused as an error of ours."""
    (tmp_path / JOURNAL_NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FsError):
        opened(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    """An error of ours, not of the library."""
    journal = opened(tmp_path)
    journal.close()
    with pytest.raises(FsError):
        journal.run(add(1))


# A reader beside the writer.

READER = """
import sys
from s3mount.data.journal import open_to_read
done = 0
print("ready", flush=True)
while done < 400:
    with open_to_read(sys.argv[1]) as db:
        found = [value for (value,) in db.execute("SELECT value FROM counter ORDER BY rowid")]
    assert found == list(range(len(found))), found
    assert len(found) % 2 == 0, found
    assert len(found) >= done
    done = max(done, len(found))
print(done)
"""


def test_a_reader_in_another_process_sees_whole_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the mount commits and copies its log, `spool list` neither fails nor holds it up."""
    monkeypatch.setattr(journal_module, "CHECKPOINT_COMMITS", 20)
    journal = opened(tmp_path)

    def both(number: int) -> Callable[[sqlite3.Connection], None]:
        def work(db: sqlite3.Connection) -> None:
            add(number)(db)
            add(number + 1)(db)

        return work

    async def main() -> None:
        for number in range(0, 400, 2):
            journal.run(both(number))
            await journal.tidy()

    with subprocess.Popen(
        [sys.executable, "-c", READER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        trio.run(main)
        assert reader.communicate(timeout=120)[0] == "400\n"
    assert reader.returncode == 0
    journal.close()


def test_a_reader_changes_nothing_and_finds_nothing_where_nothing_is(tmp_path: Path) -> None:
    """Without a journal None; with one, no right to write."""
    assert open_to_read(str(tmp_path)) is None
    opened(tmp_path).close()
    found = open_to_read(str(tmp_path))
    assert found is not None
    with found as db, pytest.raises(sqlite3.OperationalError, match="readonly"):
        add(1)(db)
