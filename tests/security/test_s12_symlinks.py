"""S-12: links of the bucket are shown; where they must lead nowhere, the kernel can be told so."""

from __future__ import annotations

import errno
import os
import stat
import subprocess

import pytest

from tests.mounted.conftest import MakeMount, make_mount
from tests.support.bucket import Bucket
from tests.support.servers import Server

__all__ = ["make_mount"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to change a mount's flags")
def test_s12_with_nosymfollow_no_link_of_the_bucket_is_followed(make_mount: MakeMount, minio: Server) -> None:
    """The command of docs/security.md: a link shows as one and opens nothing; files are as before."""
    bucket = Bucket(minio, minio.fresh_bucket())
    bucket.put("link", b"/etc/passwd", Metadata={"mode": str(stat.S_IFLNK | 0o777)})
    bucket.put("file", b"text")
    mount = make_mount(minio, bucket.name)
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
