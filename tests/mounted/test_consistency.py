"""Two clients of one bucket: what a mount shows while another changes objects under it.

A reader gets whole versions or an error, never a mixture; a writer never makes one.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from s3mount.core.exits import Exit
from tests.mounted.conftest import MakeMount
from tests.support.bucket import Bucket
from tests.support.mounting import Mount
from tests.support.servers import Server

MIB = 1024 * 1024
BLOCK = 64 * 1024
#: Every open asks; small blocks and nothing read ahead, so that the most is not cached.
ASKING = ("--ttl=0", "--negative-ttl=0", "--block-size=64K", "--read-ahead=0")
#: Nothing is asked again in the time of a test.
TRUSTING = ("--ttl=1h", "--negative-ttl=1h", "--block-size=64K", "--read-ahead=0")


@pytest.fixture
def asking(real_server: Server, make_mount: MakeMount) -> Mount:
    """A mount that believes nothing for longer than a call."""
    return make_mount(real_server, None, *ASKING)


@pytest.fixture
def bucket(asking: Mount) -> Bucket:
    """The bucket of ``asking``, for the second client."""
    return Bucket(asking.server, asking.bucket)


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Open *path*, without read-ahead of the kernel's."""
    descriptor = os.open(path, flags)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        yield descriptor
    finally:
        os.close(descriptor)


def errno_of(call: Callable[[], object]) -> str | None:
    """Return the name of the errno that *call* fails with, None if it does not."""
    try:
        call()
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]
    return None


def eventually(look: Callable[[], object], want: object, deadline_s: float = 15.0) -> None:
    """Wait until *look* returns *want*."""
    deadline = time.monotonic() + deadline_s
    while (found := look()) != want:
        assert time.monotonic() < deadline, f"still {found!r}, not {want!r}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    "new_size", [4 * MIB, 5 * MIB, MIB // 2, 0], ids=["same", "grown", "shrunk", "empty"]
)
def test_an_object_replaced_under_an_open_handle(asking: Mount, bucket: Bucket, new_size: int) -> None:
    """The handle reads what it has of the old version, and ESTALE for the rest; a new open reads the new."""
    path, old, new = asking.path / "f", b"o" * (4 * MIB), b"n" * new_size
    bucket.put("f", old)
    with opened(path) as descriptor:
        assert os.pread(descriptor, 1000, 0) == old[:1000]
        bucket.put("f", new)
        assert errno_of(lambda: os.pread(descriptor, 1000, 3 * MIB)) == "ESTALE"
        assert os.pread(descriptor, 1000, 0) == old[:1000]
        assert path.read_bytes() == new
        assert path.stat().st_size == new_size
        assert errno_of(lambda: os.pread(descriptor, 1000, 2 * MIB)) == "ESTALE"
        assert os.fstat(descriptor).st_size == len(old)
        assert os.pread(descriptor, 1000, 0) == old[:1000]
    assert path.read_bytes() == new


def test_an_object_deleted_under_an_open_handle(asking: Mount, bucket: Bucket) -> None:
    """What is cached can be read on, the rest is ESTALE, and the name is gone."""
    path, old = asking.path / "f", b"o" * (4 * MIB)
    bucket.put("f", old)
    with opened(path) as descriptor:
        assert os.pread(descriptor, 1000, 0) == old[:1000]
        bucket.client.delete_object(Bucket=bucket.name, Key="f")
        assert errno_of(lambda: os.pread(descriptor, 1000, 3 * MIB)) == "ESTALE"
        assert os.pread(descriptor, 1000, 0) == old[:1000]
        assert errno_of(path.stat) == "ENOENT"
        assert errno_of(path.read_bytes) == "ENOENT"
        assert os.listdir(asking.path) == []


