"""Root's helper, at the other end of its socket: what it does, and what it is not to be talked into."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from s3mount.cli import mounter
from s3mount.errors import StartupError
from s3mount.mounter.base import MountPlan, flags_of
from s3mount.mounter.kernel import KernelMount
from s3mount.mounter.server import Server
from tests.support.mounting import mounts_below


@contextmanager
def helper(mountpoint: Path) -> Iterator[socket.socket]:
    """Give this end of the socket of one that mounts at *mountpoint*; at the end see it end."""
    plan = MountPlan(
        str(mountpoint), "s3://x/", flags_of(["nosuid", "nodev"], read_only=False), 0, 0, lets_others_in=False
    )
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    thread = threading.Thread(target=Server(its, KernelMount(plan)).run)
    thread.start()
    ours.settimeout(30)
    try:
        yield ours
    finally:
        ours.close()
        thread.join(30)
        its.close()
        assert not thread.is_alive()


def asked(connection: socket.socket, request: bytes) -> tuple[dict[str, Any], list[int]]:
    """Send *request*; return the answer and the descriptors that came with it."""
    connection.send(request)
    data, descriptors, _, _ = socket.recv_fds(connection, 4096, 4)
    return json.loads(data), descriptors


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    """An empty directory, where root may mount."""
    if os.geteuid() != 0:
        pytest.skip("needs to be root")
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    return mountpoint


@pytest.mark.parametrize(
    "request_", [b"{", b"[]", b'{"do": "rm"}', b'{"do": "can_still_write"}', b'{"do": []}', b"\xff"]
)
def test_what_it_does_not_understand_is_refused_and_it_goes_on(
    mountpoint: Path, request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the other process sends: no answer is none, and the next request has one."""
    with helper(mountpoint) as connection:
        assert "failed" in asked(connection, request_)[0]
        assert asked(connection, b'{"id": 7, "do": "tune"}')[0] == {"id": 7, "is": None}
    caplog.clear()


def test_it_mounts_once_and_unmounts_when_the_other_is_gone(mountpoint: Path) -> None:
    """The mount is there with the answer; a second one is refused, and the end of the socket is its end."""
    with helper(mountpoint) as connection:
        answer, descriptors = asked(connection, b'{"id": 1, "do": "mount"}')
        assert answer == {"is": None, "id": 1}
        assert len(descriptors) == 1
        assert mounts_below(mountpoint) == [str(mountpoint)]
        assert "failed" in asked(connection, b'{"id": 2, "do": "mount"}')[0]
        os.close(descriptors[0])
    assert mounts_below(mountpoint) == []


def test_of_other_mounts_it_says_nothing(mountpoint: Path, tmp_path: Path) -> None:
    """Before it has mounted, no descriptor of any process is one of its mount."""
    with helper(mountpoint) as connection, (tmp_path / "file").open("w") as file:
        request = {"do": "can_still_write", "pid": os.getpid(), "inode": os.fstat(file.fileno()).st_ino}
        assert asked(connection, json.dumps(request).encode())[0]["is"] is False


def test_it_takes_a_name_and_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What systemd's helper mounts is in root's own directory, and for the user that the file names."""
    monkeypatch.setattr(mounter, "CONFIGURATIONS", tmp_path)
    (tmp_path / "photos.toml").write_text(
        f'bucket = "photos"\nmountpoint = "{tmp_path}"\nrun-as = "daemon"\nowners = "mount"\n'
    )
    config = mounter._config("photos", 1)
    assert (config.bucket, config.mountpoint) == ("photos", str(tmp_path))
    for user in (0, 2):
        with pytest.raises(StartupError, match=f"it is for user daemon, and user {user} asks"):
            mounter._config("photos", user)
    for name in ("../photos", "/etc/passwd", "photos/../photos", "", "a\0b", "x" * 300):
        with pytest.raises(StartupError, match="no name of a mount"):
            mounter._config(name, 1)
    with pytest.raises(StartupError, match="cannot be read"):
        mounter._config("videos", 1)
