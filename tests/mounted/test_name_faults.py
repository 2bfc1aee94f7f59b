"""Names after a change of them that failed: nobody knows how far the store came, so it is asked again."""

from __future__ import annotations

import errno
import os

import pytest

from tests.mounted.conftest import MakeMount
from tests.support.bucket import Bucket
from tests.support.counting_proxy import CountingProxy, DropAnswer
from tests.support.fault_actions import ACCESS_DENIED, HTML_200, INTERNAL_ERROR, ApplyThenAnswer
from tests.support.mounting import Mount
from tests.support.servers import Server
from tests.support.waiting import eventually

#: What the daemon believes stays so for the whole test.
OPTIONS = ("--attempts=2", "--ttl=1h", "--negative-ttl=1h")


@pytest.fixture
def mount(make_mount: MakeMount, minio: Server, proxy: CountingProxy) -> Mount:
    """A mount through the proxy, with retries that end soon."""
    expected = ["upload of"]
    return make_mount(minio, None, *OPTIONS, endpoint_url=proxy.endpoint_url, expected=expected)


@pytest.fixture
def bucket(mount: Mount) -> Bucket:
    """The bucket without the mount."""
    return Bucket(mount.server, mount.bucket)


def test_a_login_page_is_not_taken_for_a_deletion(mount: Mount, proxy: CountingProxy, bucket: Bucket) -> None:
    """rm and mv fail with EIO when a proxy answers the DELETE with HTTP 200 and HTML; nothing is gone."""
    for name in ("a", "b"):
        (mount.path / name).write_bytes(name.encode())
    with proxy.rule(HTML_200, operation="DeleteObject", key="[ab]"):
        for change in (
            lambda: os.unlink(mount.path / "a"),
            lambda: os.rename(mount.path / "b", mount.path / "c"),
        ):
            with pytest.raises(OSError) as caught:
                change()
            assert caught.value.errno == errno.EIO
    assert sorted(os.listdir(mount.path)) == ["a", "b"]
    assert bucket.files() == {"a": b"a", "b": b"b"}


def test_a_file_whose_upload_got_no_answer_does_not_come_back_after_rm(
    mount: Mount, proxy: CountingProxy, bucket: Bucket
) -> None:
    """close(2) failed since the answer was lost, but the object is there: rm takes it away."""
    with proxy.rule(DropAnswer(reset=True), operation="PutObject"), pytest.raises(OSError):
        (mount.path / "file").write_bytes(b"data")
    assert bucket.keys() == ["file"]
    os.unlink(mount.path / "file")
    assert bucket.keys() == []


def test_a_file_whose_removal_got_no_answer_can_be_made_anew(
    mount: Mount, proxy: CountingProxy, bucket: Bucket
) -> None:
    """unlink(2) failed though it was carried out: the name is free, for reading and for writing."""
    for name in ("read", "written"):
        (mount.path / name).write_bytes(b"old")
        with proxy.rule(ApplyThenAnswer(INTERNAL_ERROR)), pytest.raises(OSError):
            os.unlink(mount.path / name)
    with pytest.raises(FileNotFoundError):
        (mount.path / "read").read_bytes()
    (mount.path / "written").write_bytes(b"new")
    assert (mount.path / "written").read_bytes() == b"new"
    assert bucket.files() == {"written": b"new"}


def test_what_a_failed_rename_has_replaced_is_not_stale(mount: Mount, proxy: CountingProxy) -> None:
    """mv onto a file failed after the copy: the new name is read and written as what it is now."""
    for name in ("old", "new"):
        (mount.path / name).write_bytes(name.encode())
    with proxy.rule(ACCESS_DENIED, operation="DeleteObject"), pytest.raises(PermissionError):
        os.rename(mount.path / "old", mount.path / "new")
    assert (mount.path / "new").read_bytes() == b"old"
    (mount.path / "new").write_bytes(b"again")
    assert (mount.path / "new").read_bytes() == b"again"


def test_a_copy_that_cannot_be_taken_back_is_shown(
    mount: Mount, proxy: CountingProxy, bucket: Bucket
) -> None:
    """mv of a file failed after the copy, and so did deleting that: both are shown, and the log says so."""
    mount.expected = [*mount.expected, "of a rename that failed is left behind"]
    (mount.path / "b").write_bytes(b"b")
    assert not (mount.path / "c").exists()
    with proxy.rule(HTML_200, operation="DeleteObject"), pytest.raises(OSError):
        os.rename(mount.path / "b", mount.path / "c")
    assert "the copy 'c' of a rename that failed is left behind" in mount.log.read_text()
    assert sorted(os.listdir(mount.path)) == ["b", "c"]
    assert (mount.path / "c").read_bytes() == b"b"
    assert bucket.files() == {"b": b"b", "c": b"b"}


def test_a_directory_whose_deletion_is_refused_stays_and_its_copies_go(
    mount: Mount, proxy: CountingProxy, bucket: Bucket
) -> None:
    """mv of a directory failed after the copies, which cannot be deleted yet: the new name is busy."""
    mount.expected = [*mount.expected, "fails, and is tried again until it is done"]
    (mount.path / "d").mkdir()
    (mount.path / "d" / "a").write_bytes(b"a")
    assert not (mount.path / "f").exists()
    with proxy.rule(ACCESS_DENIED, operation="DeleteObjects"):
        with pytest.raises(PermissionError):
            os.rename(mount.path / "d", mount.path / "f")
        assert (mount.path / "d" / "a").read_bytes() == b"a"
        with pytest.raises(OSError) as caught:
            os.listdir(mount.path / "f")
        assert caught.value.errno == errno.EBUSY
    eventually((mount.path / "f").exists, False)
    assert os.listdir(mount.path) == ["d"]
    assert os.listdir(mount.path / "d") == ["a"]
    assert bucket.files() == {"d/a": b"a"}
    (mount.path / "f").mkdir()
