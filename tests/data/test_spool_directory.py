"""The spool directory: whose it may be, and what becomes of the files in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from s3mount.core.exits import Exit
from s3mount.core.objects import ByteRange
from s3mount.core.spool_record import INTERRUPTED, SpoolState
from s3mount.data.spool import SpoolDir
from s3mount.errors import (
    BadDescriptor,
    FsError,
    StartupError,
)
from tests.data.spools import Base, data_files, play, random_bytes


def test_the_directory_is_made_for_its_user_alone(directory: Path) -> None:
    """Parents too are made; the mode is 0700 whatever the umask, files are 0600, names tell nothing."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("secret/name")
        assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600
        assert "secret" not in file.path
        await file.discard()

    old = os.umask(0)
    try:
        play(directory / "deep", main)
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(directory / "deep").st_mode) == 0o700
    assert data_files(directory / "deep") == []


def refused(path: Path) -> StartupError:
    """Return the refusal of a directory."""
    with pytest.raises(StartupError) as caught:
        SpoolDir(str(path), cap_bytes=None, free_floor_bytes=0)
    assert caught.value.exit_code == Exit.CACHE_DIR
    assert caught.value.thing == f"spool directory {path}"
    return caught.value


def test_a_directory_that_others_can_enter_is_refused(directory: Path) -> None:
    """Others could read unsent files, or put theirs in their place."""
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    assert "mode 0755" in refused(directory).cause


def test_a_symbolic_link_is_refused(directory: Path, tmp_path: Path) -> None:
    """Whoever made the link decides where unsent files go."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    directory.symlink_to(tmp_path / "elsewhere")
    assert refused(directory).cause == "is a symbolic link"


def test_a_file_in_its_place_is_refused(directory: Path) -> None:
    """A plain file, and a parent that is one."""
    directory.write_text("x")
    assert refused(directory).cause == "is not a directory"
    assert refused(directory / "deeper").cause == f"cannot be made: {directory} is not a directory"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(directory: Path) -> None:
    """Its owner could enter it whatever its mode."""
    directory.mkdir(mode=0o700)
    os.chown(directory, 12345, -1)
    assert refused(directory).cause == "belongs to user 12345, not to 0"


def test_two_mounts_do_not_share_a_directory(directory: Path) -> None:
    """The second is refused as long as the first is there."""
    first = SpoolDir(str(directory), cap_bytes=None, free_floor_bytes=0)
    assert refused(directory).cause == f"is in use by process {os.getpid()}"
    first.close()
    SpoolDir(str(directory), cap_bytes=None, free_floor_bytes=0).close()


def test_a_parent_may_be_a_symbolic_link(directory: Path, tmp_path: Path) -> None:
    """Only the directory itself must not be one."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"data")
        assert await file.read(ByteRange(0, 9), Base(b"").fetch) == b"data"
        await file.discard()

    play(tmp_path / "link" / "spool", main)


def test_a_discarded_file_is_gone_and_closed(directory: Path) -> None:
    """Nothing is on disk, the descriptor is closed, discarding again is fine."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"x")
        await file.discard()
        await file.discard()
        assert data_files(spool.path) == []
        for use in (file.write(0, b"x"), file.truncate(0), file.read(ByteRange(0, 1), Base(b"").fetch)):
            with pytest.raises(BadDescriptor):
                await use

    play(directory, main)


def test_a_file_of_a_mount_that_died_is_found_and_parked(directory: Path) -> None:
    """Nothing is deleted that might be somebody's unsent bytes, and nobody sends it unasked."""

    async def first(spool: SpoolDir) -> None:
        for name in "ab":
            file = await spool.create(name)
            await file.write(0, name.encode())

    async def second(spool: SpoolDir) -> None:
        found = [left.record for left in spool.leftovers()]
        assert [(record.key, record.state, record.cause) for record in found] == [
            ("a", SpoolState.PARKED, INTERRUPTED),
            ("b", SpoolState.PARKED, INTERRUPTED),
        ]
        files = [await spool.reopen(record) for record in found]
        assert [await file.read(ByteRange(0, 9), Base(b"").fetch) for file in files] == [b"a", b"b"]

    play(directory, first)
    play(directory, second)


def test_a_slice_of_an_incomplete_file_is_refused(directory: Path) -> None:
    """Zeros in place of bytes that were not fetched must never be uploaded."""

    async def main(spool: SpoolDir) -> None:
        base = Base(random_bytes(100))
        file = await spool.create("k", base.stat)
        with pytest.raises(FsError, match="not all here"):
            file.slice(ByteRange(0, 100))
        await file.fill(base.fetch)
        assert file.slice(ByteRange(0, 100)).span.size == 100
        with pytest.raises(FsError, match="not all here"):
            file.slice(ByteRange(0, 101))

    play(directory, main)
