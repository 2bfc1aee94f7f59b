"""S-10: whoever can write to the bucket hands out no privileges here: no set-uid bit, no device."""

from __future__ import annotations

import stat

import pytest

from tests.mounted.conftest import MakeMount, make_mount
from tests.support.bucket import Bucket
from tests.support.servers import Server

__all__ = ["make_mount"]


def test_s10_no_special_bits_and_no_special_files(make_mount: MakeMount, minio: Server) -> None:
    """From the bucket they are not believed; chmod and mknod are refused."""
    bucket = Bucket(minio, minio.fresh_bucket())
    kinds = {"block": stat.S_IFBLK, "char": stat.S_IFCHR, "fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK}
    for name, kind in kinds.items():
        bucket.put(name, b"x", Metadata={"mode": str(kind | 0o666), "rdev": "259"})
    bucket.put("shell", b"x", Metadata={"mode": str(stat.S_IFREG | 0o6755), "uid": "0"})
    mount = make_mount(minio, bucket.name)
    for name in kinds:
        assert stat.S_ISREG((mount.path / name).lstat().st_mode)
    assert (mount.path / "shell").lstat().st_mode == stat.S_IFREG | 0o755
    with pytest.raises(PermissionError):
        (mount.path / "shell").chmod(0o4755)
