"""What a command needs of a spool directory: files that nobody else has open, room, and the bucket's name."""

from __future__ import annotations

import functools
import os
import sqlite3
import stat
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio

from s3mount.core.spool_record import SpoolState
from s3mount.data import journal
from s3mount.data.journal_rows import read_records
from s3mount.data.spool import SpoolDir, SpoolFile
from s3mount.data.spool_bucket import SpoolBucket, read_bucket, remember_bucket
from s3mount.data.spool_holder import claim, locked_inodes
from s3mount.errors import FsError, NoSpace

KIB = 1 << 10


def in_trio(test: Callable[..., Awaitable[None]]) -> Callable[[Path], None]:
    """Run an async test of ``tmp_path``."""

    @functools.wraps(test)
    def run(tmp_path: Path) -> None:
        trio.run(test, tmp_path)

    return run


async def lost(spool: SpoolDir, body: bytes = b"x", key: str = "k") -> SpoolFile:
    """Return a new file with *body* that waits for the user, still open."""
    file = await spool.create(key)
    await file.write(0, body)
    await file.conflict("theirs is there")
    return file


def opened(path: Path, cap_bytes: int | None = None) -> SpoolDir:
    """Return a spool directory as a mount uses it."""
    return SpoolDir(str(path / "spool"), cap_bytes=cap_bytes, free_floor_bytes=0, mountpoint="/mnt")


@in_trio
async def test_a_file_that_a_mount_has_open_can_not_be_claimed(tmp_path: Path) -> None:
    """Closed, it can; and what a command has claimed the mount does not open."""
    with closing(opened(tmp_path)) as spool:
        file = await lost(spool)
        fd = os.open(file.path, os.O_RDWR)
        try:
            assert not claim(fd)
            assert locked_inodes()[os.stat(file.path).st_ino] == os.getpid()
            await file.close()
            assert claim(fd)
            with pytest.raises(FsError, match="a command is at work"):
                await spool.reopen(file.record)
        finally:
            os.close(fd)
        again = await spool.reopen(file.record)
        assert again.state is SpoolState.CONFLICT


@in_trio
async def test_the_room_of_a_file_that_a_command_took_away_is_free_again(tmp_path: Path) -> None:
    """Its bytes were charged to the cap, and nobody tells the mount."""
    with closing(opened(tmp_path, cap_bytes=96 * KIB)) as spool:
        file = await lost(spool, bytes(64 * KIB))
        await file.close()
        next_one = await spool.create("n")
        with pytest.raises(NoSpace):
            await next_one.write(0, bytes(64 * KIB))
        os.unlink(file.path)
        await next_one.write(0, bytes(64 * KIB))
        assert spool.used_bytes == 64 * KIB
        await next_one.discard()
        assert spool.used_bytes == 0


def test_the_bucket_is_found_again(tmp_path: Path) -> None:
    """The last mount's, with what it was told about the server."""
    with closing(opened(tmp_path)) as spool:
        assert read_bucket(spool.path) is None
        for endpoint_url in ("http://old", "http://new"):
            bucket = SpoolBucket("s3://b/p/", endpoint_url, "/mnt", {"profile": "work", "verify_ssl": False})
            remember_bucket(spool.journal, bucket)
            assert read_bucket(spool.path) == bucket
    assert read_bucket(spool.path) == bucket
    assert read_bucket(str(tmp_path)) is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, which a test can fill up or make read-only."""
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", path], capture_output=True)
    if done.returncode:
        pytest.skip("needs to be root, to mount a small disk")
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("is_killed", [False, True], ids=["ended", "killed"])
@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_journal_on_a_disk_that_takes_nothing_is_read(
    tmp_path: Path, small_disk: Path, is_killed: bool, trouble: str
) -> None:
    """SQLite would make a file beside the log; rows that are only in the log are read all the same."""

    async def prepare() -> None:
        spool = opened(tmp_path)
        await lost(spool, key="from the log")
        if not is_killed:
            spool.close()
        for name in ("journal.sqlite", "journal.sqlite-wal"):
            if (source := Path(spool.path) / name).exists():
                (small_disk / name).write_bytes(source.read_bytes())
        if is_killed:
            spool.close()

    trio.run(prepare)
    assert (small_disk / "journal.sqlite-wal").exists() == is_killed
    if trouble == "full":
        with pytest.raises(OSError), open(small_disk / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(bytes(KIB))
    else:
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert [(one.key, one.state) for one in read_records(str(small_disk))] == [
        ("from the log", SpoolState.CONFLICT)
    ]


def test_a_row_of_another_version_is_read(tmp_path: Path) -> None:
    """A column that is missing has its default, one that is new is left alone."""

    async def prepare() -> None:
        with closing(opened(tmp_path)) as spool:
            await lost(spool)

    trio.run(prepare)
    path = tmp_path / "spool" / journal.JOURNAL_NAME
    with closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE spool ADD COLUMN later TEXT DEFAULT 'unheard of'")
        db.execute("ALTER TABLE spool DROP COLUMN attempts")
        db.commit()
    (record,) = read_records(str(path.parent))
    assert (record.key, record.attempts, record.state) == ("k", 0, SpoolState.CONFLICT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
