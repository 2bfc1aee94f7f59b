"""A directory with a great many objects: the first entry comes at once, and memory stays bounded.

100,000 objects are those of a real MinIO: one is uploaded, and its file copied as often in MinIO's data
directory, which takes ten seconds where PUTs take minutes. 1,000,000 are those of a server that makes
its LIST up (tests/support/list_server.py). Time to the first entry is from opendir(3) to the return of
the first readdir(3), in this process, with nothing cached; it is printed (``pytest -rP``), and what is
asserted is that no more than one LIST has been answered by then: that is what makes it short wherever
the server is. Memory is the daemon's peak resident set less that before the listing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.bucket import Bucket
from tests.support.counting_proxy import CountingProxy, Hold
from tests.support.list_server import BUCKET, list_server
from tests.support.mounting import Mount
from tests.support.servers import Server

COUNT = 100_000
BYTES_PER_ENTRY = 1024
PAGE = 1000


@pytest.fixture(scope="module")
def filled(request: pytest.FixtureRequest) -> tuple[Server, str]:
    """MinIO and a bucket with COUNT objects under ``many/``."""
    server: Server = request.getfixturevalue("minio")
    assert server.data is not None
    bucket = Bucket(server, server.fresh_bucket())
    bucket.put("template", b"x")
    (server.data / bucket.name / "many").mkdir()
    one = (server.data / bucket.name / "template" / "xl.meta").read_bytes()
    for number in range(COUNT):
        path = server.data / bucket.name / "many" / f"{number:07}"
        path.mkdir()
        (path / "xl.meta").write_bytes(one)
    bucket.client.delete_object(Bucket=bucket.name, Key="template")
    return server, bucket.name


#: The server that makes listings up takes no writes, so that there is nothing to try out.
LISTS_ONLY = ("--read-only",)


@contextmanager
def mounted(server: Server, bucket: str, base: Path, *options: str) -> Iterator[tuple[Mount, CountingProxy]]:
    """Mount behind a counting proxy."""
    base.mkdir()
    with (
        CountingProxy(server.endpoint_url) as proxy,
        Mount(server, bucket, base, options, endpoint_url=proxy.endpoint_url) as mount,
    ):
        yield mount, proxy


def memory_kib(mount: Mount, name: str) -> int:
    """Return ``VmRSS`` or ``VmHWM`` of the daemon."""
    for line in Path(f"/proc/{mount.pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise AssertionError(f"no {name}")


def first_entry(path: Path, proxy: CountingProxy) -> None:
    """See that the first entry is there after one LIST, and print when."""
    path.stat()
    proxy.clear()
    began = time.monotonic()
    with os.scandir(path) as entries:
        assert next(entries).name == f"{0:07}"
        elapsed = time.monotonic() - began
        requests = proxy.counts()
    print(f"first entry after {elapsed * 1000:.0f} ms")
    assert requests["ListObjectsV2"] == 1
    assert requests["HeadObject"] <= 3


def whole_listing(mount: Mount, path: Path, proxy: CountingProxy, count: int) -> None:
    """See that a listing has every name once, in one pass of LISTs and little memory."""
    before = memory_kib(mount, "VmRSS")
    proxy.clear()
    began = time.monotonic()
    with os.scandir(path) as entries:
        numbers = bytearray(count)
        for entry in entries:
            numbers[int(entry.name)] += 1
    elapsed = time.monotonic() - began
    assert numbers == b"\1" * count
    assert proxy.counts()["ListObjectsV2"] <= count // PAGE + 1
    grown = (memory_kib(mount, "VmHWM") - before) * 1024
    print(f"{count} entries in {elapsed:.1f} s, {grown / count:.0f} bytes of memory each")
    assert grown < count * BYTES_PER_ENTRY


def test_the_first_entry_of_a_hundred_thousand_comes_after_one_request(
    filled: tuple[Server, str], tmp_path: Path
) -> None:
    """`ls -f` begins to print at once, and memory for the whole stays under 1 KiB an entry."""
    with mounted(*filled, tmp_path / "m") as (mount, proxy):
        first_entry(mount.path / "many", proxy)
        whole_listing(mount, mount.path / "many", proxy, COUNT)


def test_asking_for_one_name_does_not_wait_for_the_listing(tmp_path: Path) -> None:
    """A stat in a directory that is being listed waits for the page under way, not for those after it.

    For that page it must wait: libfuse before 3.17 does not ask the kernel for look-ups and readdir of one
    directory at once (FUSE_CAP_PARALLEL_DIROPS), and pyfuse3 does not either.
    """
    count = 20 * PAGE
    with list_server(count) as server, mounted(server, BUCKET, tmp_path / "m", *LISTS_ONLY) as (mount, proxy):
        path = mount.path / "many"
        path.stat()
        one, later = Hold(), Hold()
        with (
            ThreadPoolExecutor(2) as pool,
            proxy.rule(one, operation="ListObjectsV2", first=3, last=3),
            # The stat's own LIST, of one key, is among those between the two.
            proxy.rule(later, operation="ListObjectsV2", first=12, last=12),
        ):
            listing = pool.submit(os.listdir, path)
            try:
                one.wait_held()
                stat = pool.submit((path / f"{count - 5:07}").stat)
                one.release()
                assert stat.result(30).st_size == 1
                assert not listing.done()
            finally:
                one.release()
                later.release()
            assert len(set(listing.result(60))) == count


@pytest.mark.heavy
def test_the_first_entry_of_a_million_comes_after_one_request(tmp_path: Path) -> None:
    """The same with a million."""
    with (
        list_server(1_000_000) as server,
        mounted(server, BUCKET, tmp_path / "m", *LISTS_ONLY) as (mount, proxy),
    ):
        first_entry(mount.path / "many", proxy)
        whole_listing(mount, mount.path / "many", proxy, 1_000_000)
