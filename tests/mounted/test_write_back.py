"""--write-back: a close is answered when the file is safe here; the bucket gets it later, and surely."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3mount.core.exits import Exit
from s3mount.core.spool_record import SpoolRecord, SpoolState
from s3mount.data.journal_rows import read_records
from tests.mounted.conftest import MakeMount
from tests.support.bucket import Bucket
from tests.support.counting_proxy import CountingProxy, Hold
from tests.support.fault_actions import ACCESS_DENIED
from tests.support.mounting import Mount
from tests.support.servers import Server
from tests.support.waiting import eventually

MIB = 1 << 20
WRITES = ("PutObject", "CopyObject", "DeleteObject", "CreateMultipartUpload", "UploadPart")


@pytest.fixture
def proxy(real_server: Server) -> Iterator[CountingProxy]:
    """Each real server behind a proxy that counts."""
    with CountingProxy(real_server.endpoint_url) as running:
        yield running


def records(mount: Mount) -> list[SpoolRecord]:
    """Return the rows of the mount's journal."""
    (directory,) = mount.spool.iterdir()
    return read_records(str(directory))


def writes(proxy: CountingProxy) -> dict[str, int]:
    """Return how many requests changed the bucket, by operation."""
    counts = proxy.counts()
    return {name: counts[name] for name in WRITES if counts[name]}


def in_bucket(bucket: Bucket, key: str, body: bytes) -> bool:
    """Whether the object is there with these bytes."""
    return bucket.has(key) and bucket.get(key) == body


def test_close_does_not_wait_for_the_server(
    real_server: Server, make_mount: MakeMount, proxy: CountingProxy
) -> None:
    """While the PUT hangs, close has returned, the file can be read, and the journal lists it."""
    bucket = Bucket(real_server, real_server.fresh_bucket())
    mount = make_mount(real_server, bucket.name, "--write-back=0s", endpoint_url=proxy.endpoint_url)
    hold = Hold()
    with proxy.rule(hold, operation="PutObject"):
        (mount.path / "f").write_bytes(b"later")
        hold.wait_held()
        assert not bucket.has("f")
        assert (mount.path / "f").read_bytes() == b"later"
        (record,) = records(mount)
        assert (record.key, record.state, record.is_synced) == ("f", SpoolState.UPLOADING, True)
        hold.release()
    eventually(lambda: in_bucket(bucket, "f", b"later"))
    eventually(lambda: records(mount) == [])


