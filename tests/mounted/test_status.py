"""``s3mount list`` and ``status`` of a real mount: what they say is what is so."""

from __future__ import annotations

import itertools
import json
import os
import signal
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from s3mount import runtime
from s3mount.core.exits import Exit
from tests.cli.command import Outcome, as_nobody, s3mount
from tests.mounted.conftest import MakeMount
from tests.support.bucket import Bucket
from tests.support.counting_proxy import Close, CountingProxy, Hold
from tests.support.fault_actions import ACCESS_DENIED
from tests.support.mounting import Mount
from tests.support.servers import Server
from tests.support.waiting import eventually


def status_of(mount: Mount) -> dict[str, Any]:
    """Return what ``s3mount status --json`` says."""
    done = s3mount("status", mount.path, "--json")
    assert done.exit_code == 0, done.stderr
    status: dict[str, Any] = json.loads(done.stdout)
    return status


def listed(mount: Mount) -> dict[str, Any]:
    """Return what ``s3mount list --json`` says of *mount*."""
    done = s3mount("list", "--json")
    assert done.exit_code == 0, done.stderr
    (found,) = [one for one in json.loads(done.stdout) if one["mountpoint"] == str(mount.path)]
    return dict(found)


def test_a_quiet_mount_says_what_it_is(make_mount: MakeMount, real_server: Server) -> None:
    """Where it is, of what, since when, and that there is nothing to do."""
    mount = make_mount(real_server, None, "--write-back=1h", "--memory", "64M", "--spool-cap", "1G")
    (mount.path / "f").write_bytes(b"x" * 5000)
    assert (mount.path / "f").read_bytes() == b"x" * 5000
    status = status_of(mount)
    assert status["version"] == 1
    assert (status["state"], status["pid"]) == ("serving", mount.pid)
    assert status["mountpoint"] == str(mount.path)
    assert status["source"] == f"s3://{mount.bucket}/"
    assert status["endpoint_url"] == real_server.endpoint_url
    assert status["write_back_s"] == 3600
    assert status["is_read_only"] is False
    assert status["server"]["is_reachable"] is True
    assert status["server"]["honours"]["put_if_none_match"] is True
    assert status["memory"]["cap_bytes"] == 64 * 1024**2
    assert status["spool"]["cap_bytes"] == 1024**3
    assert status["spool"]["free_bytes"] > 0
    assert Path(status["spool"]["path"]).is_relative_to(mount.spool)
    assert status["errors"] == []
    assert 0 < status["uptime_s"] < 300
    (upload,) = status["uploads"]["listed"]
    assert (upload["path"], upload["key"], upload["size_bytes"]) == ("/f", "f", 5000)
    assert listed(mount)["state"] == "serving"
    text = s3mount("status", mount.path).stdout
    assert f"s3://{mount.bucket}/ at {mount.path}" in text
    assert "to upload: 1 file, 4.8 KiB" in text


def test_the_requests_are_counted(make_mount: MakeMount, real_server: Server) -> None:
    """By operation, with the bytes of contents that they moved, and with what came of them."""
    mount = make_mount(real_server)
    before = counts(status_of(mount))
    (mount.path / "f").write_bytes(b"x" * 5000)
    mount.remount()
    before = counts(status_of(mount))
    assert (mount.path / "f").read_bytes() == b"x" * 5000
    (mount.path / "g").write_bytes(b"y" * 700)
    after = counts(status_of(mount))
    assert after["GetObject"]["received_bytes"] == 5000
    puts = after["PutObject"]["made"] - before.get("PutObject", {"made": 0})["made"]
    assert puts == 1
    assert after["PutObject"]["sent_bytes"] - before.get("PutObject", {"sent_bytes": 0})["sent_bytes"] == 700
    assert all(count["failed"] == 0 for count in after.values())
    assert status_of(mount)["cache"]["misses"] == 1


