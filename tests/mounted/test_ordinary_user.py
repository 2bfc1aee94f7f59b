"""An ordinary user mounts through fusermount3, without root doing anything."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3mount.core.exits import Exit
from tests.support.mounting import Watchdog, mounts_below
from tests.support.servers import Server

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def fuse_for_everybody() -> Iterator[None]:
    """Give /dev/fuse the mode that udev gives it on every ordinary system; containers often lack it."""
    old = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
    os.chmod("/dev/fuse", 0o666)
    yield
    os.chmod("/dev/fuse", old)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home directory of nobody's, with a mountpoint; nothing is mounted there afterwards."""
    home = tmp_path / "home"
    (home / "mnt").mkdir(parents=True)
    for path in (home, home / "mnt"):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    # pytest keeps its directories to root.
    opened = [parent for parent in home.parents if stat.S_IMODE(parent.stat().st_mode) & 0o001 == 0]
    for parent in opened:
        parent.chmod(stat.S_IMODE(parent.stat().st_mode) | 0o011)
    yield home
    subprocess.run(["umount", "-l", str(home / "mnt")], capture_output=True)
    assert mounts_below(home) == []


def as_nobody(server: Server, home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run *command* as nobody.

    The interpreter may lie in root's home, so the one capability that the process keeps is to read
    anything; it gives no right to write or to mount.
    """
    setpriv = (
        "setpriv",
        f"--reuid={NOBODY.pw_uid}",
        f"--regid={NOBODY.pw_gid}",
        "--clear-groups",
        "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=-all,+dac_read_search",
        "--bounding-set=-all,+dac_read_search,+sys_admin,+setuid,+setgid",
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        **server.environment(),
    }
    return subprocess.run(
        [*setpriv, *command], env=environment, cwd="/", capture_output=True, text=True, timeout=60
    )


def s3mount(server: Server, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run s3mount as nobody."""
    return as_nobody(server, home, sys.executable, "-m", "s3mount", *arguments)


def test_an_ordinary_user_mounts_works_and_unmounts(
    minio: Server, home: Path, fuse_for_everybody: None
) -> None:
    """Mount returns when it answers, files belong to the user, root is kept out, umount drains."""
    bucket, mountpoint = minio.fresh_bucket(), home / "mnt"
    done = s3mount(minio, home, "mount", bucket, str(mountpoint), "--endpoint-url", minio.endpoint_url)
    assert done.returncode == Exit.OK, done.stderr
    watchdog = Watchdog(mountpoint, 60)
    try:
        script = f"cd {mountpoint} && echo text > f && cat f && stat -c '%U %a' f && chmod 600 f && mkdir d"
        worked = as_nobody(minio, home, "bash", "-c", script)
        assert worked.stdout == "text\nnobody 644\n", worked.stderr
        with pytest.raises(PermissionError):
            os.listdir(mountpoint)  # not even root, without allow_other or allow_root
        ended = s3mount(minio, home, "umount", str(mountpoint))
        assert ended.returncode == Exit.OK, ended.stderr
    finally:
        watchdog.cancel()
    keys = [one["Key"] for one in minio.client().list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys == ["d/", "f"]
