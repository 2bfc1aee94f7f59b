"""What a spool file takes of its disk, and what a refusal or a failure of the disk does to it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from s3mount.core.objects import ByteRange
from s3mount.core.parts import MAX_OBJECT_BYTES
from s3mount.data import disk
from s3mount.data.spool import SpoolDir
from s3mount.errors import (
    FileTooLarge,
    FsError,
    NoSpace,
)
from tests.data.spools import KIB, MIB, Base, play, random_bytes


def test_the_cap_refuses_before_writing(directory: Path) -> None:
    """The write that does not fit gets ENOSPC whole; deleting and truncating give space back."""

    async def main(spool: SpoolDir) -> None:
        first, second = await spool.create("a"), await spool.create("b")
        await first.write(0, bytes(64 * KIB))
        with pytest.raises(NoSpace):
            await second.write(0, bytes(40 * KIB))
        assert second.size == 0
        assert spool.used_bytes == 64 * KIB
        await first.truncate(10 * KIB + 1)
        assert spool.used_bytes == 12 * KIB
        await second.write(0, bytes(40 * KIB))
        await first.discard()
        assert spool.used_bytes == 40 * KIB
        await second.discard()
        assert spool.used_bytes == 0

    play(directory, main, cap_bytes=100 * KIB)


def test_scattered_bytes_are_charged_as_the_disk_stores_them(directory: Path) -> None:
    """One byte takes a disk block, and the second in it nothing more."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("a")
        for offset in range(0, MIB, 64 * KIB):
            await file.write(offset, b"x")
            await file.write(offset + 100, b"x")
        os.fsync(file.slice(ByteRange(0, 1)).fd)
        assert spool.used_bytes == 16 * 4096
        extents = 4096  # the file system's own record of where they are
        assert os.stat(file.path).st_blocks * 512 <= spool.used_bytes + extents
        await file.discard()

    play(directory, main)


def test_fetched_bytes_count_too(directory: Path) -> None:
    """Reading a changed file cannot fill the disk: the read fails, the file is not poisoned by it."""

    async def main(spool: SpoolDir) -> None:
        base = Base(random_bytes(100 * KIB))
        file = await spool.create("k", base.stat)
        await file.write(0, b"x")
        with pytest.raises(NoSpace):
            await file.fill(base.fetch)
        assert file.poison is None
        assert spool.used_bytes == 4096

    play(directory, main, cap_bytes=50 * KIB)


def test_the_floor_of_free_space_is_kept(directory: Path) -> None:
    """With more to be left free than there is, nothing is written at all."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        with pytest.raises(NoSpace, match="are to stay free"):
            await file.write(0, b"x")

    play(directory, main, free_floor_bytes=1 << 62)


def test_a_refused_write_poisons_until_it_is_made_good(directory: Path) -> None:
    """A program that ignores ENOSPC must not have half a file published; one that acts on it goes on."""

    async def main(spool: SpoolDir) -> None:
        other, file = await spool.create("a"), await spool.create("b")
        await other.write(0, bytes(8 * KIB))
        await file.write(0, b"begin")
        with pytest.raises(NoSpace):
            await file.write(5, bytes(4 * KIB))
        assert isinstance(file.poison, NoSpace)
        with pytest.raises(NoSpace):
            file.slice(ByteRange(0, 5))
        await other.discard()
        await file.write(5, bytes(4 * KIB))
        assert file.poison is None
        with pytest.raises(NoSpace):
            await file.write(10 * KIB, bytes(4 * KIB))
        await file.truncate(5 + 4 * KIB)
        assert file.poison is None
        assert file.slice(ByteRange(0, 5)).span == ByteRange(0, 5)

    play(directory, main, cap_bytes=12 * KIB)


@pytest.mark.parametrize("size", [100, MIB])
@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, FsError)]
)
def test_a_failing_disk_fails_the_write_and_poisons(
    directory: Path, monkeypatch: pytest.MonkeyPatch, size: int, number: int, expected: type[FsError]
) -> None:
    """The disk takes a part and then no more: the error reaches the program, the file is not uploaded."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"old")
        real = os.pwrite
        calls = 0

        def pwrite(fd: int, data: bytes, offset: int) -> int:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise OSError(number, os.strerror(number))
            return real(fd, data[:40], offset)

        monkeypatch.setattr(disk.os, "pwrite", pwrite)
        with pytest.raises(FsError) as caught:
            await file.write(0, b"n" * size)
        monkeypatch.undo()
        assert type(caught.value) is expected
        assert type(file.poison) is expected
        assert await file.read(ByteRange(0, MIB), Base(b"").fetch) == b"n" * 40
        await file.write(0, b"n" * size)
        assert (file.poison is None) == (expected is NoSpace)

    play(directory, main)


def test_short_writes_of_the_disk_are_carried_on(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pwrite may take less than it was given without having failed."""
    real = os.pwrite
    monkeypatch.setattr(disk.os, "pwrite", lambda fd, data, offset: real(fd, data[:1000], offset))

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        data = random_bytes(300 * KIB)
        await file.write(7, data)
        assert await file.read(ByteRange(0, MIB), Base(b"").fetch) == bytes(7) + data
        await file.discard()

    play(directory, main)


def test_a_disk_that_takes_nothing_is_an_error(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pwrite of 0 bytes must not loop for ever."""
    monkeypatch.setattr(disk.os, "pwrite", lambda fd, data, offset: 0)

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        with pytest.raises(FsError, match="takes no more bytes"):
            await file.write(0, b"x")

    play(directory, main)


def test_a_file_too_large_for_s3_is_refused_at_once(directory: Path) -> None:
    """EFBIG when it is written, not hours later when it is uploaded."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        with pytest.raises(FileTooLarge):
            await file.write(MAX_OBJECT_BYTES, b"x")
        with pytest.raises(FileTooLarge):
            await file.truncate(MAX_OBJECT_BYTES + 1)
        assert file.size == 0

    play(directory, main)
