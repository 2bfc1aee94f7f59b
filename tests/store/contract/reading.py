"""Reading."""

from __future__ import annotations

import os

from s3mount.core.objects import (
    ByteRange,
    ObjectHeaders,
)
from s3mount.errors import (
    InvalidArgument,
    NotFound,
    StaleObject,
)
from tests.store.contract.subject import (
    Subject,
    check,
    raises,
)


@check
async def ranges_come_exactly(subject: Subject) -> None:
    """Beginning, middle, end, one byte, all; and the answer says which."""
    body = os.urandom(2_500_000)
    etag = await subject.put("x", body)
    for start, stop in ((0, 1), (0, 2_500_000), (1_000_000, 2_100_000), (2_499_999, 2_500_000)):
        buffer = bytearray(stop - start)
        answer = await subject.store.get_into("x", ByteRange(start, stop), memoryview(buffer), if_match=etag)
        assert bytes(buffer) == body[start:stop]
        assert (answer.etag, answer.span, answer.total_size) == (etag, ByteRange(start, stop), 2_500_000)
        assert answer.received == stop - start


@check
async def hints_read_the_same_bytes(subject: Subject) -> None:
    """A background read is a read."""
    etag = await subject.put("x", b"0123456789")
    buffer = bytearray(3)
    await subject.store.get_into("x", ByteRange(4, 7), memoryview(buffer), if_match=etag, background=True)
    assert bytes(buffer) == b"456"


@check
async def an_encoded_body_comes_as_it_was_stored(subject: Subject) -> None:
    """Content-Encoding says what the bytes are; nobody decodes them on the way."""
    await subject.put("x", b"not really gzip", ObjectHeaders(content_encoding="gzip"))
    assert await subject.get("x") == b"not really gzip"


@check
async def get_if_match_fails_on_a_changed_object(subject: Subject) -> None:
    """One read never mixes two versions."""
    old = await subject.put("x", b"old")
    await subject.put("x", b"new")
    await raises(StaleObject, subject.get("x", ByteRange(0, 3), if_match=old))


@check
async def get_if_match_of_a_deleted_object_is_not_found(subject: Subject) -> None:
    """Gone is not the same as changed."""
    old = await subject.put("x", b"old")
    await subject.store.delete("x")
    await raises(NotFound, subject.get("x", ByteRange(0, 3), if_match=old))


@check
async def get_beyond_the_end_is_refused(subject: Subject) -> None:
    """416, also for every range of an empty object."""
    await subject.put("x", b"123")
    await subject.put("empty", b"")
    await raises(InvalidArgument, subject.get("x", ByteRange(3, 5)))
    await raises(InvalidArgument, subject.get("empty", ByteRange(0, 1)))