def counts(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the counts by operation."""
    return {one["operation"]: one for one in status["requests"]["counts"]}


def test_a_status_costs_no_request(make_mount: MakeMount, minio: Server, proxy: CountingProxy) -> None:
    """However often it is asked for."""
    mount = make_mount(minio, endpoint_url=proxy.endpoint_url)
    before = sum(one["made"] for one in status_of(mount)["requests"]["counts"])
    for _ in range(3):
        status = status_of(mount)
        assert s3mount("status", mount.path).exit_code == 0
        assert s3mount("list").exit_code == 0
    assert sum(one["made"] for one in status["requests"]["counts"]) == before


def test_an_upload_in_parts_shows_how_far_it_is(
    make_mount: MakeMount, minio: Server, proxy: CountingProxy
) -> None:
    """The parts that the server has count as sent."""
    mount = make_mount(
        minio, None, "--part-size", "5M", "--upload-concurrency", "1", endpoint_url=proxy.endpoint_url
    )
    size = 12 * 1024**2
    hold = Hold()
    with proxy.rule(hold, operation="UploadPart", first=2):
        writer = threading.Thread(target=(mount.path / "big").write_bytes, args=(b"x" * size,))
        writer.start()
        hold.wait_held()
        (upload,) = status_of(mount)["uploads"]["listed"]
        text = s3mount("status", mount.path).stdout
        hold.release()
        writer.join()
    assert (upload["path"], upload["state"], upload["size_bytes"]) == ("/big", "uploading", size)
    assert upload["sent_bytes"] == 5 * 1024**2
    assert upload["is_open"] is True
    assert "41 %  uploading" in text
    assert status_of(mount)["uploads"]["files"] == 0


def test_what_failed_is_shown_with_what_the_server_said(
    make_mount: MakeMount, minio: Server, proxy: CountingProxy
) -> None:
    """The file waits to be tried again, and the error has all that a server's log is searched by."""
    mount = make_mount(
        minio,
        endpoint_url=proxy.endpoint_url,
        expected=["upload of /f failed", "/f is not in the bucket yet"],
    )
    with proxy.rule(ACCESS_DENIED, operation="PutObject"):
        with pytest.raises(PermissionError):
            (mount.path / "f").write_bytes(b"late")
        status = status_of(mount)
        text = s3mount("status", mount.path).stdout
    (upload,) = status["uploads"]["listed"]
    assert upload["failures"] >= 1
    assert "AccessDenied" in upload["error"]
    error = status["errors"][-1]
    assert (error["operation"], error["path"], error["error"]) == ("flush", "/f", "EACCES")
    assert (error["request"], error["key"]) == ("PutObject", "f")
    assert (error["http_status"], error["code"], error["said"]) == (403, "AccessDenied", "injected")
    assert "policy" in error["advice"]
    assert "flush /f: EACCES" in text
    eventually(lambda: status_of(mount)["uploads"]["files"], 0)


def test_a_server_that_is_gone_shows(make_mount: MakeMount, minio: Server, proxy: CountingProxy) -> None:
    """Status and list say so, at once: they do not ask it."""
    mount = make_mount(
        minio,
        None,
        "--attempts=1",
        "--negative-ttl=0",
        endpoint_url=proxy.endpoint_url,
        expected=["does not answer; what needs it fails at once until it does"],
    )
    with proxy.rule(Close()):
        for number in itertools.count():
            with pytest.raises(OSError, match="Input/output error"):
                os.stat(mount.path / f"unknown-{number}")
            if "does not answer" in mount.log.read_text():
                break
        assert status_of(mount)["server"]["is_reachable"] is False
        assert listed(mount)["state"] == "no server"
        assert "DOES NOT ANSWER" in s3mount("status", mount.path).stdout
    eventually(lambda: listed(mount)["state"], "serving")


def test_a_mount_that_drains_shows_until_its_end(
    make_mount: MakeMount, minio: Server, proxy: CountingProxy
) -> None:
    """After umount(8) it is in no table of the kernel's, and still says what is left."""
    mount = make_mount(minio, None, "--write-back=1h", endpoint_url=proxy.endpoint_url)
    (mount.path / "f").write_bytes(b"x" * 3000)
    hold = Hold()
    with proxy.rule(hold, operation="PutObject"):
        stopping = threading.Thread(target=mount.stop)
        stopping.start()
        hold.wait_held()
        try:
            status = status_of(mount)
            found = listed(mount)
        finally:
            hold.release()
            stopping.join()
    assert status["state"] == "draining"
    assert status["uploads"]["size_bytes"] == 3000
    assert (found["state"], found["files"], found["bytes"]) == ("draining", 1, 3000)
    assert "nothing is mounted" in s3mount("list").stdout or str(mount.path) not in s3mount("list").stdout


def test_the_socket_is_the_users_alone_and_goes_with_the_mount(make_mount: MakeMount, minio: Server) -> None:
    """Mode 0600 in a directory of mode 0700; another user is told nothing. No mount, no socket."""
    mount = make_mount(minio)
    socket = socket_of(mount)
    found = socket.lstat()
    assert stat.S_ISSOCK(found.st_mode)
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, os.geteuid())
    # Root's is the way in to the directories of those whom its mounts became: 0711.
    assert not stat.S_IMODE(socket.parent.lstat().st_mode) & 0o066
    other = s3mount("status", mount.path, launcher=as_nobody())
    assert other.exit_code == Exit.MOUNTPOINT
    assert "another user's; ask as that user, or as root" in other.line
    lines = s3mount("list", launcher=as_nobody()).stdout.splitlines()
    (line,) = [line for line in lines if str(mount.path) in line]
    assert "another user's" in line
    mount.stop()
    assert not socket.exists()


