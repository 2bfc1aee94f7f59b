"""rename(2) while the server fails: whatever happens, the bytes are under one of the two names."""

from __future__ import annotations

import errno
import os

import pytest

from tests.mounted.conftest import MakeMount
from tests.support.counting_proxy import CountingProxy, DropAnswer
from tests.support.fault_actions import ACCESS_DENIED, ERROR_IN_200
from tests.support.mounting import Mount
from tests.support.servers import Server
from tests.support.waiting import eventually


@pytest.fixture
def mount(make_mount: MakeMount, minio: Server, proxy: CountingProxy) -> Mount:
    """A mount through the proxy, with retries that end soon."""
    expected = ["of a rename that failed is left behind", "fails, and is tried again until it is done"]
    return make_mount(minio, None, "--attempts", "2", endpoint_url=proxy.endpoint_url, expected=expected)


def objects(mount: Mount) -> dict[str, bytes]:
    """Return every object of the bucket with its body."""
    client = mount.server.client()
    listed = client.list_objects_v2(Bucket=mount.bucket).get("Contents", [])
    return {
        one["Key"]: client.get_object(Bucket=mount.bucket, Key=one["Key"])["Body"].read() for one in listed
    }


def test_a_delete_whose_answer_is_lost_does_not_cost_the_file(mount: Mount, proxy: CountingProxy) -> None:
    """The old name was deleted though no answer said so: the copy must not be taken back."""
    (mount.path / "old").write_bytes(b"precious")
    with proxy.rule(DropAnswer(), operation="DeleteObject"):
        os.rename(mount.path / "old", mount.path / "new")
    assert objects(mount) == {"new": b"precious"}
    assert os.listdir(mount.path) == ["new"]


def test_a_refused_delete_leaves_the_old_name(mount: Mount, proxy: CountingProxy) -> None:
    """rename(2) fails with EACCES, the file is where it was, and no copy is left."""
    (mount.path / "old").write_bytes(b"precious")
    with proxy.rule(ACCESS_DENIED, operation="DeleteObject", key="old"), pytest.raises(PermissionError):
        os.rename(mount.path / "old", mount.path / "new")
    assert objects(mount) == {"old": b"precious"}
    assert (mount.path / "old").read_bytes() == b"precious"


def test_a_refused_delete_after_replacing_keeps_both_names(mount: Mount, proxy: CountingProxy) -> None:
    """What took the place of another file is not deleted as if it had come to a free name."""
    (mount.path / "old").write_bytes(b"precious")
    (mount.path / "new").write_bytes(b"replaced")
    with proxy.rule(ACCESS_DENIED, operation="DeleteObject", key="old"), pytest.raises(PermissionError):
        os.rename(mount.path / "old", mount.path / "new")
    assert objects(mount) == {"old": b"precious", "new": b"precious"}


def test_a_copy_that_is_an_error_in_a_200_keeps_the_source(mount: Mount, proxy: CountingProxy) -> None:
    """CopyObject may answer 200 and fail: the source is not deleted, and rename(2) fails."""
    (mount.path / "old").write_bytes(b"precious")
    with proxy.rule(ERROR_IN_200, operation="CopyObject"), pytest.raises(OSError) as caught:
        os.rename(mount.path / "old", mount.path / "new")
    assert caught.value.errno == errno.EIO
    assert objects(mount) == {"old": b"precious"}


@pytest.mark.parametrize("onto_an_empty_one", [False, True], ids=["new", "empty"])
@pytest.mark.parametrize("nth", [1, 2, 4])
def test_a_directory_is_copied_whole_or_stays(
    mount: Mount, proxy: CountingProxy, nth: int, onto_an_empty_one: bool
) -> None:
    """Whichever copy is refused, the old tree is complete and nothing is left under the new name."""
    (mount.path / "d" / "e").mkdir(parents=True)
    for name in ("a", "b", "e/c", "e/d"):
        (mount.path / "d" / name).write_bytes(name.encode())
    if onto_an_empty_one:
        (mount.path / "f").mkdir()
    before = objects(mount)
    with (
        proxy.rule(ACCESS_DENIED, operation="CopyObject", first=nth, last=nth),
        pytest.raises(PermissionError),
    ):
        os.rename(mount.path / "d", mount.path / "f")
    assert objects(mount) == before
    os.rename(mount.path / "d", mount.path / "f")
    assert objects(mount) == {"f" + key[1:]: body for key, body in before.items() if key != "f/"}


def test_a_directory_that_may_not_be_deleted_stays(mount: Mount, proxy: CountingProxy) -> None:
    """A refused DeleteObjects fails the rename; what is copied goes as soon as that is permitted."""
    (mount.path / "d").mkdir()
    (mount.path / "d" / "a").write_bytes(b"a")
    with proxy.rule(ACCESS_DENIED, operation="DeleteObjects"):
        with pytest.raises(PermissionError):
            os.rename(mount.path / "d", mount.path / "f")
        assert objects(mount) == {"d/": b"", "d/a": b"a", "f/": b"", "f/a": b"a"}
        assert (mount.path / "d" / "a").read_bytes() == b"a"
        with pytest.raises(OSError, match="busy"):
            os.listdir(mount.path / "f")
    eventually((mount.path / "f").exists, False)
    assert objects(mount) == {"d/": b"", "d/a": b"a"}