def test_fsync_waits_for_the_bucket(real_server: Server, make_mount: MakeMount) -> None:
    """fsync keeps its promise in write-back mode too, and so does that of the directory."""
    bucket = Bucket(real_server, real_server.fresh_bucket())
    mount = make_mount(real_server, bucket.name, "--write-back=1h")
    descriptor = os.open(mount.path / "f", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"now")
    os.fsync(descriptor)
    assert bucket.get("f") == b"now"
    os.close(descriptor)
    (mount.path / "g").write_bytes(b"too")
    assert not bucket.has("g")
    directory = os.open(mount.path, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    assert bucket.get("g") == b"too"


def test_a_temporary_file_costs_no_request(
    real_server: Server, make_mount: MakeMount, proxy: CountingProxy
) -> None:
    """Rename, chmod, rewriting and unlink before the upload change nothing in the bucket."""
    bucket = Bucket(real_server, real_server.fresh_bucket())
    mount = make_mount(real_server, bucket.name, "--write-back=1h", endpoint_url=proxy.endpoint_url)
    proxy.clear()
    (mount.path / "a").write_bytes(b"1")
    os.rename(mount.path / "a", mount.path / "b")
    os.chmod(mount.path / "b", 0o600)
    os.utime(mount.path / "b", ns=(10**18, 10**18))
    (mount.path / "b").write_bytes(b"22")
    assert [record.key for record in records(mount)] == ["b"]
    os.unlink(mount.path / "b")
    assert records(mount) == []
    assert writes(proxy) == {}
    assert os.listdir(mount.path) == []


def test_saving_by_rename_is_one_put(
    real_server: Server, make_mount: MakeMount, proxy: CountingProxy
) -> None:
    """What editors and rsync do, a file renamed over the old one with its mode and time, is sent once."""
    bucket = Bucket(real_server, real_server.fresh_bucket())
    bucket.put("f", b"old")
    mount = make_mount(real_server, bucket.name, "--write-back=1h", endpoint_url=proxy.endpoint_url)
    assert (mount.path / "f").read_bytes() == b"old"
    proxy.clear()
    (mount.path / "f.tmp").write_bytes(b"new")
    os.chmod(mount.path / "f.tmp", 0o640)
    os.utime(mount.path / "f.tmp", ns=(10**18, 10**18))
    os.rename(mount.path / "f.tmp", mount.path / "f")
    assert (mount.path / "f").read_bytes() == b"new"
    assert bucket.get("f") == b"old"
    assert mount.stop() == Exit.OK
    assert writes(proxy) == {"PutObject": 1}
    assert bucket.files() == {"f": b"new"}
    assert bucket.metadata("f")["mtime"].startswith("1000000000")


def test_another_writer_meanwhile_is_a_conflict(real_server: Server, make_mount: MakeMount) -> None:
    """The queue overwrites nobody: the next fsync or close gets ESTALE, and the bytes wait in the spool."""
    bucket = Bucket(real_server, real_server.fresh_bucket())
    bucket.put("f", b"old")
    mount = make_mount(
        real_server, bucket.name, "--write-back=1h", expected=("was changed elsewhere", "wait for you")
    )
    descriptor = os.open(mount.path / "f", os.O_RDWR)
    os.write(descriptor, b"mine")
    twin = os.dup(descriptor)
    os.close(twin)
    bucket.put("f", b"theirs")
    with pytest.raises(OSError) as caught:
        os.fsync(descriptor)
    assert caught.value.errno == errno.ESTALE
    with pytest.raises(OSError) as caught:
        os.close(descriptor)
    assert caught.value.errno == errno.ESTALE
    assert bucket.get("f") == b"theirs"
    (record,) = records(mount)
    assert record.state is SpoolState.CONFLICT
    mount.ends_with = Exit.NOT_DRAINED
    mount.remount()
    assert (mount.path / "f").read_bytes() == b"theirs"
    mount.ends_with = Exit.OK


def test_a_failure_is_told_to_the_next_close_and_tried_again(make_mount: MakeMount, minio: Server) -> None:
    """The upload goes on by itself as soon as the server lets it; the file stays readable all along."""
    bucket = Bucket(minio, minio.fresh_bucket())
    with CountingProxy(minio.endpoint_url) as proxy:
        mount = make_mount(
            minio,
            bucket.name,
            "--write-back=0s",
            endpoint_url=proxy.endpoint_url,
            expected=("/f is not in the bucket yet",),
        )
        with proxy.rule(ACCESS_DENIED, operation="PutObject") as rule:
            (mount.path / "f").write_bytes(b"data")
            eventually(lambda: "it is tried again" in mount.log.read_text())
            descriptor = os.open(mount.path / "f", os.O_RDWR)
            with pytest.raises(PermissionError):
                os.close(descriptor)
            (record,) = records(mount)
            assert record.state is SpoolState.QUEUED
            assert record.attempts >= 1
            assert record.cause
            assert (mount.path / "f").read_bytes() == b"data"
        assert rule.injected
        eventually(lambda: in_bucket(bucket, "f", b"data"))
        assert mount.stop() == Exit.OK


def test_umount_drains(real_server: Server, make_mount: MakeMount, proxy: CountingProxy) -> None:
    """Whatever waits is in the bucket when the daemon has ended."""
    bucket = Bucket(real_server, real_server.fresh_bucket())
    mount = make_mount(real_server, bucket.name, "--write-back=1h", endpoint_url=proxy.endpoint_url)
    proxy.clear()
    bodies = {f"d/{number}": b"x" * number for number in range(30)}
    (mount.path / "d").mkdir()
    for key, body in bodies.items():
        (mount.path / key).write_bytes(body)
    assert bucket.files() == {}
    assert mount.stop() == Exit.OK
    assert bucket.files() == bodies
    assert proxy.counts()["PutObject"] == 30 + 1


def test_what_could_not_be_drained_is_sent_by_the_next_mount(make_mount: MakeMount, minio: Server) -> None:
    """The exit code and the log say so; then the names are there at once, and soon the objects."""
    bucket = Bucket(minio, minio.fresh_bucket())
    with CountingProxy(minio.endpoint_url) as proxy:
        mount = make_mount(
            minio,
            bucket.name,
            "--write-back=1h",
            endpoint_url=proxy.endpoint_url,
            expected=("failed", "/d/f is not in the bucket"),
        )
        (mount.path / "d").mkdir()
        (mount.path / "d/f").write_bytes(b"kept")
        os.chmod(mount.path / "d/f", 0o600)
        with proxy.rule(ACCESS_DENIED, operation="PutObject"):
            assert mount.stop(check=False) == Exit.NOT_DRAINED
        hold = Hold()
        with proxy.rule(hold, operation="PutObject", key="d/f"):
            mount.start()
            assert os.listdir(mount.path / "d") == ["f"]
            assert (mount.path / "d/f").read_bytes() == b"kept"
            assert (mount.path / "d/f").stat().st_mode & 0o777 == 0o600
            hold.release()
        eventually(lambda: in_bucket(bucket, "d/f", b"kept"))
        eventually(lambda: records(mount) == [])


@pytest.mark.parametrize("mode", ["--write-back=1h", "--ttl=1s"])
def test_a_killed_daemon_loses_nothing_that_was_closed(
    real_server: Server, make_mount: MakeMount, mode: str, proxy: CountingProxy
) -> None:
    """kill -9 with files in the queue: the next mount has them all, in any directory, and sends them."""
    bucket = Bucket(real_server, real_server.fresh_bucket())
    bucket.put("old", b"0123456789")
    mount = make_mount(
        real_server, bucket.name, mode, endpoint_url=proxy.endpoint_url, expected=("upload of", "failed")
    )
    bodies = {"a": b"1", "new dir/b": b"22", "old": b"01AB456789"}
    with proxy.rule(ACCESS_DENIED, operation="PutObject"):
        for key, body in bodies.items():
            path = mount.path / key
            if key == "old":
                descriptor = os.open(path, os.O_WRONLY)
                os.pwrite(descriptor, b"AB", 2)
                _close(descriptor)
                continue
            if path.parent != mount.path and not path.parent.exists():
                bucket.put("new dir/", b"")
                eventually(path.parent.exists)
            _close(_written(path, body))
        mount.kill()
    assert bucket.files() == {"old": b"0123456789"}
    mount.start()
    assert {key: (mount.path / key).read_bytes() for key in bodies} == bodies
    eventually(lambda: bucket.files() == bodies)
    eventually(lambda: records(mount) == [])


def test_a_writer_does_not_wait_for_an_upload_in_the_background(make_mount: MakeMount, minio: Server) -> None:
    """The upload gives way; the bytes of both are in the bucket in the end, and no upload is left."""
    bucket = Bucket(minio, minio.fresh_bucket())
    with CountingProxy(minio.endpoint_url) as proxy:
        mount = make_mount(
            minio, bucket.name, "--write-back=0s", "--part-size=5M", endpoint_url=proxy.endpoint_url
        )
        hold = Hold()
        with proxy.rule(hold, operation="UploadPart"):
            (mount.path / "f").write_bytes(b"x" * 11 * MIB)
            hold.wait_held()
            descriptor = os.open(mount.path / "f", os.O_WRONLY)
            writer = threading.Thread(target=os.pwrite, args=(descriptor, b"yy", 5))
            writer.start()
            hold.release()
            writer.join()
        os.close(descriptor)
        expected = b"x" * 5 + b"yy" + b"x" * (11 * MIB - 7)
        eventually(lambda: in_bucket(bucket, "f", expected))
        os.unlink(mount.path / "f")
        assert mount.stop() == Exit.OK
    assert bucket.keys() == []


def test_an_edit_of_a_file_that_waits_is_sent_once_with_its_close(
    real_server: Server, make_mount: MakeMount, proxy: CountingProxy
) -> None:
    """Meanwhile both versions are listed, one of them being written, and this host reads the edit."""
    bucket = Bucket(real_server, real_server.fresh_bucket())
    mount = make_mount(real_server, bucket.name, "--write-back=1h", endpoint_url=proxy.endpoint_url)
    proxy.clear()
    (mount.path / "f").write_bytes(b"closed")
    descriptor = os.open(mount.path / "f", os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b" and more")
    assert (mount.path / "f").read_bytes() == b"closed and more"
    assert [record.state for record in records(mount)] == [SpoolState.QUEUED, SpoolState.WRITING]
    os.close(descriptor)
    (record,) = records(mount)
    assert (record.state, record.size) == (SpoolState.QUEUED, 15)
    assert mount.stop() == Exit.OK
    assert writes(proxy) == {"PutObject": 1}
    assert bucket.files() == {"f": b"closed and more"}


def test_an_edit_that_the_spool_has_no_room_for_fails_and_what_was_closed_is_sent(
    make_mount: MakeMount, minio: Server
) -> None:
    """write and close say ENOSPC; the version before is neither lost nor held up."""
    bucket = Bucket(minio, minio.fresh_bucket())
    mount = make_mount(minio, bucket.name, "--write-back=1h", "--spool-cap=3M")
    (mount.path / "f").write_bytes(b"x" * 2 * MIB)
    descriptor = os.open(mount.path / "f", os.O_WRONLY)
    for refused in (lambda: os.pwrite(descriptor, b"y", 0), lambda: os.fsync(descriptor)):
        with pytest.raises(OSError) as caught:
            refused()
        assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError) as caught:
        os.close(descriptor)
    assert caught.value.errno == errno.ENOSPC
    (record,) = records(mount)
    assert record.state is SpoolState.QUEUED
    with open(mount.path / "f", "wb") as anew:  # nothing is copied of what is cut off
        anew.write(b"z" * MIB)
    assert mount.stop() == Exit.OK
    assert bucket.files() == {"f": b"z" * MIB}


def _written(path: Path, body: bytes) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, body)
    return descriptor


def _close(descriptor: int) -> None:
    """Close, whatever it says."""
    try:
        os.close(descriptor)
    except OSError:
        return
