"""S-14: whoever can write to the bucket does not say whose a file is here, unless that is asked for."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.mounted.conftest import MakeMount, make_mount
from tests.security.others import NOBODY, as_other, let_others_to
from tests.support.bucket import Bucket
from tests.support.servers import Server

__all__ = ["make_mount"]

CLAIMS = {"roots": ("0", "0"), "anothers": (str(NOBODY), str(NOBODY)), "half": ("0", "4242")}


@pytest.fixture
def bucket(minio: Server) -> Bucket:
    """Files, a directory and a link that say whose they are, in the spellings of several tools."""
    bucket = Bucket(minio, minio.fresh_bucket())
    for name, (uid, gid) in CLAIMS.items():
        bucket.put(name, b"x", Metadata={"uid": uid, "gid": gid, "mode": str(stat.S_IFREG | 0o600)})
    bucket.put("gsutil", b"x", Metadata={"goog-reserved-posix-uid": "0", "goog-reserved-posix-gid": "0"})
    bucket.put("s3cmd", b"x", Metadata={"s3cmd-attrs": "uid:0/gid:0/mode:33152"})
    bucket.put("directory/", b"", Metadata={"uid": "0", "gid": "0", "mode": str(stat.S_IFDIR | 0o700)})
    bucket.put("link", b"roots", Metadata={"uid": "0", "gid": "0", "mode": str(stat.S_IFLNK | 0o777)})
    return bucket


def owners_of(top: Path) -> dict[str, tuple[int, int]]:
    """Return uid and gid of everything in *top*, by name."""
    return {path.name: (path.lstat().st_uid, path.lstat().st_gid) for path in top.iterdir()}


def test_s14_every_file_is_the_mounts_owners(make_mount: MakeMount, minio: Server, bucket: Bucket) -> None:
    """By stat and by ls, from a LIST and from a HEAD, before and after it was opened."""
    mount = make_mount(minio, bucket.name, "--uid=1234", "--gid=2345", "--attributes=exact")
    names = {*CLAIMS, "gsutil", "s3cmd", "directory", "link"}
    assert owners_of(mount.path) == dict.fromkeys(names, (1234, 2345))
    assert (mount.path / "roots").read_bytes() == b"x"
    with (mount.path / "roots").open("r+b") as file:
        assert os.fstat(file.fileno()).st_uid == 1234
        file.write(b"y")
    assert owners_of(mount.path) == dict.fromkeys(names, (1234, 2345))


def test_s14_nobody_is_let_in_by_what_the_bucket_says(
    make_mount: MakeMount, minio: Server, bucket: Bucket
) -> None:
    """A file of mode 0600 that says it is another user's opens for the mount's owner alone."""
    mount = make_mount(minio, bucket.name, "--allow-other")
    let_others_to(mount.path / "f")
    assert "Permission denied" in as_other("cat", mount.path / "anothers").stderr
    assert "not permitted" in as_other("chmod", "644", mount.path / "anothers").stderr
    assert (mount.path / "anothers").read_bytes() == b"x"


def test_s14_what_others_stored_is_neither_believed_nor_lost(
    make_mount: MakeMount, minio: Server, bucket: Bucket
) -> None:
    """chmod, a write and a rename keep it for those who do believe it; chown(2) cannot change it."""
    mount = make_mount(minio, bucket.name, "--uid=1234", "--gid=2345")
    path = mount.path / "half"
    path.chmod(0o640)
    with path.open("ab") as file:
        file.write(b"more")
    path.rename(mount.path / "renamed")
    with pytest.raises(PermissionError):
        os.chown(mount.path / "renamed", 0, -1)
    os.chown(mount.path / "renamed", 1234, 2345)
    stored = bucket.metadata("renamed")
    assert (stored["uid"], stored["gid"], stored["mode"]) == ("0", "4242", str(stat.S_IFREG | 0o640))


def test_s14_who_asks_for_the_buckets_owners_gets_them(
    make_mount: MakeMount, minio: Server, bucket: Bucket
) -> None:
    """--owners=bucket: each file is whose it says, and chown(2) is stored."""
    mount = make_mount(minio, bucket.name, "--owners=bucket", "--uid=1234", "--gid=2345")
    found = owners_of(mount.path)
    assert {name: found[name] for name in CLAIMS} == {
        name: (int(uid), int(gid)) for name, (uid, gid) in CLAIMS.items()
    }
    assert found["gsutil"] == found["s3cmd"] == found["directory"] == found["link"] == (0, 0)
    if os.geteuid() == 0:
        os.chown(mount.path / "roots", 4321, -1)
        assert bucket.metadata("roots")["uid"] == "4321"
