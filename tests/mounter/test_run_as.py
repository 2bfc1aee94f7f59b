"""A mount of root's whose process is another user: what it may, who unmounts, and whose is what."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s3mount import runtime
from s3mount.control.client import ask
from tests.support.mounting import Mount, mounts_below
from tests.support.public_python import PublicPython
from tests.support.servers import Server
from tests.support.waiting import eventually

#: A user of every machine who is nobody's.
USER = pwd.getpwnam("daemon")


@contextmanager
def run_as(server: Server, place: Path, python: PublicPython, *options: str, **more: Any) -> Iterator[Mount]:
    """Mount a fresh bucket as root, by a process that becomes USER."""
    more["environment"] = {**python.environment, **more.get("environment", {})}
    options = ("--run-as", USER.pw_name, *options)
    with Mount(server, server.fresh_bucket(), place, options, python=python.path, **more) as mount:
        yield mount


def status_of(pid: int) -> dict[str, str]:
    """Return the fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def helper_of(mount: Mount) -> int:
    """Return the process of root's beside the mount's: its only child."""
    children = Path(f"/proc/{mount.pid}/task/{mount.pid}/children").read_text().split()
    assert len(children) == 1, children
    return int(children[0])


def test_the_process_has_no_rights_and_the_mount_works(
    minio: Server, place: Path, python: PublicPython
) -> None:
    """It is another user without a capability or a way to one, who gets in and whose files are shown."""
    with run_as(minio, place, python) as mount:
        status = status_of(mount.pid)
        assert status["Uid"].split() == [str(USER.pw_uid)] * 4
        assert status["Gid"].split() == [str(USER.pw_gid)] * 4
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[name], 16) == 0, (name, status[name])
        assert status["NoNewPrivs"] == "1"
        assert status_of(helper_of(mount))["Uid"].split() == ["0"] * 4
        environment = Path(f"/proc/{mount.pid}/mountinfo").read_text()
        assert f"user_id={USER.pw_uid}" in environment
        as_user = ["setpriv", f"--reuid={USER.pw_uid}", f"--regid={USER.pw_gid}", "--clear-groups"]
        file = mount.path / "sea.txt"
        subprocess.run([*as_user, "sh", "-c", f"echo waves > {file}"], check=True, timeout=60)
        stat = [*as_user, "stat", "-c", "%u %g", file]
        said = subprocess.run(stat, capture_output=True, text=True, timeout=60)
        assert said.stdout.split() == [str(USER.pw_uid), str(USER.pw_gid)]
        body = minio.client().get_object(Bucket=mount.bucket, Key="sea.txt")["Body"].read()
        assert body == b"waves\n"
        assert {path.stat().st_uid for path in mount.spool.rglob("*")} == {USER.pw_uid}
    assert mounts_below(place) == []


def test_what_is_killed_is_unmounted_at_once(minio: Server, place: Path, python: PublicPython) -> None:
    """After SIGKILL of its process there is an empty directory, not ENOTCONN: root's helper unmounts."""
    with run_as(minio, place, python, "--allow-other") as mount:
        (mount.path / "sea.txt").write_text("waves")
        helper = helper_of(mount)
        os.kill(mount.pid, signal.SIGKILL)
        eventually(lambda: mounts_below(place), [])
        assert os.listdir(mount.path) == []
        eventually(lambda: Path(f"/proc/{helper}").exists(), False)
        mount.kill()


def test_signals_unmount_and_the_helper_outlives_them(
    minio: Server, place: Path, python: PublicPython
) -> None:
    """Ctrl-C and systemctl reach every process of a group: the helper waits for the end of the drain."""
    with run_as(minio, place, python, "--allow-other", "--write-back=1h") as mount:
        (mount.path / "sea.txt").write_text("waves")
        helper = helper_of(mount)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(helper, number)
        os.kill(mount.pid, signal.SIGTERM)
        eventually(lambda: mounts_below(place), [])
        eventually(lambda: Path(f"/proc/{helper}").exists(), False)
        assert minio.client().get_object(Bucket=mount.bucket, Key="sea.txt")["Body"].read() == b"waves"
        mount.stop()


