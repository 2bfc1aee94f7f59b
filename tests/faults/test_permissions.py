"""The server refuses, for good, what it permitted a moment ago."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

from tests.faults.conftest import MIB, Faulty, MakeFaulty, errno_of, write
from tests.support.counting_proxy import Answer
from tests.support.fault_actions import ACCESS_DENIED

FORBIDDEN = Answer(403)
"""What a HEAD gets: no body says why."""


def test_a_refused_put_keeps_the_old_object_and_the_new_bytes(faulty: Faulty) -> None:
    """EACCES from close(2), after one request; the old content stays in the bucket, the new in the spool."""
    write(faulty.path / "f", b"old")
    faulty.mount.expected.append("upload of /f failed")
    faulty.proxy.clear()
    with faulty.proxy.rule(ACCESS_DENIED, operation="PutObject"):
        assert errno_of(lambda: write(faulty.path / "f", b"new")) == errno.EACCES
    assert faulty.proxy.counts()["PutObject"] == 1
    assert faulty.bucket.get("f") == b"old"
    assert faulty.spooled() == [b"new"]
    with open(faulty.path / "f", "rb+"):
        pass
    assert faulty.bucket.get("f") == b"new"


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_a_refused_upload_in_parts_is_not_tried_for_ever(make_faulty: MakeFaulty, operation: str) -> None:
    """EACCES from close(2) within a few requests; the old object stays; later no upload is left."""
    faulty = make_faulty("--part-size=5M", expected=["upload of /f failed"])
    old, new = b"o" * 100, b"n" * (22 * MIB)
    write(faulty.path / "f", old)
    faulty.proxy.clear()
    with faulty.proxy.rule(ACCESS_DENIED, operation=operation):
        assert errno_of(lambda: write(faulty.path / "f", new)) == errno.EACCES
        # Parts already on their way are refused, too; none is sent twice.
        assert faulty.proxy.counts()[operation] <= 5
        assert faulty.bucket.get("f") == old
        write(faulty.path / "other", b"goes on")
    # The one that was begun may be gone on with: permissions come back.
    assert faulty.uploads() in ([], ["f"])
    with open(faulty.path / "f", "rb+"):
        pass
    assert faulty.bucket.get("f") == new
    assert faulty.uploads() == []


def test_a_refused_head_is_not_absence(faulty: Faulty) -> None:
    """403 to a HEAD is EACCES or what a LIST says, and never ENOENT; nothing is tried again."""
    faulty.bucket.put_many({"d/f": b"x", "g": b"y"})
    assert (faulty.path / "g").read_bytes() == b"y"
    faulty.proxy.clear()
    with faulty.proxy.rule(FORBIDDEN, method="HEAD"):
        for path in (faulty.path / "d" / "f", faulty.path / "g"):
            assert errno_of(path.stat) in (0, errno.EACCES)
            assert errno_of(path.read_bytes) in (0, errno.EACCES)
        assert errno_of((faulty.path / "never").stat) in (errno.ENOENT, errno.EACCES)
    assert faulty.proxy.counts()["HeadObject"] <= 8
    assert (faulty.path / "d" / "f").read_bytes() == b"x"


def test_a_refused_list_is_no_empty_directory(faulty: Faulty) -> None:
    """ls and lookups of what is not known say EACCES; rm -r and rmdir delete nothing; no request storm."""
    faulty.bucket.put_many({"d/f": b"x", "d/e/g": b"y"})
    assert os.listdir(faulty.path) == ["d"]
    faulty.proxy.clear()
    with faulty.proxy.rule(ACCESS_DENIED, operation="ListObjectsV2"):
        assert errno_of(lambda: os.listdir(faulty.path / "d")) == errno.EACCES
        assert errno_of(lambda: os.rmdir(faulty.path / "d")) == errno.EACCES
        assert errno_of((faulty.path / "d" / "new").stat) == errno.EACCES
        done = subprocess.run(["rm", "-r", "d"], cwd=faulty.path, capture_output=True, text=True, timeout=60)
        assert done.returncode != 0
        assert "Permission denied" in done.stderr
    counts = faulty.proxy.counts()
    assert counts["ListObjectsV2"] <= 12
    assert not counts["DeleteObject"] + counts["DeleteObjects"]
    assert faulty.bucket.keys() == ["d/e/g", "d/f"]
    assert sorted(os.listdir(faulty.path / "d")) == ["e", "f"]


def test_a_refused_get_is_eacces_at_once(faulty: Faulty) -> None:
    """A policy that lets names be seen and bytes not: read(2) says EACCES and is not tried for long."""
    faulty.bucket.put("f", b"secret")
    assert os.listdir(faulty.path) == ["f"]
    faulty.proxy.clear()
    with faulty.proxy.rule(ACCESS_DENIED, operation="GetObject"):
        assert errno_of((faulty.path / "f").read_bytes) == errno.EACCES
    # The kernel asks once more for the one page, after its read-ahead has failed.
    assert faulty.proxy.counts()["GetObject"] <= 2
    assert (faulty.path / "f").read_bytes() == b"secret"


def test_a_refused_delete_leaves_the_file(faulty: Faulty) -> None:
    """rm says EACCES, and the name stays, in ls as well."""
    faulty.bucket.put("f", b"x")
    with faulty.proxy.rule(ACCESS_DENIED, operation="DeleteObject"):
        assert errno_of(lambda: os.unlink(faulty.path / "f")) == errno.EACCES
        assert os.listdir(faulty.path) == ["f"]
    assert (faulty.path / "f").read_bytes() == b"x"


def test_a_browsers_download_whose_first_put_fails(faulty: Faulty) -> None:
    """Written under a temporary name whose upload fails, then renamed: after a remount it is whole."""
    faulty.mount.expected.append("upload of /f.part failed")
    with faulty.proxy.rule(ACCESS_DENIED, operation="PutObject", key="f.part"):
        assert errno_of(lambda: write(faulty.path / "f.part", b"downloaded")) == errno.EACCES
        renamed = errno_of(lambda: os.rename(faulty.path / "f.part", faulty.path / "f"))
    assert renamed in (0, errno.EACCES)
    faulty.mount.remount()
    name = "f" if renamed == 0 else "f.part"
    assert faulty.bucket.files() == {name: b"downloaded"}
    assert (faulty.path / name).read_bytes() == b"downloaded"
