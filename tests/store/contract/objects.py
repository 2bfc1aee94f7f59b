"""Objects and conditions of writes."""

from __future__ import annotations

import os
import tempfile
import time

from s3mount.core.objects import (
    ByteRange,
    FileSlice,
    ObjectHeaders,
)
from s3mount.errors import (
    ConditionFailed,
    NotFound,
)
from tests.store.contract.subject import (
    DAY_NS,
    PLAIN,
    RICH,
    WRONG_ETAG,
    Subject,
    check,
    raises,
)


@check
async def put_then_head_gives_everything_back(subject: Subject) -> None:
    """HEAD gives size, the PUT's ETag, a time in whole seconds near now, and every header."""
    etag = await subject.put("d/x", b"12345", RICH)
    stat = await subject.store.head("d/x")
    assert (stat.key, stat.size, stat.etag, stat.storage_class) == ("d/x", 5, etag, None)
    assert stat.headers == RICH
    assert stat.last_modified_ns % 1_000_000_000 == 0
    assert abs(stat.last_modified_ns - time.time_ns()) < DAY_NS


@check
async def head_gives_the_checksum_that_was_sent(subject: Subject) -> None:
    """CRC32 of the bytes, in base64, for whoever asks."""
    await subject.put("x", b"hello")
    assert (await subject.store.head("x", checksum=True)).crc32 == "NhCmhg=="
    assert (await subject.store.head("x", checksum=False)).crc32 is None


@check
async def put_tells_the_servers_time(subject: Subject) -> None:
    """The answer to a PUT carries the server's clock."""
    answer = await subject.store.put("x", b"", PLAIN)
    assert answer.server_time_ns is not None
    assert abs(answer.server_time_ns - time.time_ns()) < DAY_NS


@check
async def put_replaces_body_and_headers(subject: Subject) -> None:
    """Nothing of the object that was there is left."""
    old = await subject.put("x", b"old, and longer", RICH)
    new = await subject.put("x", b"new", ObjectHeaders(content_type="a/b"))
    stat = await subject.store.head("x")
    assert old != new == stat.etag
    assert stat.headers == ObjectHeaders(content_type="a/b")
    assert await subject.get("x") == b"new"


@check
async def put_stores_an_empty_object(subject: Subject) -> None:
    """No bytes are an object too."""
    await subject.put("empty")
    assert (await subject.store.head("empty")).size == 0


@check
async def put_sends_a_stretch_of_a_file(subject: Subject) -> None:
    """A body may be any stretch of an open file, also an empty one, and the file stays where it is."""
    content = os.urandom(3_000_000)
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        file.seek(7)
        for start, stop in ((0, 3_000_000), (17, 2_100_000), (2_999_999, 3_000_000), (5, 5)):
            await subject.put("x", FileSlice(file.fileno(), ByteRange(start, stop)))
            assert await subject.get("x") == content[start:stop]
        assert file.tell() == 7


@check
async def metadata_names_come_back_in_lower_case(subject: Subject) -> None:
    """HTTP headers have no case."""
    await subject.put("x", b"", ObjectHeaders(metadata={"Mixed-Case": "Value"}))
    headers = (await subject.store.head("x")).headers
    assert headers is not None
    assert headers.metadata == {"mixed-case": "Value"}


@check
async def metadata_may_be_two_kilobytes(subject: Subject) -> None:
    """S3's limit is 2 KiB for all names and values."""
    metadata = {"long": "x" * 1900, "m": "1"}
    await subject.put("x", b"", ObjectHeaders(metadata=metadata))
    headers = (await subject.store.head("x")).headers
    assert headers is not None
    assert headers.metadata == metadata


@check
async def an_object_without_a_type_gets_the_servers(subject: Subject) -> None:
    """A PUT without Content-Type leaves one all the same."""
    await subject.put("x")
    headers = (await subject.store.head("x")).headers
    assert headers is not None
    assert headers.content_type in ("binary/octet-stream", "application/octet-stream")


@check
async def absent_keys_are_not_found(subject: Subject) -> None:
    """HEAD and GET of what is not there; a prefix of a key is not there either."""
    await subject.put("d/x", b"1")
    for key in ("absent", "d", "d/", "d/x/", "d/x/y"):
        await raises(NotFound, subject.store.head(key))
        await raises(NotFound, subject.get(key, ByteRange(0, 1)))


@check
async def a_marker_may_have_a_body(subject: Subject) -> None:
    """A key that ends in a slash is an object like any other, and shows beside what it marks."""
    await subject.put("d/", b"body")
    await subject.put("d/x")
    assert await subject.get("d/") == b"body"
    assert await subject.names("d/", delimiter="/") == (["d/", "d/x"], [])
    assert await subject.names("", delimiter="/") == ([], ["d/"])


@check
async def an_empty_marker_is_kept(subject: Subject) -> None:
    """``mkdir`` writes an empty object, which is listed, found and deleted."""
    await subject.put("d/e/")
    assert (await subject.store.head("d/e/")).size == 0
    assert await subject.names("d/", delimiter="/") == ([], ["d/e/"])
    assert await subject.names("d/e/", delimiter="/") == (["d/e/"], [])
    await subject.store.delete("d/e/")
    await raises(NotFound, subject.store.head("d/e/"))


@check
async def nothing_is_left_of_a_prefix_without_keys(subject: Subject) -> None:
    """When the last key under a prefix goes, the prefix is gone."""
    await subject.put("d/e/x")
    await subject.store.delete("d/e/x")
    assert await subject.names("", delimiter="/") == ([], [])
    await raises(NotFound, subject.store.head("d/e/"))


@check
async def put_if_none_match_creates_once(subject: Subject) -> None:
    """The second writer fails and changes nothing."""
    await subject.store.put("x", b"first", PLAIN, if_none_match=True)
    await raises(ConditionFailed, subject.store.put("x", b"second", PLAIN, if_none_match=True))
    assert await subject.get("x") == b"first"


@check
async def put_if_match_replaces_only_what_it_names(subject: Subject) -> None:
    """A write that is bound to an ETag fails when the object is another."""
    etag = await subject.put("x", b"1")
    await raises(ConditionFailed, subject.store.put("x", b"2", PLAIN, if_match=WRONG_ETAG))
    assert await subject.get("x") == b"1"
    await subject.store.put("x", b"3", PLAIN, if_match=etag)
    assert await subject.get("x") == b"3"


@check
async def put_if_match_on_an_absent_key_is_not_found(subject: Subject) -> None:
    """The object that was to be replaced has been deleted: nothing is created."""
    await raises(NotFound, subject.store.put("x", b"2", PLAIN, if_match=WRONG_ETAG))
    await raises(NotFound, subject.store.head("x"))