def test_a_shell_uploads_its_output_once(minio: Server, place: Path, python: PublicPython) -> None:
    """Whether a caller has another descriptor that can write is seen, though the caller is another user's."""
    with run_as(minio, place, python, "--allow-other") as mount:
        found = runtime.find(str(mount.path), USER.pw_uid)
        assert found is not None
        socket = runtime.control_socket(*found)
        assert socket is not None

        def puts() -> int:
            counts = ask(socket, "status", timeout_s=10)["status"]["requests"]["counts"]
            return sum(one["made"] for one in counts if one["operation"] == "PutObject")

        before = puts()
        script = "for i in 1 2 3 4 5; do cat /dev/null; echo $i; done"
        subprocess.run(["sh", "-c", f"({script}) > {mount.path}/log"], check=True, timeout=60)
        assert puts() - before == 1


def test_keys_of_roots_reach_it_and_are_read_anew(minio: Server, place: Path, python: PublicPython) -> None:
    """--credentials-file may be root's alone: the helper hands a copy over, and later another."""
    keys = place / "keys"
    keys.touch(mode=0o600)
    text = f"[default]\naws_access_key_id = {minio.access_key}\naws_secret_access_key = {minio.secret_key}\n"
    keys.write_text(text)
    no_keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    options = ("--allow-other", "--credentials-file", str(keys))
    with run_as(minio, place, python, *options, environment=no_keys, expected=["upload of"]) as mount:
        (mount.path / "sea.txt").write_text("waves")
        keys.write_text(text.replace(minio.secret_key, "wrong"))
        size = mount.log.stat().st_size
        os.kill(mount.pid, signal.SIGHUP)
        eventually(lambda: b"SIGHUP" in mount.log.read_bytes()[size:], True)

        def writes() -> str:
            try:
                (mount.path / "more.txt").write_text("waves")
            except OSError as error:
                return type(error).__name__
            return ""

        eventually(writes, "PermissionError")
        keys.write_text(text)
        os.kill(mount.pid, signal.SIGHUP)
        eventually(writes, "")


def test_a_wrong_bucket_fails_before_anything_is_mounted(
    minio: Server, place: Path, python: PublicPython
) -> None:
    """In one line, by a process that had no rights any more when it heard of it."""
    (place / "mnt").mkdir()
    command = [
        str(python.path),
        "-m",
        "s3mount",
        "mount",
        "no-such-bucket-here",
        str(place / "mnt"),
        "--run-as",
        USER.pw_name,
    ]
    command += ["--endpoint-url", minio.endpoint_url, "--spool-dir", str(place / "spool")]
    environment = {
        **os.environ,
        **python.environment,
        **minio.environment(),
        "STATE_DIRECTORY": str(place / "state"),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 12
    assert "no-such-bucket-here" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert mounts_below(place) == []


def test_a_user_that_is_not_there_is_named(tmp_path: Path) -> None:
    """--run-as takes users of this machine."""
    command = [
        sys.executable,
        "-m",
        "s3mount",
        "mount",
        "some-bucket",
        str(tmp_path),
        "--run-as",
        "nobody-of-that-name",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stderr == (
        "s3mount: --run-as nobody-of-that-name: there is no such user; `s3mount install` makes s3mount\n"
    )


def test_root_works_in_its_spool_and_leaves_it_to_it(
    minio: Server, place: Path, python: PublicPython
) -> None:
    """`sudo s3mount spool push` while nothing is mounted; the next mount goes on in the same spool."""
    options = ("--allow-other", "--write-back=1h", "--drain-timeout=0s")
    environment = {**os.environ, **minio.environment(), "STATE_DIRECTORY": str(place / "state")}
    with run_as(minio, place, python, *options, expected=["is not in the bucket"]) as mount:
        (mount.path / "sea.txt").write_text("waves")
        mount.ends_with = 30
        mount.stop()
        said = [sys.executable, "-m", "s3mount", "spool", "list", "--spool-dir", str(mount.spool)]
        listed = subprocess.run(said, env=environment, capture_output=True, text=True, timeout=60)
        assert "sea.txt" in listed.stdout, listed.stderr
        push = [sys.executable, "-m", "s3mount", "spool", "push", "--all", "--spool-dir", str(mount.spool)]
        pushed = subprocess.run(push, env=environment, capture_output=True, text=True, timeout=60)
        assert pushed.returncode == 0, pushed.stderr
        assert minio.client().get_object(Bucket=mount.bucket, Key="sea.txt")["Body"].read() == b"waves"
        owners = {path.stat().st_uid for path in mount.spool.glob("*/*")}
        assert owners == {USER.pw_uid}
        mount.start()
        assert (mount.path / "sea.txt").read_text() == "waves"
        mount.ends_with = 0
