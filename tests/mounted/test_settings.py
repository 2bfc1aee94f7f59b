"""``s3mount set`` and SIGHUP on a real mount: what they change is so, without mounting again."""

from __future__ import annotations

import errno
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from s3mount.core.exits import Exit
from tests.cli.command import s3mount
from tests.mounted.conftest import MakeMount
from tests.mounted.test_status import status_of
from tests.support.mounting import Mount, Watchdog
from tests.support.servers import Server
from tests.support.waiting import eventually

#: Makes the terminal on standard input that of the session, and becomes Python with the other arguments.
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


def changed(mount: Mount, *arguments: str) -> dict[str, Any]:
    """Run ``s3mount set``; return what it says as JSON."""
    done = s3mount("set", mount.path, *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_caps_and_the_log_level_change_at_once(make_mount: MakeMount, minio: Server) -> None:
    """The status shows the caps, a file that is too large is refused, and the log has more lines."""
    expected = ["/g was closed for the last time and is not in the bucket"]
    mount = make_mount(minio, None, "--memory=64M", "--spool-free=1M", expected=expected)
    (mount.path / "f").write_bytes(os.urandom(9 << 20))
    assert len((mount.path / "f").read_bytes()) == 9 << 20
    done = s3mount("set", mount.path, "memory=16M", "spool-cap=4M", "log-level=debug")
    assert done.stdout.splitlines() == [
        "s3mount: memory is 16 MiB from now on, and was 64 MiB",
        "s3mount: spool-cap is 4 MiB from now on, and was none",
        "s3mount: log-level is debug from now on, and was info",
    ]
    status = status_of(mount)
    assert status["spool"]["cap_bytes"] == 4 << 20
    assert status["memory"]["cap_bytes"] == 16 << 20
    assert status["memory"]["used_bytes"] <= 16 << 20
    with pytest.raises(OSError) as caught, open(mount.path / "g", "wb", buffering=0) as file:
        for _ in range(6):
            file.write(bytes(1 << 20))
    assert caught.value.errno == errno.ENOSPC
    assert len((mount.path / "f").read_bytes()) == 9 << 20
    assert " DEBUG " in mount.log.read_text()
    changed(mount, "spool-cap=none", "memory=128M")
    (mount.path / "g").write_bytes(bytes(6 << 20))
    assert status_of(mount)["memory"]["cap_bytes"] == 128 << 20


def test_what_cannot_be_changed_is_named(make_mount: MakeMount, minio: Server) -> None:
    """And the rest of the line is not carried out either."""
    mount = make_mount(minio)
    done = s3mount("set", mount.path, "ttl=1m", "part-size=8M")
    assert done.exit_code == Exit.FAILURE
    assert "part-size: it cannot be changed while it is mounted" in done.line
    assert "from now on" not in mount.log.read_text()


def test_a_shorter_ttl_shows_what_others_stored(make_mount: MakeMount, minio: Server) -> None:
    """Also of what was believed for an hour before."""
    mount = make_mount(minio, None, "--ttl=1h", "--negative-ttl=1h")
    assert os.listdir(mount.path) == []
    minio.client().put_object(Bucket=mount.bucket, Key="new", Body=b"text")
    assert os.listdir(mount.path) == []
    assert changed(mount, "ttl=0", "negative-ttl=0")["changed"][0]["was"] == "60m"
    assert os.listdir(mount.path) == ["new"]


def test_sighup_reads_the_configuration_again(make_mount: MakeMount, minio: Server, tmp_path: Path) -> None:
    """What can be changed is; the rest is in the log, by name."""
    path = tmp_path / "photos.toml"
    path.write_text('spool-cap = "1G"\n')
    expected = ["read-only cannot be changed while it is mounted", "the configuration was not taken"]
    mount = make_mount(minio, None, "--config", str(path), expected=expected)
    assert status_of(mount)["spool"]["cap_bytes"] == 1 << 30
    path.write_text('spool-cap = "2G"\nread-only = true\n')
    os.kill(mount.pid, signal.SIGHUP)
    eventually(lambda: status_of(mount)["spool"]["cap_bytes"] == 2 << 30)
    eventually(lambda: expected[0] in mount.log.read_text())
    (mount.path / "f").write_bytes(b"still writable")
    path.write_text('spool-cap = "3G"\nmemmory = 1\n')
    os.kill(mount.pid, signal.SIGHUP)
    eventually(lambda: f"{path}:2: memmory: there is no such option" in mount.log.read_text())
    assert status_of(mount)["spool"]["cap_bytes"] == 2 << 30
    assert changed(mount, "spool-cap=5G")["changed"]


def test_credentials_are_looked_for_again(make_mount: MakeMount, minio: Server, tmp_path: Path) -> None:
    """Without waiting for the server to refuse the old ones."""
    path = tmp_path / "keys"

    def write(access_key: str, secret_key: str) -> None:
        text = f"[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n"
        path.touch(mode=0o600)
        path.write_text(text)

    write(minio.access_key, minio.secret_key)
    mount = make_mount(minio, None, "--credentials-file", str(path), "--ttl=0")
    assert changed(mount, "--reload") == {"changed": [], "kept": [], "has_new_credentials": False}
    write("AKIAUNKNOWN", "secret-of-nobody")
    assert changed(mount, "--reload")["has_new_credentials"] is True
    with pytest.raises(PermissionError):
        os.listdir(mount.path)
    write(minio.access_key, minio.secret_key)
    done = s3mount("set", mount.path, "--reload")
    assert done.stdout == "s3mount: other credentials were found, and are used from now on\n"
    assert os.listdir(mount.path) == []


def test_limits_hold_and_can_be_lifted(make_mount: MakeMount, minio: Server) -> None:
    """Sending and reading take as long as the limit says, in the whole; without one they do not wait."""
    mount = make_mount(minio, None, "--upload-limit=2M", "--download-limit=2M", "--part-size=5M")
    began = time.monotonic()
    (mount.path / "first").write_bytes(os.urandom(4 << 20))
    (mount.path / "second").write_bytes(b"x")
    # The second begins when the first has been paid for: 4 MiB less the second that may go at once.
    assert time.monotonic() - began >= 1.0
    assert s3mount("evict", mount.path).exit_code == 0
    assert len((mount.path / "first").read_bytes()) == 4 << 20
    assert (mount.path / "second").read_bytes() == b"x"
    answer = changed(mount, "upload-limit=none", "download-limit=5M", "requests-limit=100")
    assert [one["now"] for one in answer["changed"]] == ["none", "5 MiB", "100"]
    (mount.path / "third").write_bytes(os.urandom(4 << 20))


def test_a_closed_terminal_unmounts_and_drains(minio: Server, tmp_path: Path) -> None:
    """SIGHUP means that then, as ever, and what was written is sent first."""
    mountpoint, log, bucket = tmp_path / "mnt", tmp_path / "log", minio.fresh_bucket()
    mountpoint.mkdir()
    master, slave = pty.openpty()
    daemon = subprocess.Popen(
        [
            *(sys.executable, "-c", TAKE_TERMINAL, "-m", "s3mount", "mount", bucket, mountpoint),
            *("--foreground", "--write-back=1h", "--endpoint-url", minio.endpoint_url),
            *("--log-file", log, "--spool-dir", tmp_path / "spool"),
        ],
        env={**os.environ, **minio.environment(), "XDG_STATE_HOME": str(tmp_path)},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    watchdog = None
    try:
        eventually(lambda: b"mounted s3://" in log.read_bytes())
        watchdog = Watchdog(mountpoint, 120.0)
        (mountpoint / "f").write_bytes(b"text")
        os.kill(daemon.pid, signal.SIGHUP)
        eventually(lambda: b"SIGHUP: reading the configuration" in log.read_bytes())
        assert daemon.poll() is None
        os.close(master)
        assert daemon.wait(60) == 0
        watchdog.cancel()
        watchdog = None
    finally:
        if watchdog is not None:
            watchdog.cancel()
        daemon.kill()
        daemon.wait()
        subprocess.run(["umount", "-l", str(mountpoint)], capture_output=True)
    assert minio.client().get_object(Bucket=bucket, Key="f")["Body"].read() == b"text"
