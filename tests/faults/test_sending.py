"""Uploads that are spoiled on their way, refused half-way, or answered with nonsense."""

from __future__ import annotations

import errno
import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.conftest import MIB, Faulty, MakeFaulty, errno_of, write
from tests.support.counting_proxy import Action, Answer, Close, CountingProxy, DropAnswer, Hold
from tests.support.fault_actions import (
    ACCESS_DENIED,
    EMPTY_200,
    ERROR_IN_200,
    HTML_200,
    ApplyThenAnswer,
    CutRequest,
    FlipByte,
    Headers,
)

PART_BYTES = 5 * MIB
SIZE = 3 * PART_BYTES + 12345


def content(size: int, seed: int = 1) -> bytes:
    """Return bytes in which every place looks different."""
    return random.Random(seed).randbytes(size)


@pytest.fixture
def parts(make_faulty: MakeFaulty) -> Faulty:
    """A mount whose files go in parts from 5 MiB on."""
    return make_faulty("--part-size=5M", "--operation-timeout=20s", expected=["upload of"])


@pytest.mark.parametrize("operation", ["PutObject", "UploadPart"])
def test_bytes_that_change_on_their_way_to_the_server(parts: Faulty, operation: str) -> None:
    """The server's checksum refuses them, they are sent again, and the object is what was written."""
    data = content(SIZE if operation == "UploadPart" else MIB)
    with parts.proxy.rule(FlipByte(seed=3, of="request"), operation=operation, times=1) as rule:
        write(parts.path / "f", data)
        assert rule.injected == 1
    assert parts.bucket.get("f") == data


@pytest.mark.parametrize(
    "action",
    [
        Headers({"ETag": '"0123456789abcdef0123456789abcdef"'}),
        Headers({"ETag": None}),
        EMPTY_200,
        HTML_200,
        ERROR_IN_200,
        DropAnswer(reset=True),
        CutRequest(MIB, reset=True),
    ],
    ids=["another ETag", "no ETag", "empty", "html", "error in 200", "lost", "cut"],
)
@pytest.mark.parametrize("number", [1, 3], ids=["first", "third"])
def test_no_part_is_missing_though_the_size_is_right(parts: Faulty, action: Action, number: int) -> None:
    """One part's answer is wrong: the object is whole, or close(2) says that it is not there."""
    data = content(SIZE)
    with parts.proxy.rule(action, operation="UploadPart", first=number, last=number):
        closed = errno_of(lambda: write(parts.path / "f", data))
    if closed:
        assert not parts.bucket.has("f")
        with open(parts.path / "f", "rb+"):
            pass
    assert parts.bucket.get("f") == data
    assert parts.uploads() == []


@pytest.mark.parametrize(
    "action", [EMPTY_200, HTML_200, ERROR_IN_200, Close()], ids=["empty", "html", "error in 200", "closed"]
)
@pytest.mark.parametrize("is_applied", [False, True], ids=["not done", "done"])
def test_a_complete_that_is_answered_with_nonsense(parts: Faulty, action: Action, is_applied: bool) -> None:
    """A 200 is not believed: close(2) is 0 only when the object is there whole, whatever was carried out."""
    write(parts.path / "f", b"old")
    data = content(SIZE)
    spoil = action
    if is_applied:
        spoil = ApplyThenAnswer(action) if isinstance(action, Answer) else DropAnswer()
    with parts.proxy.rule(spoil, operation="CompleteMultipartUpload"):
        closed = errno_of(lambda: write(parts.path / "f", data))
        stored = parts.bucket.get("f")
        assert stored == data if closed == 0 else stored in (b"old", data)
        assert closed in (0, errno.EIO, errno.ETIMEDOUT)
        assert is_applied or closed
    with open(parts.path / "f", "rb+"):
        pass
    assert parts.bucket.get("f") == data
    assert parts.uploads() == []


def test_a_part_that_arrives_after_the_others_were_refused(parts: Faulty, proxy: CountingProxy) -> None:
    """A part is under way while another is refused for good and the file is removed: no upload is left."""
    hold = Hold()
    with (
        proxy.rule(hold, operation="UploadPart", first=1, last=1),
        proxy.rule(ACCESS_DENIED, operation="UploadPart", first=2, last=2),
        ThreadPoolExecutor(1) as pool,
    ):
        closing = pool.submit(errno_of, lambda: write(parts.path / "f", content(SIZE)))
        hold.wait_held()
        hold.release()
        assert closing.result() == errno.EACCES
    os.unlink(parts.path / "f")
    # What could not be sent is given up with the file, at the latest by the next upload in parts.
    write(parts.path / "other", content(SIZE, 2))
    assert parts.uploads() == []
    assert parts.bucket.keys() == ["other"]


def test_larger_than_any_object_is_efbig_at_once(faulty: Faulty) -> None:
    """What 10,000 parts of 5 GiB cannot hold is refused by the write, before anything is sent."""
    descriptor = os.open(faulty.path / "f", os.O_RDWR | os.O_CREAT)
    faulty.proxy.clear()
    too_far = 10_000 * 5 * (1 << 30)
    assert errno_of(lambda: os.pwrite(descriptor, b"x", too_far)) == errno.EFBIG
    assert errno_of(lambda: os.ftruncate(descriptor, too_far + 1)) == errno.EFBIG
    os.pwrite(descriptor, b"fits", 0)
    assert not faulty.proxy.requests()
    os.ftruncate(descriptor, 4)
    os.close(descriptor)
    assert faulty.bucket.get("f") == b"fits"
