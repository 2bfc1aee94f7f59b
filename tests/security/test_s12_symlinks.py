"""S-12: no link of the bucket leads out of the mount, unless that is asked for."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import s3mount
from tests.mounted.conftest import MakeMount, make_mount
from tests.support.bucket import Bucket
from tests.support.mounting import Mount
from tests.support.servers import Server

__all__ = ["make_mount"]

LINK = {"mode": str(stat.S_IFLNK | 0o777)}
SECRET = "only on this machine\n"


class Trap:
    """A mounted bucket full of links to a directory beside the mount, which has a secret in it."""

    def __init__(self, minio: Server, make_mount: MakeMount, tmp_path: Path, *options: str) -> None:
        self.bucket = Bucket(minio, minio.fresh_bucket())
        # Where make_mount puts the mountpoint: what is beside it can be told only by name.
        self.beside = tmp_path / "mount0" / "beside"
        self.secret = self.beside / "secret"
        mountpoint = tmp_path / "mount0" / "mnt"
        self.out = {
            "absolute": str(self.secret),
            "directory": str(self.beside),
            "up": "../beside/secret",
            "t/up": "../../beside/secret",
            "t/u/up": "./.././/../../beside/secret",
            "home-and-up": f"{mountpoint}/../beside/secret",
            "t/through-a-link": "../home/../beside/secret",
            "t/through-a-deeper-link": "../down/../../../beside/secret",
            "through-proc": f"/proc/self/root{self.secret}",
        }
        self.inside = {
            "home": ".",
            "down": "t/u",
            "t/near": "../file",
            "by-name": f"{mountpoint}/t/file",
            "t/u/chain": "../../home/t/near",
        }
        for name, target in (self.out | self.inside).items():
            self.bucket.put(name, os.fsencode(target), Metadata=LINK)
        self.bucket.put("nul", b"..\0", Metadata=LINK)
        for name in ("file", "t/file", "t/u/file"):
            self.bucket.put(name, b"text")
        self.mount: Mount = make_mount(minio, self.bucket.name, *options, expected=["BadAnswer"])
        self.beside.mkdir()
        self.secret.write_text(SECRET)
        self.secret.chmod(0o640)

    def untouched(self) -> tuple[str, int, int, list[str]]:
        """Return what a program that was led out may have changed or added."""
        found = self.secret.stat()
        return self.secret.read_text(), found.st_mode, found.st_uid, os.listdir(self.beside)


CALLS: dict[str, Callable[[Path], object]] = {
    "readlink": os.readlink,
    "stat": os.stat,
    "read": Path.read_bytes,
    "write": lambda path: path.write_bytes(b"changed"),
    "append": lambda path: os.open(path, os.O_WRONLY | os.O_APPEND),
    "create": lambda path: os.open(path, os.O_WRONLY | os.O_CREAT, 0o666),
    "truncate": lambda path: os.truncate(path, 0),
    "chmod": lambda path: path.chmod(0o777),
    "chown": lambda path: os.chown(path, 1234, 1234),
    "list": os.listdir,
    "create within": lambda path: (path / "new").write_bytes(b"new"),
    "path": lambda path: os.open(path, os.O_PATH),
}


def test_s12_no_call_is_led_out(make_mount: MakeMount, minio: Server, tmp_path: Path) -> None:
    """Absolute, upwards, by way of other links: each is there and a link, and EACCES is all it gives."""
    trap = Trap(minio, make_mount, tmp_path)
    before = trap.untouched()
    for name in trap.out:
        path = trap.mount.path / name
        assert stat.S_ISLNK(path.lstat().st_mode)
        for call, carry_out in CALLS.items():
            with pytest.raises(OSError) as caught:
                carry_out(path)
            assert caught.value.errno == errno.EACCES, (name, call)
    with pytest.raises(OSError) as caught:
        os.readlink(trap.mount.path / "nul")
    assert caught.value.errno == errno.EIO
    assert trap.untouched() == before


def test_s12_a_link_to_the_machines_passwords_is_not_resolvable(make_mount: MakeMount, minio: Server) -> None:
    """The example of the rule."""
    bucket = Bucket(minio, minio.fresh_bucket())
    bucket.put("shadow", b"/etc/shadow", Metadata=LINK)
    mount = make_mount(minio, bucket.name)
    for call in (os.readlink, os.stat, Path.read_bytes):
        with pytest.raises(PermissionError):
            call(mount.path / "shadow")
    assert mount.path.joinpath("shadow").lstat().st_size == len("/etc/shadow")


def test_s12_links_within_the_mount_are_followed(
    make_mount: MakeMount, minio: Server, tmp_path: Path
) -> None:
    """Relative and absolute ones, through each other: git, npm and archives have them."""
    trap = Trap(minio, make_mount, tmp_path)
    for name, target in trap.inside.items():
        assert os.readlink(trap.mount.path / name) == target
    for name in ("t/near", "by-name", "t/u/chain", "down/file", "home/home/t/near"):
        assert (trap.mount.path / name).read_text() == "text"


@pytest.mark.parametrize(
    "command",
    [
        "cp -r . {copy}",
        "cp -rL . {copy}",
        "cp -a . {copy}",
        "rsync -rL . {copy}",
        # Loops within the mount are loops: tar would go round and round.
        "tar --exclude=./home --exclude=./down -chf {copy} .",
        "chown -R 1234:1234 .",
        "chown -RL 1234:1234 .",
        "chown 1234 absolute up t/up",
        "chmod -R 777 .",
        "chmod 777 absolute up t/up",
        "touch absolute up t/through-a-link directory/new",
        "find -L . -name secret -delete",
        "rm -rf directory/ directory",
        "sed -i s/only/ONLY/ absolute up",
    ],
)
def test_s12_programs_of_roots_are_safe(
    make_mount: MakeMount, minio: Server, tmp_path: Path, command: str
) -> None:
    """Whatever they are told to do with the tree, nothing beside the mount is read or changed."""
    trap = Trap(minio, make_mount, tmp_path, "--owners=bucket")
    before, copy = trap.untouched(), tmp_path / "copy"
    subprocess.run(
        ["sh", "-c", command.format(copy=copy)], cwd=trap.mount.path, capture_output=True, timeout=60
    )
    assert trap.untouched() == before
    copied = [copy] if copy.is_file() else [path for path in copy.rglob("*") if path.is_file()]
    assert all(SECRET.encode() not in path.read_bytes() for path in copied)
    assert bool(copied) == ("{copy}" in command)


def test_s12_a_link_that_would_lead_out_is_not_made(
    make_mount: MakeMount, minio: Server, tmp_path: Path
) -> None:
    """EPERM instead of a link that nobody can read, and `s3mount explain` says what there is to choose."""
    mount = make_mount(minio)
    (mount.path / "t").mkdir()
    for name, target in (("out", "/etc/shadow"), ("up", "../x"), ("t/up", "../../x"), ("t/mid", "a/../b")):
        with pytest.raises(OSError) as caught:
            (mount.path / name).symlink_to(target)
        assert caught.value.errno == errno.EPERM
        assert not os.path.lexists(mount.path / name)
    for name, target in (("in", "t/x"), ("t/up", "../x"), ("by-name", f"{mount.path}/x")):
        (mount.path / name).symlink_to(target)
        assert os.readlink(mount.path / name) == target
    text = s3mount("explain", mount.path).stdout
    assert "symlink /out: EPERM" in text
    assert "--links=all" in text


def test_s12_with_links_none_no_link_is_followed_or_made(
    make_mount: MakeMount, minio: Server, tmp_path: Path
) -> None:
    """Not within the mount either. They are listed, renamed and removed as links."""
    trap = Trap(minio, make_mount, tmp_path, "--links=none")
    before = trap.untouched()
    for name in trap.out | trap.inside:
        path = trap.mount.path / name
        assert stat.S_ISLNK(path.lstat().st_mode)
        for call in (os.readlink, os.stat):
            with pytest.raises(PermissionError):
                call(path)
    with pytest.raises(PermissionError):
        (trap.mount.path / "new").symlink_to("file")
    (trap.mount.path / "home").rename(trap.mount.path / "moved")
    (trap.mount.path / "moved").unlink()
    assert "home" not in set(trap.bucket.keys())
    assert "--links=none" in s3mount("explain", trap.mount.path / "new").stdout
    assert trap.untouched() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to change a mount's flags")
def test_s12_with_nosymfollow_no_link_of_the_bucket_is_followed(make_mount: MakeMount, minio: Server) -> None:
    """The command of docs/security.md: a link shows as one and opens nothing; files are as before."""
    bucket = Bucket(minio, minio.fresh_bucket())
    bucket.put("link", b"/etc/passwd", Metadata=LINK)
    bucket.put("file", b"text")
    mount = make_mount(minio, bucket.name, "--links=all")
    assert (mount.path / "link").read_bytes().startswith(b"root:")
    command = ["mount", "-i", "-o", "remount,bind,nosuid,nodev,nosymfollow", str(mount.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if "nosymfollow" in done.stderr:
        pytest.skip("this mount(8) does not know nosymfollow")
    assert done.returncode == 0, done.stderr
    assert os.readlink(mount.path / "link") == "/etc/passwd"
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        (mount.path / "link").read_bytes()
    assert (mount.path / "file").read_bytes() == b"text"
    assert os.statvfs(mount.path).f_flag & os.ST_NOSUID
