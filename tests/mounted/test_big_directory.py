"""Directories of very many objects.

Measured against tests/support/list_server.py, which answers LIST at once: what is timed is s3mount.
Times are printed, never asserted: the number of LISTs before the first entry stands for the time, and
memory is measured at the daemon. `ls -f` reads entries in the directory's order and sorts nothing.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.counting_proxy import CountingProxy
from tests.support.list_server import key_of, listing
from tests.support.mounting import Mount, mounts_below

#: Memory per name that the kernel keeps, and so the daemon must: node, key, ETag.
BYTES_PER_ENTRY = 1024


@contextmanager
def big_directory(count: int, base: Path, watchdog_s: float = 200) -> Iterator[tuple[Mount, CountingProxy]]:
    """Mount a bucket with one directory of *count* objects."""
    with (
        listing(count) as server,
        CountingProxy(server.endpoint_url) as proxy,
        Mount(server, "bucket", base, endpoint_url=proxy.endpoint_url, watchdog_s=watchdog_s) as mount,
    ):
        proxy.clear()
        yield mount, proxy
    assert mounts_below(base) == []


def resident(mount: Mount) -> int:
    """Return the daemon's resident memory in bytes."""
    for line in Path(f"/proc/{mount.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise LookupError("VmRSS")


def check_whole(mount: Mount, count: int) -> None:
    """List everything once: every name, and memory within its bound."""
    before = resident(mount)
    began = time.monotonic()
    names = sum(1 for _ in os.scandir(mount.path / "big"))
    print(f"{count} entries in {time.monotonic() - began:.1f} s")
    assert names == count
    grown = resident(mount) - before
    print(f"{grown / count:.0f} bytes an entry")
    assert grown < count * BYTES_PER_ENTRY


def test_the_first_entry_takes_one_page(tmp_path: Path) -> None:
    """The first of 100,000 entries is there after one LIST of the directory, and all of them come."""
    with big_directory(100_000, tmp_path) as (mount, proxy):
        descriptor = os.open(mount.path / "big", os.O_RDONLY | os.O_DIRECTORY)
        proxy.clear()
        began = time.monotonic()
        data = read_some_entries(descriptor)
        print(f"first entries after {time.monotonic() - began:.3f} s")
        os.close(descriptor)
        assert key_of(0).removeprefix("big/").encode() in data
        assert proxy.counts()["ListObjectsV2"] == 1
        check_whole(mount, 100_000)
        assert proxy.counts()["ListObjectsV2"] <= 1 + 100 + 1
        assert proxy.counts()["HeadObject"] <= 3


def read_some_entries(descriptor: int) -> bytes:
    """getdents64(2) with a small buffer: what `ls -f` has seen when it prints its first name."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(512)
    getdents64 = 217
    size = libc.syscall(getdents64, descriptor, buffer, len(buffer))
    assert size > 0, os.strerror(ctypes.get_errno())
    return buffer.raw[:size]


def test_one_name_is_answered_while_all_are_listed(tmp_path: Path) -> None:
    """A stat of one name, and reading it, need not wait for the end of a listing of 100,000."""
    with big_directory(100_000, tmp_path) as (mount, _):
        finished = threading.Event()

        def list_all() -> None:
            for _ in os.scandir(mount.path / "big"):
                pass
            finished.set()

        lister = threading.Thread(target=list_all)
        lister.start()
        for number in (99_999, 50_000, 77_777):
            name = key_of(number)
            assert (mount.path / name).stat().st_size == number
        answered_before_the_end = not finished.is_set()
        lister.join()
        assert answered_before_the_end
        assert not (mount.path / "big" / "absent").exists()


def test_rewinding_begins_anew(tmp_path: Path) -> None:
    """rewinddir(3) far into a listing, and seekdir(3) back, give the same entries again."""
    with big_directory(5_000, tmp_path) as (mount, _):
        descriptor = os.open(mount.path / "big", os.O_RDONLY | os.O_DIRECTORY)
        try:
            first = read_some_entries(descriptor)
            for _ in range(40):
                middle = read_some_entries(descriptor)
            position = os.lseek(descriptor, 0, os.SEEK_CUR)
            following = read_some_entries(descriptor)
            os.lseek(descriptor, 0, os.SEEK_SET)
            assert read_some_entries(descriptor) == first
            os.lseek(descriptor, position, os.SEEK_SET)
            assert read_some_entries(descriptor) == following
            assert middle != following
        finally:
            os.close(descriptor)


@pytest.mark.heavy
def test_a_million_entries(tmp_path: Path) -> None:
    """A directory of 1,000,000 objects is listed whole in bounded memory."""
    with big_directory(1_000_000, tmp_path, watchdog_s=900) as (mount, _):
        check_whole(mount, 1_000_000)
