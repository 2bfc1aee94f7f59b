"""A mount whose server is out of reach answers at once, and goes on by itself when it is back."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from s3mount.core.exits import Exit
from tests.mounted.conftest import MakeMount
from tests.support.bucket import Bucket
from tests.support.counting_proxy import Close, CountingProxy
from tests.support.mounting import Mount
from tests.support.servers import Server
from tests.support.waiting import eventually

NOTICED = "does not answer; what needs it fails at once until it does"


def test_an_outage_is_noticed_and_ends(make_mount: MakeMount, minio: Server) -> None:
    """Names that nobody has asked for are errors, never absent; afterwards all is as before."""
    with CountingProxy(minio.endpoint_url) as proxy:
        mount = make_mount(
            minio,
            None,
            "--attempts=1",
            "--negative-ttl=0",
            endpoint_url=proxy.endpoint_url,
            expected=[NOTICED],
        )
        (mount.path / "known").write_bytes(b"body")
        with proxy.rule(Close()):
            for number in itertools.count():
                with pytest.raises(OSError, match="Input/output error") as caught:
                    os.stat(mount.path / f"unknown-{number}")
                assert caught.value.errno == errno.EIO
                if NOTICED in mount.log.read_text():
                    break
            proxy.clear()
            for number in range(200):
                with pytest.raises(OSError, match="Input/output error"):
                    os.stat(mount.path / f"still-unknown-{number}")
            assert set(proxy.counts()) <= {"HeadBucket"}
            os.statvfs(mount.path)
            os.stat(mount.path)
        while "answers again" not in mount.log.read_text():
            os.statvfs(mount.path)
        (mount.path / "new").write_bytes(b"body")
        assert (mount.path / "new").read_bytes() == b"body"
        with pytest.raises(FileNotFoundError):
            os.stat(mount.path / "absent")
        mount.stop()


@contextmanager
def outage(mount: Mount, proxy: CountingProxy) -> Iterator[None]:
    """While the block runs, the server does not answer, and the mount has noticed it."""
    said = mount.log.read_text().count(NOTICED)
    # Held, or the kernel forgets what it could not look up again before the mount had noticed, and then the
    # listing that it was in is not known as a whole any more.
    held = os.open(mount.path / "never-listed", os.O_PATH)
    try:
        with proxy.rule(Close()):
            for number in itertools.count():
                with suppress(OSError):
                    os.stat(mount.path / f"never-listed/{number}")
                if mount.log.read_text().count(NOTICED) > said:
                    break
            yield
    finally:
        os.close(held)
    eventually(lambda: mount.log.read_text().count("answers again"), said + 1)


def test_what_was_known_is_served_and_the_rest_is_an_error(make_mount: MakeMount, minio: Server) -> None:
    """Long after every TTL, files, attributes and listings are as they were; the unknown is never absent."""
    bucket = Bucket(minio, minio.fresh_bucket())
    bucket.put_many({"d/a": b"1" * 10, "d/b": b"2" * 20, "never-listed/x": b"", "big": b"3" * (4 << 20)})
    with CountingProxy(minio.endpoint_url) as proxy:
        mount = make_mount(
            minio,
            bucket.name,
            "--attempts=1",
            "--ttl=100ms",
            "--read-ahead=0",
            "--block-size=1M",
            endpoint_url=proxy.endpoint_url,
            expected=[NOTICED],
        )
        path = mount.path
        os.chmod(path / "d/a", 0o600)
        assert sorted(os.listdir(path / "d")) == ["a", "b"]
        assert sorted(os.listdir(path)) == ["big", "d", "never-listed"]
        assert (path / "d/a").read_bytes() == b"1" * 10
        with open(path / "big", "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            assert file.read(4096) == b"3" * 4096
            with outage(mount, proxy):
                assert sorted(os.listdir(path / "d")) == ["a", "b"]
                assert sorted(os.listdir(path)) == ["big", "d", "never-listed"]
                assert (path / "d/a").stat().st_mode & 0o777 == 0o600
                assert (path / "d/b").stat().st_size == 20
                assert (path / "d/a").read_bytes() == b"1" * 10
                os.statvfs(path)
                for ask in (
                    lambda: os.listdir(path / "never-listed"),
                    lambda: os.stat(path / "never-listed/y"),
                    (path / "d/b").read_bytes,
                    lambda: os.pread(file.fileno(), 4096, 3 << 20),
                    lambda: os.unlink(path / "d/b"),
                ):
                    with pytest.raises(OSError, match="Input/output error"):
                        ask()
                with pytest.raises(FileNotFoundError):
                    os.stat(path / "d/absent")
            assert os.pread(file.fileno(), 4096, 3 << 20) == b"3" * 4096
        assert (path / "d/b").read_bytes() == b"2" * 20
        assert os.listdir(path / "never-listed") == ["x"]


@pytest.mark.parametrize("mode", ["--write-back=1s", "--ttl=100ms"])
def test_files_written_in_an_outage_are_in_the_bucket_soon_after_it(
    make_mount: MakeMount, minio: Server, mode: str
) -> None:
    """With --write-back close succeeds, without it it is EIO at once; the queue drains by itself."""
    bucket = Bucket(minio, minio.fresh_bucket())
    bucket.put("old", b"old")
    bucket.put("never-listed/x")
    with CountingProxy(minio.endpoint_url) as proxy:
        mount = make_mount(
            minio,
            bucket.name,
            "--attempts=1",
            mode,
            endpoint_url=proxy.endpoint_url,
            expected=[NOTICED, "upload of", "is not in the bucket yet"],
        )
        assert sorted(os.listdir(mount.path)) == ["never-listed", "old"]
        assert (mount.path / "old").read_bytes() == b"old"
        bodies = {f"new{number}": b"x" * number for number in range(5)} | {"old": b"changed"}
        with outage(mount, proxy):
            for name, body in bodies.items():
                descriptor = os.open(mount.path / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.write(descriptor, body)
                if mode.startswith("--write-back"):
                    os.close(descriptor)
                else:
                    with pytest.raises(OSError, match="Input/output error"):
                        os.close(descriptor)
                assert (mount.path / name).read_bytes() == body
        eventually(lambda: bucket.files() == bodies | {"never-listed/x": b""})
        assert mount.stop() == Exit.OK
