"""What a real mount tells the service manager that started it, from its first answer to its end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import bare_fuse
from tests.support.counting_proxy import Close, CountingProxy
from tests.support.fault_actions import Stall
from tests.support.mounting import Mount, Watchdog
from tests.support.notify_socket import NotifySocket, notify_socket
from tests.support.servers import Server
from tests.support.waiting import eventually


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[NotifySocket]:
    """A service manager that listens."""
    with notify_socket(tmp_path) as listener:
        yield listener


def test_it_says_when_it_is_ready_and_when_it_stops(
    minio: Server, tmp_path: Path, manager: NotifySocket
) -> None:
    """Ready when the mount answers; without a watchdog no sign of life is sent."""
    bucket = minio.fresh_bucket()
    with Mount(minio, bucket, tmp_path, environment={"NOTIFY_SOCKET": manager.address}) as mount:
        ready = manager.wait_for("READY", "1")
        assert ready["STATUS"] == f"serving s3://{bucket}/ at {mount.path}"
        assert os.listdir(mount.path) == []
        mount.stop()
        manager.wait_for("STOPPING", "1")
    assert not any("WATCHDOG" in message for message in manager.messages)


def test_it_says_what_is_to_be_uploaded_and_asks_for_time_while_the_drain_gets_on(
    minio: Server, tmp_path: Path, manager: NotifySocket
) -> None:
    """As `systemctl status` shows it: pending files, a server that is away, the drain."""
    bucket = minio.fresh_bucket()
    minio.client().put_object(Bucket=bucket, Key="directory/file", Body=b"")
    with (
        CountingProxy(minio.endpoint_url) as proxy,
        Mount(
            minio,
            bucket,
            tmp_path,
            ["--write-back=1h", "--attempts=1"],
            endpoint_url=proxy.endpoint_url,
            expected=["does not answer; what needs it fails at once until it does"],
            environment={"NOTIFY_SOCKET": manager.address},
        ) as mount,
    ):
        (mount.path / "one").write_bytes(b"x" * 2048)
        manager.wait_for("STATUS", f"serving s3://{bucket}/ at {mount.path}; 1 file, 2.0 KiB to upload")
        with proxy.rule(Close()):
            while "does not answer; what needs it" not in mount.log.read_text():
                with pytest.raises(OSError, match="error"):
                    os.listdir(mount.path / "directory")
            manager.wait_for("STATUS", "1 file, 2.0 KiB to upload; the server does not answer")
        eventually(lambda: "Contents" in minio.client().list_objects_v2(Bucket=bucket, Prefix="one"))
        (mount.path / "two").write_bytes(b"x" * 3072)
        manager.wait_for("STATUS", "1 file, 3.0 KiB to upload")
        hold = Stall(of="head", seconds=8.0)
        with proxy.rule(hold, operation="PutObject"):
            os.kill(mount.pid, signal.SIGTERM)
            stopping = manager.wait_for("STOPPING", "1")
            assert stopping["STATUS"] == f"draining s3://{bucket}/ at {mount.path}; 1 file, 3.0 KiB to upload"
            assert int(stopping["EXTEND_TIMEOUT_USEC"]) >= 5_000_000
            manager.wait_for("EXTEND_TIMEOUT_USEC")
        mount.stop()
    assert minio.client().get_object(Bucket=bucket, Key="two")["Body"].read() == b"x" * 3072


def test_a_sign_of_life_comes_only_while_the_mount_answers(
    minio: Server, tmp_path: Path, manager: NotifySocket
) -> None:
    """Something that hangs at the mountpoint stops them, though the process itself is well."""
    if os.geteuid() != 0:
        pytest.skip("needs to be root to mount something that hangs")
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "10000000"}
    options = ["--operation-timeout=3s"]
    stuck = "watchdog: no sign of life from the mount"
    with Mount(
        minio, minio.fresh_bucket(), tmp_path, options, expected=[stuck], environment=environment
    ) as mount:
        manager.wait_for("WATCHDOG", "1")
        manager.wait_for("WATCHDOG", "1")
        cover = bare_fuse.mount(str(mount.path))
        try:
            watchdog = Watchdog(mount.path, 120.0)
            manager.receive_waiting()
            eventually(lambda: stuck in mount.log.read_text(), True)
            # One may have been on its way.
            late = [message for message in manager.receive_waiting() if "WATCHDOG" in message]
            assert len(late) <= 1
        finally:
            os.close(cover)
            bare_fuse.unmount(mount.path)
        watchdog.cancel()
        manager.wait_for("WATCHDOG", "1")


def test_a_watchdog_that_is_too_short_for_an_operation_is_made_longer(
    minio: Server, tmp_path: Path, manager: NotifySocket
) -> None:
    """A server that hangs may take all handlers for --operation-timeout: no reason to end the mount."""
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "10000000"}
    with Mount(minio, minio.fresh_bucket(), tmp_path, ["--operation-timeout=60s"], environment=environment):
        assert int(manager.wait_for("WATCHDOG_USEC")["WATCHDOG_USEC"]) == 124_000_000
        manager.wait_for("WATCHDOG", "1")
