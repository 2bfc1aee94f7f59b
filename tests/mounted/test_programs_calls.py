"""What programs ask of the kernel beyond plain reading and writing."""

from __future__ import annotations

import mmap
import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.workplace import Workplace

MIB = 1024 * 1024


def test_append(place: Workplace) -> None:
    """O_APPEND writes at the end, whatever was read or sought, and beside another writer."""
    place.bucket.put(place.key("log"), b"start\n")
    one = os.open(place.path / "log", os.O_RDWR | os.O_APPEND)
    two = os.open(place.path / "log", os.O_WRONLY | os.O_APPEND)
    try:
        assert os.pread(one, 5, 0) == b"start"
        os.lseek(one, 0, os.SEEK_SET)
        os.write(one, b"one\n")
        os.write(two, b"two\n")
        os.write(one, b"three\n")
    finally:
        os.close(one)
        os.close(two)
    assert place.bucket.get(place.key("log")) == b"start\none\ntwo\nthree\n"


def test_write_through_a_memory_map(place: Workplace) -> None:
    """A shared mapping of an object can be read and written; the bucket has it after msync and close."""
    data = bytearray(random.Random(4).randbytes(3 * MIB + 5))
    place.bucket.put(place.key("m"), bytes(data))
    with open(place.path / "m", "r+b") as file:
        with mmap.mmap(file.fileno(), 0) as area:
            assert area[:100] == data[:100]
            area[2 * MIB : 2 * MIB + 4] = b"edit"
            area[-3:] = b"end"
            area.flush()
        os.fsync(file.fileno())
    data[2 * MIB : 2 * MIB + 4] = b"edit"
    data[-3:] = b"end"
    assert place.bucket.get(place.key("m")) == data


def test_a_map_outlives_its_descriptor(place: Workplace) -> None:
    """What is written into a mapping after close reaches the bucket once the mapping is gone."""
    with open(place.path / "m", "w+b") as file:
        file.truncate(8192)
        area = mmap.mmap(file.fileno(), 8192)
    area[5000:5005] = b"later"
    area.flush()
    area.close()
    place.mount.remount()
    assert place.bucket.get(place.key("m")) == bytes(5000) + b"later" + bytes(3187)


def test_an_unlinked_open_file_stays_usable(place: Workplace) -> None:
    """After unlink the descriptor still reads and writes; the bucket and the directory have nothing."""
    place.bucket.put(place.key("old"), b"0123456789")
    with open(place.path / "old", "r+b", buffering=0) as old, open(place.path / "new", "w+b", 0) as new:
        new.write(b"fresh")
        os.unlink(place.path / "old")
        os.unlink(place.path / "new")
        assert place.below() == []
        assert os.listdir(place.path) == []
        assert old.read() == b"0123456789"
        old.write(b"more")
        assert os.pread(old.fileno(), 100, 8) == b"89more"
        assert os.pread(new.fileno(), 100, 0) == b"fresh"
        assert os.fstat(old.fileno()).st_nlink == 0
    assert place.below() == []


def test_a_new_file_beside_an_unlinked_one(place: Workplace) -> None:
    """The name of an unlinked open file is free: a new file there has its own bytes."""
    place.bucket.put(place.key("f"), b"old")
    with open(place.path / "f", "rb", buffering=0) as old:
        os.unlink(place.path / "f")
        (place.path / "f").write_bytes(b"new!")
        assert old.read() == b"old"
        assert (place.path / "f").read_bytes() == b"new!"
    assert place.bucket.get(place.key("f")) == b"new!"


def test_reopen_right_after_close(place: Workplace) -> None:
    """What was written is there for the next open, size and all, a hundred times in a row."""
    path = place.path / "f"
    for number in range(100):
        data = bytes([number]) * (number * 37 % 5000)
        path.write_bytes(data)
        assert path.stat().st_size == len(data)
        assert path.read_bytes() == data
    assert place.bucket.get(place.key("f")) == bytes([99]) * (99 * 37 % 5000)


@pytest.mark.parametrize("by", ["path", "descriptor"])
def test_truncate_both_ways(place: Workplace, by: str) -> None:
    """Cutting keeps the beginning, extending adds NULs, by path as by descriptor."""
    place.bucket.put(place.key("f"), b"0123456789")

    def truncate(size: int) -> None:
        if by == "path":
            os.truncate(place.path / "f", size)
        else:
            with open(place.path / "f", "r+b") as file:
                file.truncate(size)

    truncate(4)
    assert place.bucket.get(place.key("f")) == b"0123"
    truncate(9)
    assert place.bucket.get(place.key("f")) == b"0123" + bytes(5)
    assert (place.path / "f").read_bytes() == b"0123" + bytes(5)
    truncate(0)
    assert place.bucket.get(place.key("f")) == b""


def test_open_for_reading_and_writing(place: Workplace) -> None:
    """O_RDWR: patches in the middle of an object, read back before and after close."""
    data = bytearray(random.Random(5).randbytes(4 * MIB))
    place.bucket.put(place.key("f"), bytes(data))
    with open(place.path / "f", "r+b", buffering=0) as file:
        for offset in (0, 1_048_570, 2_000_001, 4 * MIB - 3):
            patch = f"<{offset:>12}>".encode()
            os.pwrite(file.fileno(), patch, offset)
            data[offset : offset + len(patch)] = patch
            assert os.pread(file.fileno(), 50, max(0, offset - 10)) == data[max(0, offset - 10) :][:50]
    assert place.bucket.get(place.key("f")) == data
    assert (place.path / "f").read_bytes() == data


def test_holes_read_as_nul(place: Workplace) -> None:
    """Writing far behind the end leaves NULs between."""
    with open(place.path / "f", "wb") as file:
        file.write(b"begin")
        file.seek(2 * MIB)
        file.write(b"end")
    assert place.bucket.get(place.key("f")) == b"begin" + bytes(2 * MIB - 5) + b"end"


def test_an_exclusive_create_has_one_winner(place: Workplace) -> None:
    """O_EXCL: of many that create one name, exactly one succeeds; it does not touch an old object."""
    place.bucket.put(place.key("old"), b"kept")

    def create(name: str) -> bool:
        try:
            os.close(os.open(place.path / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, ["lock"] * 16)) == 1
    assert not create("old")
    assert place.bucket.get(place.key("old")) == b"kept"


def test_writers_of_one_file_see_each_other(place: Workplace) -> None:
    """Two descriptors on one file: each reads what the other wrote, and close keeps both."""
    with open(place.path / "f", "w+b", 0) as one, open(place.path / "f", "r+b", 0) as two:
        os.pwrite(one.fileno(), b"aaaa", 0)
        os.pwrite(two.fileno(), b"bb", 1)
        assert os.pread(one.fileno(), 10, 0) == b"abba"
        os.pwrite(one.fileno(), b"cc", 4)
        assert os.pread(two.fileno(), 10, 0) == b"abbacc"
    assert place.bucket.get(place.key("f")) == b"abbacc"


def test_the_free_space_of_a_bucket(place: Workplace) -> None:
    """statfs shows room, so that installers and cp do not refuse to begin."""
    status = os.statvfs(place.path)
    assert status.f_bavail * status.f_frsize > 1 << 40
    assert status.f_namemax == 255