def socket_of(mount: Mount) -> Path:
    """Return the control socket of *mount*."""
    found = runtime.find(str(mount.path), os.geteuid())
    assert found is not None
    socket = runtime.control_socket(*found)
    assert socket is not None
    return socket


def test_a_killed_mount_is_dead_and_its_socket_goes_with_the_next(
    make_mount: MakeMount, minio: Server
) -> None:
    """`list` says dead, `status` says how to clean it up; the next mount takes the old socket away."""
    mount = make_mount(minio)
    socket = socket_of(mount)
    os.kill(mount.pid, signal.SIGKILL)
    assert mount._process is not None
    mount._process.wait()
    assert listed(mount)["state"] == "dead"
    done = s3mount("status", mount.path)
    assert done.exit_code == Exit.MOUNTPOINT
    assert "has ended; clean it up with: s3mount umount" in done.line
    mount.kill()
    assert socket.exists()
    mount.start()
    assert not socket.exists()
    assert status_of(mount)["state"] == "serving"


def test_a_stuck_process_is_said_to_be(make_mount: MakeMount, minio: Server) -> None:
    """One that is stopped answers nobody; neither command hangs for it."""
    mount = make_mount(minio)
    os.kill(mount.pid, signal.SIGSTOP)
    try:
        assert listed(mount)["state"] == "stuck"
        done = s3mount("status", mount.path)
    finally:
        os.kill(mount.pid, signal.SIGCONT)
    assert done.exit_code == Exit.MOUNTPOINT
    assert f"its process {mount.pid} does not answer (no answer within 10 s)" in done.line


def test_status_finds_the_mount_that_it_stands_in(
    make_mount: MakeMount, minio: Server, tmp_path: Path
) -> None:
    """By its own directory, by a path in it, and by a symbolic link to it; not where there is none."""
    mount = make_mount(minio)
    (mount.path / "d").mkdir()
    (tmp_path / "link").symlink_to(mount.path / "d")
    for outcome in (
        s3mount("status", "--json", cwd=mount.path / "d"),
        s3mount("status", "--json", mount.path / "d" / "no-such-file"),
        s3mount("status", "--json", tmp_path / "link"),
    ):
        assert outcome.exit_code == 0, outcome.stderr
        assert json.loads(outcome.stdout)["mountpoint"] == str(mount.path)
    done: Outcome = s3mount("status", tmp_path)
    assert (done.exit_code, done.line) == (
        Exit.MOUNTPOINT,
        f"mountpoint {tmp_path}: no s3mount is mounted there; see `s3mount list`",
    )


def test_a_directory_that_is_being_renamed_shows_how_far_it_is(
    make_mount: MakeMount, minio: Server, proxy: CountingProxy
) -> None:
    """Until the last object has its new name."""
    bucket = Bucket(minio, minio.fresh_bucket())
    bucket.put_many({f"old/{number}": b"x" for number in range(5)})
    mount = make_mount(minio, bucket.name, endpoint_url=proxy.endpoint_url)
    hold = Hold()
    with proxy.rule(hold, operation="CopyObject"):
        renaming = threading.Thread(target=(mount.path / "old").rename, args=(mount.path / "new",))
        renaming.start()
        hold.wait_held()
        (rename,) = status_of(mount)["renames"]
        text = s3mount("status", mount.path).stdout
        hold.release()
        renaming.join()
    assert (rename["old"], rename["new"], rename["phase"]) == ("old/", "new/", "copying")
    assert "old/ -> new/: copying" in text
    assert status_of(mount)["renames"] == []


def test_what_has_ended_is_listed_as_long_as_something_of_it_is_left(
    make_mount: MakeMount, minio: Server, proxy: CountingProxy
) -> None:
    """With how much that is; once it was sent there is nothing to say."""
    mount = make_mount(
        minio,
        endpoint_url=proxy.endpoint_url,
        expected=["upload of /f failed", "/f is not in the bucket; its bytes are in"],
    )
    with proxy.rule(ACCESS_DENIED, operation="PutObject"):
        with pytest.raises(PermissionError):
            (mount.path / "f").write_bytes(b"kept")
        assert mount.stop(check=False) == Exit.NOT_DRAINED
    found = listed(mount)
    assert (found["state"], found["files"], found["bytes"], found["pid"]) == ("ended", 1, 4, None)
    mount.start()
    eventually(lambda: status_of(mount)["uploads"]["files"], 0)
    mount.stop()
    assert str(mount.path) not in s3mount("list").stdout
