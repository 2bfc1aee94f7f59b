"""From the mount to its end: failures of the store, signals, drains, and what is kept."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from s3mount.core.exits import Exit
from tests.mounted.conftest import MakeMount
from tests.support.counting_proxy import CountingProxy, Hold
from tests.support.fault_actions import ACCESS_DENIED
from tests.support.mounting import CONNECTIONS, Mount, connection_number
from tests.support.servers import Server


def body_of(mount: Mount, key: str) -> bytes:
    """Return the object's bytes as the server has them."""
    answer = mount.server.client().get_object(Bucket=mount.bucket, Key=key)
    return bytes(answer["Body"].read())


def write(path: Path, data: bytes) -> None:
    """Write and close, so that a failure of close(2) raises."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def test_close_returns_the_servers_refusal_and_the_old_object_stays(
    make_mount: MakeMount, minio: Server, proxy: CountingProxy
) -> None:
    """A 403 on PUT is EACCES from close(2); the old object is intact and the new bytes are in the spool."""
    mount = make_mount(minio, endpoint_url=proxy.endpoint_url, expected=["upload of /f failed"])
    write(mount.path / "f", b"old")
    with proxy.rule(ACCESS_DENIED, operation="PutObject"):
        with pytest.raises(PermissionError):
            write(mount.path / "f", b"new bytes")
        assert body_of(mount, "f") == b"old"
        kept = [path.read_bytes() for path in mount.spool.rglob("*") if path.is_file()]
        assert b"new bytes" in kept
    # This host goes on to see what it wrote, and the next close of the file tries again.
    descriptor = os.open(mount.path / "f", os.O_RDONLY)
    assert os.read(descriptor, 100) == b"new bytes"
    os.close(descriptor)
    assert body_of(mount, "f") == b"new bytes"


def test_a_refused_new_file_leaves_no_object(
    make_mount: MakeMount, minio: Server, proxy: CountingProxy
) -> None:
    """No empty stub appears in the bucket for a file whose upload is refused."""
    mount = make_mount(minio, endpoint_url=proxy.endpoint_url, expected=["upload of /new failed"])
    with proxy.rule(ACCESS_DENIED, operation="PutObject"):
        with pytest.raises(PermissionError):
            write(mount.path / "new", b"bytes")
        assert "Contents" not in minio.client().list_objects_v2(Bucket=mount.bucket)
    os.unlink(mount.path / "new")
    assert os.listdir(mount.path) == []


def test_fsync_returns_the_servers_refusal(
    make_mount: MakeMount, minio: Server, proxy: CountingProxy
) -> None:
    """fsync(2) reports a failed upload, and a later one that works returns 0."""
    mount = make_mount(minio, endpoint_url=proxy.endpoint_url, expected=["upload of /f failed"])
    descriptor = os.open(mount.path / "f", os.O_WRONLY | os.O_CREAT)
    try:
        os.write(descriptor, b"x")
        with proxy.rule(ACCESS_DENIED, operation="PutObject"), pytest.raises(PermissionError):
            os.fsync(descriptor)
        os.fsync(descriptor)
        assert body_of(mount, "f") == b"x"
    finally:
        os.close(descriptor)


def test_umount_tries_failed_uploads_once_more(
    make_mount: MakeMount, minio: Server, proxy: CountingProxy
) -> None:
    """What could not be uploaded at close is in the bucket after the unmount."""
    mount = make_mount(minio, endpoint_url=proxy.endpoint_url, expected=["upload of /f failed"])
    with proxy.rule(ACCESS_DENIED, operation="PutObject"), pytest.raises(PermissionError):
        write(mount.path / "f", b"late")
    assert mount.stop() == Exit.OK
    assert body_of(mount, "f") == b"late"


def test_umount_says_what_it_leaves(make_mount: MakeMount, minio: Server, proxy: CountingProxy) -> None:
    """An unmount that cannot drain exits with its own code, names the file, and keeps its bytes."""
    mount = make_mount(
        minio,
        endpoint_url=proxy.endpoint_url,
        expected=["upload of /f failed", "/f is not in the bucket; its bytes are in"],
    )
    with proxy.rule(ACCESS_DENIED, operation="PutObject"):
        with pytest.raises(PermissionError):
            write(mount.path / "f", b"kept")
        assert mount.stop(check=False) == Exit.NOT_DRAINED
    mount.check_log()
    assert "/f is not in the bucket; its bytes are in" in mount.log.read_text()
    assert b"kept" in [path.read_bytes() for path in mount.spool.rglob("*") if path.is_file()]


def test_sigterm_uploads_what_is_open_and_unmounts(make_mount: MakeMount, real_server: Server) -> None:
    """SIGTERM puts even a file that is still open into the bucket before the daemon ends."""
    mount = make_mount(real_server)
    descriptor = os.open(mount.path / "open", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"unfinished")
    os.kill(mount.pid, signal.SIGTERM)
    try:
        assert mount.stop() == Exit.OK
    finally:
        with pytest.raises(OSError, match=f"Errno {errno.ENOTCONN}|Errno {errno.ECONNABORTED}"):
            os.close(descriptor)
    assert body_of(mount, "open") == b"unfinished"


def test_a_second_sigterm_does_not_wait(make_mount: MakeMount, minio: Server, proxy: CountingProxy) -> None:
    """While the drain hangs, a second SIGTERM ends the daemon; the bytes stay in the spool."""
    mount = make_mount(
        minio,
        endpoint_url=proxy.endpoint_url,
        expected=["not waiting for uploads", "is not in the bucket", "upload of /f failed", "was closed"],
    )
    descriptor = os.open(mount.path / "f", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"held")
    hold = Hold()
    with proxy.rule(hold, operation="PutObject"):
        os.kill(mount.pid, signal.SIGTERM)
        hold.wait_held()
        os.kill(mount.pid, signal.SIGTERM)
        waiting = threading.Thread(target=hold.release)
        waiting.start()
        assert mount.stop(check=False) in (Exit.OK, Exit.NOT_DRAINED)
        waiting.join()
    with pytest.raises(OSError):
        os.close(descriptor)


def test_a_killed_daemon_leaves_the_old_object(make_mount: MakeMount, real_server: Server) -> None:
    """kill -9 in the middle of a write: the object is what it was, and a new mount works."""
    mount = make_mount(real_server, expected=["1 file(s) of an earlier mount wait for you in"])
    write(mount.path / "f", b"old")
    descriptor = os.open(mount.path / "f", os.O_WRONLY | os.O_TRUNC)
    os.write(descriptor, b"half")
    mount.kill()
    with pytest.raises(OSError):
        os.close(descriptor)
    assert body_of(mount, "f") == b"old"
    mount.start()
    assert (mount.path / "f").read_bytes() == b"old"
    assert "1 file(s) of an earlier mount wait for you in" in mount.log.read_text()


def test_a_read_only_mount_changes_nothing(make_mount: MakeMount, real_server: Server) -> None:
    """--read-only: EROFS for every change, and reads work."""
    bucket = real_server.fresh_bucket()
    real_server.client().put_object(Bucket=bucket, Key="d/f", Body=b"text")
    mount = make_mount(real_server, bucket, "--read-only")
    assert (mount.path / "d" / "f").read_bytes() == b"text"
    changes = (
        lambda: write(mount.path / "g", b""),
        lambda: write(mount.path / "d" / "f", b""),
        lambda: os.unlink(mount.path / "d" / "f"),
        lambda: os.mkdir(mount.path / "e"),
        lambda: os.rmdir(mount.path / "d"),
        lambda: os.rename(mount.path / "d", mount.path / "e"),
        lambda: os.symlink("x", mount.path / "l"),
        lambda: os.chmod(mount.path / "d" / "f", 0o600),
        lambda: os.truncate(mount.path / "d" / "f", 0),
    )
    for change in changes:
        with pytest.raises(OSError) as caught:
            change()
        assert caught.value.errno == errno.EROFS


def test_a_prefix_is_the_whole_world_of_its_mount(make_mount: MakeMount, real_server: Server) -> None:
    """BUCKET/PREFIX shows what lies under the prefix, and writes there."""
    bucket = real_server.fresh_bucket()
    client = real_server.client()
    client.put_object(Bucket=bucket, Key="in/side", Body=b"1")
    client.put_object(Bucket=bucket, Key="outside", Body=b"2")
    mount = make_mount(real_server, f"{bucket}/in")
    assert os.listdir(mount.path) == ["side"]
    write(mount.path / "more", b"3")
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert sorted(keys) == ["in/more", "in/side", "outside"]


def run_mount(server: Server, *arguments: str, base: Path) -> subprocess.CompletedProcess[str]:
    """Run ``s3mount mount`` as a user does, to its end."""
    mountpoint = base / "mnt"
    mountpoint.mkdir()
    environment = {**os.environ, **server.environment(), "XDG_STATE_HOME": str(base / "state")}
    command = [sys.executable, "-m", "s3mount", "mount", *arguments, str(mountpoint)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("no-such-bucket", "--endpoint-url", "{url}"), Exit.NO_SUCH_BUCKET, 'bucket "no-such-bucket"'),
        (("any", "--endpoint-url", "http://127.0.0.1:9"), Exit.STORE_UNREACHABLE, "connection refused"),
    ],
    ids=["no such bucket", "unreachable"],
)
def test_a_mount_that_cannot_work_fails_in_one_line(
    minio: Server, tmp_path: Path, arguments: tuple[str, ...], code: int, text: str
) -> None:
    """`s3mount mount` returns after the check, with one line on stderr and the code for the cause."""
    done = run_mount(minio, *(part.format(url=minio.endpoint_url) for part in arguments), base=tmp_path)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("s3mount: ")
    assert len(done.stderr.splitlines()) == 1
    assert text in done.stderr


def test_root_widens_the_kernels_read_ahead(make_mount: MakeMount, minio: Server) -> None:
    """Mounted by root, reads come as 1 MiB requests and 64 of them may wait, eight times fewer per GiB."""
    mount = make_mount(minio)
    number = connection_number(mount.path)
    assert Path(f"/sys/class/bdi/0:{number}/read_ahead_kb").read_text().strip() == "1024"
    assert (CONNECTIONS / number / "max_background").read_text().strip() == "64"


def test_what_the_probe_has_stored_is_gone_after_sigterm(
    minio: Server, proxy: CountingProxy, tmp_path: Path
) -> None:
    """A mount that is stopped before it is up leaves nothing in the bucket, and ends as SIGTERM ends it."""
    bucket = minio.fresh_bucket()
    (tmp_path / "mnt").mkdir()
    command = [sys.executable, "-m", "s3mount", "mount", bucket, str(tmp_path / "mnt"), "--foreground"]
    hold = Hold()
    with proxy.rule(hold, operation="UploadPartCopy", first=1, last=1):
        daemon = subprocess.Popen(
            [*command, "--endpoint-url", proxy.endpoint_url],
            env={**os.environ, **minio.environment(), "XDG_STATE_HOME": str(tmp_path / "state")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            hold.wait_held()
            client = minio.client()
            assert client.list_objects_v2(Bucket=bucket)["KeyCount"] > 0
            daemon.send_signal(signal.SIGTERM)
            hold.release()
            output, _ = daemon.communicate(timeout=60)
        finally:
            hold.release()
            daemon.kill()
            daemon.wait()
    assert daemon.returncode == -signal.SIGTERM, output
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert client.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    client.close()
    assert not os.path.ismount(tmp_path / "mnt")