def test_a_file_is_replaced_by_a_directory_and_back(asking: Mount, bucket: Bucket) -> None:
    """The kind follows what the bucket has, though programs hold the old one open."""
    path = asking.path / "name"
    bucket.put("name", b"a file")
    with opened(path) as descriptor:
        bucket.client.delete_object(Bucket=bucket.name, Key="name")
        bucket.put("name/inside", b"a directory")
        assert path.is_dir()
        assert (path / "inside").read_bytes() == b"a directory"
        assert os.listdir(asking.path) == ["name"]
        assert os.fstat(descriptor).st_size == len(b"a file")
    with opened(path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        bucket.client.delete_object(Bucket=bucket.name, Key="name/inside")
        bucket.client.delete_object(Bucket=bucket.name, Key="name/")
        bucket.put("name", b"a file again")
        assert path.read_bytes() == b"a file again"
        assert errno_of(lambda: os.listdir(path)) == "ENOTDIR"
    assert path.is_file()


def test_a_writer_never_mixes_two_versions(asking: Mount, bucket: Bucket) -> None:
    """Who changes a part of a version that is gone gets ESTALE from close, and the new one stays whole."""
    bucket.put("f", b"o" * MIB)
    descriptor = os.open(asking.path / "f", os.O_RDWR)
    os.pwrite(descriptor, b"mine", MIB // 2)
    bucket.put("f", b"n" * MIB)
    assert errno_of(lambda: os.close(descriptor)) == "ESTALE"
    assert bucket.get("f") == b"n" * MIB
    assert asking.stop(check=False) == Exit.NOT_DRAINED
    assert bucket.get("f") == b"n" * MIB


def test_a_writer_of_every_byte_does_not_undo_what_came_meanwhile(asking: Mount, bucket: Bucket) -> None:
    """What needs nothing of the old version is no less a conflict: the other's stays, whole."""
    bucket.put("f", b"o" * MIB)
    descriptor = os.open(asking.path / "f", os.O_RDWR | os.O_TRUNC)
    os.write(descriptor, b"mine")
    bucket.put("f", b"n" * MIB)
    assert errno_of(lambda: os.close(descriptor)) == "ESTALE"
    assert bucket.get("f") == b"n" * MIB
    assert asking.stop(check=False) == Exit.NOT_DRAINED


def test_appending_to_a_version_that_is_gone_fails(real_server: Server, make_mount: MakeMount) -> None:
    """Within the TTL a file may have grown elsewhere: `>>` fails rather than writing over the growth."""
    mount = make_mount(real_server, None, *TRUSTING)
    bucket = Bucket(real_server, mount.bucket)
    path = mount.path / "log"
    bucket.put("log", b"one\n")
    assert path.stat().st_size == 4
    bucket.put("log", b"one\ntwo\n")

    def append() -> None:
        with path.open("ab") as file:
            file.write(b"three\n")

    assert errno_of(append) == "ESTALE"
    assert bucket.get("log") == b"one\ntwo\n"
    assert mount.stop(check=False) == Exit.NOT_DRAINED
    assert bucket.get("log") == b"one\ntwo\n"


def test_renaming_a_version_that_is_gone_loses_nothing(real_server: Server, make_mount: MakeMount) -> None:
    """Within the TTL `mv` meets another version than it knows: it moves that one or fails, both whole."""
    mount = make_mount(real_server, None, *TRUSTING)
    bucket = Bucket(real_server, mount.bucket)
    bucket.put("old", b"known")
    assert (mount.path / "old").stat().st_size == 5
    bucket.put("old", b"newer than known")
    failed = errno_of(lambda: (mount.path / "old").rename(mount.path / "new"))
    assert failed in (None, "ESTALE")
    key = "old" if failed else "new"
    assert bucket.keys() == [key]
    assert bucket.get(key) == b"newer than known"


def test_a_listing_is_believed_for_the_ttl_only(real_server: Server, make_mount: MakeMount) -> None:
    """Within a long TTL a directory stays as it was listed; without one each `ls` is new."""
    bucket = Bucket(real_server, real_server.fresh_bucket())
    bucket.put_many({f"d/{name}": b"x" for name in "abc"})
    trusting = make_mount(real_server, bucket.name, *TRUSTING).path / "d"
    asking = make_mount(real_server, bucket.name, *ASKING).path / "d"
    assert sorted(os.listdir(trusting)) == sorted(os.listdir(asking)) == ["a", "b", "c"]
    bucket.put("d/new", b"x")
    bucket.client.delete_object(Bucket=bucket.name, Key="d/b")
    assert sorted(os.listdir(trusting)) == ["a", "b", "c"]
    assert sorted(os.listdir(asking)) == ["a", "c", "new"]
    assert errno_of((trusting / "new").stat) == "ENOENT"
    assert (asking / "new").stat().st_size == 1
    (trusting / "own").write_bytes(b"x")
    assert sorted(os.listdir(trusting)) == ["a", "b", "c", "own"]
    assert sorted(os.listdir(asking)) == ["a", "c", "new", "own"]


def test_two_mounts_see_each_other(real_server: Server, make_mount: MakeMount) -> None:
    """What one makes, changes, renames and removes, the other shows once its TTL has passed."""
    name = real_server.fresh_bucket()
    options = ("--ttl=500ms", "--negative-ttl=500ms", "--attributes=exact")
    one, other = (make_mount(real_server, name, *options).path for _ in range(2))
    for here, there in ((one, other), (other, one)):
        assert errno_of((there / "d").stat) == "ENOENT"
        (here / "d").mkdir()
        (here / "d" / "f").write_bytes(b"first")
        (here / "d" / "link").symlink_to("f")
        eventually((there / "d").exists, True)
        eventually(lambda: sorted(os.listdir(there / "d")), ["f", "link"])  # noqa: B023
        assert (there / "d" / "link").read_bytes() == b"first"
        (here / "d" / "f").write_bytes(b"second, longer")
        eventually((there / "d" / "f").read_bytes, b"second, longer")
        (here / "d" / "f").chmod(0o600)
        eventually(lambda: (there / "d" / "f").stat().st_mode & 0o777, 0o600)  # noqa: B023
        (here / "d" / "f").rename(here / "d" / "g")
        eventually(lambda: sorted(os.listdir(there / "d")), ["g", "link"])  # noqa: B023
        assert (there / "d" / "g").read_bytes() == b"second, longer"
        (here / "d" / "link").unlink()
        (here / "d" / "g").unlink()
        (here / "d").rmdir()
        eventually((there / "d").exists, False)
        assert os.listdir(there) == []


@pytest.mark.parametrize("way", ["rename", "in place"])
def test_readers_see_whole_versions_while_another_mount_commits(
    real_server: Server, make_mount: MakeMount, way: str
) -> None:
    """Versions of a file of many blocks, with readers that never stop: each read is one version, whole."""
    name = real_server.fresh_bucket()
    writing = make_mount(real_server, name, "--part-size=5M").path
    reading = make_mount(real_server, name, *ASKING).path
    versions, size = 25, 24 * BLOCK + 17
    done = threading.Event()
    seen = [0]

    def commit(version: int) -> None:
        target = writing / ("f.new" if way == "rename" else "f")
        # Other sizes, too: a mixture is easiest to make where they differ.
        target.write_bytes(bytes([version]) * (size + version % 3 * BLOCK))
        if way == "rename":
            target.rename(writing / "f")

    def read() -> None:
        while not done.is_set():
            try:
                data = (reading / "f").read_bytes()
            except OSError as exc:
                assert exc.errno == errno.ESTALE, exc
                continue
            version = data[0]
            assert data == bytes([version]) * (size + version % 3 * BLOCK), (
                f"{set(data)} in {len(data)} bytes"
            )
            seen.append(version)

    commit(0)
    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            for version in range(1, versions):
                commit(version)
                if version % 4 == 0:
                    eventually(lambda: version in seen, True)  # noqa: B023
        finally:
            done.set()
        for reader in readers:
            reader.result(60)
    assert len(set(seen)) > versions // 4
    assert (reading / "f").read_bytes()[0] == versions - 1
