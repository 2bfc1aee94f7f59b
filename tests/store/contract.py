"""The contract of an object store, as checks that every implementation passes on every server.

A check is an async function of a :class:`Subject` with an empty bucket. Where a server is known to
behave otherwise, :data:`DEVIATIONS` says so with the reason, and then the check must fail: a server
that mends its ways shows up as a failure, and the table stays true.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import trio

from s3mount.core.objects import (
    Body,
    ByteRange,
    FileSlice,
    ListPage,
    MultipartUpload,
    ObjectHeaders,
    ObjectStat,
    PartTag,
)
from s3mount.errors import (
    ConditionFailed,
    FsError,
    IllegalName,
    InvalidArgument,
    NameTooLong,
    NotFound,
    StaleObject,
)
from s3mount.store.base import ObjectStore

PLAIN = ObjectHeaders()
RICH = ObjectHeaders(
    content_type="text/x-test; charset=utf-8",
    cache_control="max-age=60",
    content_disposition='inline; filename="x y.txt"',
    content_encoding="br",
    content_language="de",
    metadata={"mode": "33188", "mtime": "1700000000.123456789", "with-dash": "a b  c"},
)
WRONG_ETAG = '"00000000000000000000000000000000"'
DAY_NS = 24 * 3600 * 1_000_000_000


@dataclass(frozen=True)
class Subject:
    """A store to check, its bucket empty.

    Args:
        part_bytes: smallest part that may stand before another.
        list_metadata: LIST carries headers.
    """

    store: ObjectStore
    part_bytes: int
    list_metadata: bool

    async def put(self, key: str, body: Body = b"", headers: ObjectHeaders = PLAIN) -> str:
        """Store an object; return its ETag."""
        answer = await self.store.put(key, body, headers)
        assert answer.etag
        return answer.etag

    async def get(self, key: str, span: ByteRange | None = None, if_match: str | None = None) -> bytes:
        """Read a range, or all."""
        if span is None:
            span = ByteRange(0, (await self.store.head(key)).size)
            if not span.size:
                return b""
        buffer = bytearray(span.size)
        await self.store.get_into(key, span, memoryview(buffer), if_match=if_match)
        return bytes(buffer)

    async def pages(
        self, prefix: str, *, delimiter: str = "/", start_after: str | None = None, max_keys: int = 1000
    ) -> list[ListPage]:
        """List to the end."""
        pages = [
            await self.store.list_page(
                prefix, delimiter=delimiter, start_after=start_after, max_keys=max_keys
            )
        ]
        while pages[-1].truncated:
            page = await self.store.list_page(
                prefix, delimiter=delimiter, token=pages[-1].next_token, max_keys=max_keys
            )
            pages.append(page)
        return pages

    async def names(self, prefix: str = "", *, delimiter: str = "") -> tuple[list[str], list[str]]:
        """Return the keys and common prefixes of a whole listing."""
        pages = await self.pages(prefix, delimiter=delimiter)
        return (
            [one.key for page in pages for one in page.objects],
            [one for page in pages for one in page.prefixes],
        )


Check = Callable[[Subject], Awaitable[None]]
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Add *function* to the contract."""
    name = function.__name__
    assert name not in CHECKS
    CHECKS[name] = function
    return function


async def raises(expected: type[FsError], call: Awaitable[object]) -> None:
    """Fail unless *call* raises exactly *expected*."""
    try:
        await call
    except FsError as exc:
        assert type(exc) is expected, f"{exc!r} instead of {expected.__name__}"
        return
    raise AssertionError(f"no {expected.__name__}")


# Objects


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


# Conditions of writes


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


# Reading


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


# Listings


@check
async def a_directory_lists_its_own_level(subject: Subject) -> None:
    """With a delimiter, deeper keys are one common prefix."""
    for key in ("d/x", "d/e/1", "d/e/2", "d/e/f/3", "d/y", "other"):
        await subject.put(key)
    assert await subject.names("d/", delimiter="/") == (["d/x", "d/y"], ["d/e/"])
    assert await subject.names("d/e/", delimiter="/") == (["d/e/1", "d/e/2"], ["d/e/f/"])


@check
async def without_a_delimiter_the_whole_subtree_is_listed(subject: Subject) -> None:
    """All keys, in the order of their bytes."""
    for key in ("d/x", "d/e/1", "d/e/f/3", "d/y", "other"):
        await subject.put(key)
    assert await subject.names("d/") == (["d/e/1", "d/e/f/3", "d/x", "d/y"], [])


@check
async def a_prefix_may_end_within_a_name(subject: Subject) -> None:
    """A prefix is a beginning of keys, no directory: absence of one name is asked for in this way."""
    for key in ("d/name", "d/name-2", "d/name/1", "d/nane"):
        await subject.put(key)
    assert await subject.names("d/name", delimiter="/") == (["d/name", "d/name-2"], ["d/name/"])
    assert await subject.names("d/name/", delimiter="/") == (["d/name/1"], [])


@check
async def a_prefix_without_keys_is_an_empty_page(subject: Subject) -> None:
    """Not an error: the page is empty, whole, and echoes what was asked."""
    await subject.put("x")
    page = await subject.store.list_page("absent/")
    assert (page.objects, page.prefixes, page.truncated, page.next_token) == ((), (), False, None)
    assert page.echoed_prefix in ("absent/", None)


@check
async def a_listing_says_what_head_says(subject: Subject) -> None:
    """Size, ETag, time and storage class of an object are the same from both."""
    await subject.put("d/x", b"12345", RICH)
    (listed,) = (await subject.store.list_page("d/")).objects
    stat = await subject.store.head("d/x")
    assert replace(listed, headers=None) == replace(stat, headers=None)


@check
async def a_listing_carries_headers_where_the_server_can(subject: Subject) -> None:
    """They are those of HEAD, or None everywhere."""
    await subject.put("d/x", b"12345", RICH)
    await subject.put("d/y", b"", PLAIN)
    page = await subject.store.list_page("d/")
    if subject.list_metadata:
        assert [one.headers for one in page.objects] == [
            (await subject.store.head(one.key)).headers for one in page.objects
        ]
    else:
        assert [one.headers for one in page.objects] == [None, None]


@check
async def pages_follow_each_other_without_gap_or_repetition(subject: Subject) -> None:
    """Whatever the page size, the whole is the same and in order; every page but the last is full."""
    keys = [f"d/{n:02}" for n in range(7)] + [f"d/sub{n}/x" for n in range(4)]
    for key in keys:
        await subject.put(key)
    for size in (1, 2, 3, 11, 12):
        pages = await subject.pages("d/", max_keys=size)
        shown = [
            sorted([one.key for one in page.objects] + list(page.prefixes), key=str.encode) for page in pages
        ]
        assert [one for page in shown for one in page] == sorted(
            [key for key in keys if "sub" not in key] + [f"d/sub{n}/" for n in range(4)]
        )
        assert all(len(page) == size for page in shown[:-1])


@check
async def a_thousand_keys_fit_a_page(subject: Subject) -> None:
    """1,003 keys are two pages: 1,000 and 3."""
    await many(subject, [f"d/{n:04}" for n in range(1003)])
    pages = await subject.pages("d/")
    assert [len(page.objects) for page in pages] == [1000, 3]
    assert [one.key for page in pages for one in page.objects] == [f"d/{n:04}" for n in range(1003)]


@check
async def listings_are_in_the_order_of_bytes(subject: Subject) -> None:
    """Not of characters: U+FF5E comes before U+1F600, although UTF-16 has it the other way round."""
    keys = ["Z", "a", "a!", "a-b", "a.b", "aa", "é", "\uff5e", "\U0001f600"]
    for key in reversed(keys):
        await subject.put(key)
    assert (await subject.names())[0] == keys


@check
async def a_delimited_listing_is_in_the_order_of_whole_keys(subject: Subject) -> None:
    """A common prefix stands where its first key would, after ``a!x`` and ``a-b``."""
    keys = ("d/a!x", "d/a/1", "d/a/2", "d/a-b", "d/ab", "d/b", "d/c/1", "d/z")
    for key in keys:
        await subject.put(key)
    shown = []
    for page in await subject.pages("d/", max_keys=2):
        shown.append({one.key for one in page.objects} | set(page.prefixes))
    assert shown == [{"d/a!x", "d/a-b"}, {"d/a/", "d/ab"}, {"d/b", "d/c/"}, {"d/z"}]


@check
async def start_after_is_about_whole_keys(subject: Subject) -> None:
    """``d/a`` lies before ``d/a!x`` and before the common prefix ``d/a/``; ``d/a0`` lies after both."""
    for key in ("d/a!x", "d/a/1", "d/a/2", "d/a-b", "d/ab"):
        await subject.put(key)
    page = await subject.store.list_page("d/", start_after="d/a")
    assert [one.key for one in page.objects] == ["d/a!x", "d/a-b", "d/ab"]
    assert page.prefixes == ("d/a/",)
    page = await subject.store.list_page("d/", start_after="d/a0")
    assert ([one.key for one in page.objects], page.prefixes) == (["d/ab"], ())


@check
async def start_after_within_a_common_prefix_loses_nothing_behind_it(subject: Subject) -> None:
    """Whether the common prefix comes once more is the server's choice."""
    for key in ("d/a!x", "d/a/1", "d/a/2", "d/a-b", "d/ab"):
        await subject.put(key)
    for start_after in ("d/a/", "d/a/1"):
        page = await subject.store.list_page("d/", start_after=start_after)
        assert [one.key for one in page.objects] == ["d/ab"]
        assert page.prefixes in ((), ("d/a/",))


# Keys


def check_key(name: str, key: str) -> None:
    """Add a check that *key* can be stored, found, listed, copied, assembled of parts and deleted."""

    async def store_find_list_copy_and_delete(subject: Subject) -> None:
        etag = await subject.put(key, b"body", RICH)
        assert (await subject.store.head(key)).etag == etag
        assert await subject.get(key, ByteRange(0, 4), if_match=etag) == b"body"
        assert (await subject.names())[0] == [key]
        await subject.store.copy(key, "copy", if_match=etag, headers=None)
        assert await subject.get("copy") == b"body"
        await subject.store.copy("copy", key, if_match=None, headers=PLAIN)
        upload = await subject.store.create_multipart(key, PLAIN)
        part = await subject.store.upload_part(upload, 1, b"of a part")
        await subject.store.complete_multipart(upload, [part])
        assert await subject.get(key) == b"of a part"
        assert await subject.store.delete_many(["copy"]) == []
        await subject.store.delete(key)
        await subject.put(key, b"again")
        assert await subject.store.delete_many([key]) == []
        assert await subject.names() == ([], [])

    CHECKS[f"key_{name}"] = store_find_list_copy_and_delete


check_key("with_xml_and_url_marks", "a b+c%41&d=e?f#g<h>\"i'j;k:l@m$n,o~!*()[]{}|^`")
check_key("with_unicode", "é/\u65e5\u672c/\U0001f600")
check_key("of_decomposed_unicode", "e\u0301")
check_key("with_a_backslash", "a\\b")
check_key("with_a_newline_and_a_tab", "a\nb\tc")
check_key("with_a_carriage_return", "a\rb")
check_key("with_control_characters", "a\x01\x1b\x7fb")
check_key("with_spaces_at_its_ends", " a / b ")
check_key("with_a_leading_slash", "/a")
check_key("with_two_slashes", "a//b")
check_key("ending_in_two_slashes", "a//")
check_key("that_is_a_slash", "/")
check_key("with_a_dot_component", "a/./b")
check_key("with_a_dot_dot_component", "a/../b")
check_key("that_is_dot_dot", "..")
check_key("with_a_component_over_255_bytes", "a/" + "x" * 256)
check_key("of_1024_bytes", "/".join(["x" * 200] * 5) + "y" * 20)
check_key("that_looks_encoded", "a%2Fb%20c%")
check_key("with_a_noncharacter", "a\uffffb")


@check
async def keys_that_differ_in_case_or_form_are_two(subject: Subject) -> None:
    """S3 compares bytes."""
    keys = ["A", "a", "e\u0301", "é"]
    for key in keys:
        await subject.put(key, key.encode())
    assert (await subject.names())[0] == keys
    assert [await subject.get(key) for key in keys] == [key.encode() for key in keys]


@check
async def a_key_and_keys_below_it_live_together(subject: Subject) -> None:
    """``a`` beside ``a/b``, whichever comes first, both found and both listed."""
    await subject.put("a", b"file")
    await subject.put("a/b", b"below")
    await subject.put("c/d", b"below")
    await subject.put("c", b"file")
    assert [await subject.get(key) for key in ("a", "a/b", "c", "c/d")] == [
        b"file",
        b"below",
        b"file",
        b"below",
    ]
    assert await subject.names("", delimiter="/") == (["a", "c"], ["a/", "c/"])


@check
async def a_key_over_1024_bytes_is_too_long(subject: Subject) -> None:
    """It is refused as such."""
    await raises(NameTooLong, subject.put("/".join(["x" * 200] * 5) + "y" * 21))


@check
async def a_key_that_is_not_utf8_is_illegal(subject: Subject) -> None:
    """It cannot be asked for, and must not be taken for another."""
    key = b"a\xff".decode(errors="surrogateescape")
    await raises(IllegalName, subject.store.head(key))
    await raises(IllegalName, subject.put(key))
    await raises(IllegalName, subject.store.delete(key))
    await raises(IllegalName, subject.store.list_page(key))


# Uploads in parts


def upload_id(upload: MultipartUpload) -> str:
    """Order uploads by their ids, which all are strings."""
    return upload.upload_id


async def begin(subject: Subject, key: str, *bodies: bytes) -> tuple[MultipartUpload, list[PartTag]]:
    """Begin an upload and send its parts."""
    upload = await subject.store.create_multipart(key, RICH)
    return upload, [
        await subject.store.upload_part(upload, number, body) for number, body in enumerate(bodies, 1)
    ]


@check
async def parts_become_one_object_at_the_end(subject: Subject) -> None:
    """Before that nothing is to be seen; afterwards the object has all bytes and its headers."""
    bodies = [os.urandom(subject.part_bytes), os.urandom(subject.part_bytes + 1), b"end"]
    upload, parts = await begin(subject, "d/x", *bodies)
    await raises(NotFound, subject.store.head("d/x"))
    assert await subject.names() == ([], [])
    answer = await subject.store.complete_multipart(upload, parts)
    stat = await subject.store.head("d/x")
    assert (stat.etag, stat.headers) == (answer.etag, RICH)
    assert await subject.get("d/x") == b"".join(bodies)


@check
async def parts_may_come_in_any_order_and_again(subject: Subject) -> None:
    """The order of the numbers counts, and of a part that was sent twice, the last."""
    first, second = os.urandom(subject.part_bytes), b"second"
    upload = await subject.store.create_multipart("x", PLAIN)
    late = await subject.store.upload_part(upload, 7, second)
    await subject.store.upload_part(upload, 2, os.urandom(subject.part_bytes))
    early = await subject.store.upload_part(upload, 2, first)
    await subject.store.complete_multipart(upload, [early, late])
    assert await subject.get("x") == first + second


@check
async def a_part_may_be_a_stretch_of_a_file(subject: Subject) -> None:
    """As with PUT; several parts of one file may be on their way at once."""
    size = subject.part_bytes
    content = os.urandom(3 * size)
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        upload = await subject.store.create_multipart("x", PLAIN)
        parts: dict[int, PartTag] = {}

        async def send(number: int) -> None:
            span = ByteRange((number - 1) * size, number * size)
            parts[number] = await subject.store.upload_part(upload, number, FileSlice(file.fileno(), span))

        async with trio.open_nursery() as nursery:
            for number in (1, 2, 3):
                nursery.start_soon(send, number)
    await subject.store.complete_multipart(upload, [parts[number] for number in (1, 2, 3)])
    assert await subject.get("x") == content


@check
async def complete_if_none_match_creates_once(subject: Subject) -> None:
    """The object that was created meanwhile stays."""
    upload, parts = await begin(subject, "x", b"part")
    await subject.put("x", b"other")
    await raises(ConditionFailed, subject.store.complete_multipart(upload, parts, if_none_match=True))
    assert await subject.get("x") == b"other"
    await subject.store.abort_multipart(upload)


@check
async def complete_if_match_replaces_only_what_it_names(subject: Subject) -> None:
    """Bound to an ETag, as PUT is."""
    etag = await subject.put("x", b"old")
    upload, parts = await begin(subject, "x", b"part")
    await raises(ConditionFailed, subject.store.complete_multipart(upload, parts, if_match=WRONG_ETAG))
    assert await subject.get("x") == b"old"
    await subject.store.complete_multipart(upload, parts, if_match=etag)
    assert await subject.get("x") == b"part"


@check
async def a_finished_upload_is_gone(subject: Subject) -> None:
    """Completing it a second time, or sending it a part, does not find it; aborting it is fine."""
    upload, parts = await begin(subject, "x", b"part")
    await subject.store.complete_multipart(upload, parts)
    await raises(NotFound, subject.store.upload_part(upload, 2, b"late"))
    await subject.store.abort_multipart(upload)
    assert await subject.get("x") == b"part"


@check
async def completing_twice_does_not_find_the_upload(subject: Subject) -> None:
    """So that a lost answer can be told from a failure by looking at the object."""
    upload, parts = await begin(subject, "x", b"part")
    await subject.store.complete_multipart(upload, parts)
    await raises(NotFound, subject.store.complete_multipart(upload, parts))


@check
async def an_aborted_upload_leaves_nothing(subject: Subject) -> None:
    """No object, no upload; and aborting again is fine."""
    upload, parts = await begin(subject, "x", b"part")
    await subject.store.abort_multipart(upload)
    await raises(NotFound, subject.store.complete_multipart(upload, parts))
    await raises(NotFound, subject.store.upload_part(upload, 1, b"late"))
    await subject.store.abort_multipart(upload)
    await raises(NotFound, subject.store.head("x"))
    assert await subject.store.list_multipart_uploads("x") == []


@check
async def unfinished_uploads_of_a_key_are_listed(subject: Subject) -> None:
    """Every one, also two of one key."""
    one, _ = await begin(subject, "d/x+ é", b"part")
    two, _ = await begin(subject, "d/x+ é", b"part")
    found = await subject.store.list_multipart_uploads("d/x+ é")
    assert sorted(found, key=upload_id) == sorted([one, two], key=upload_id)


@check
async def a_listed_upload_says_when_it_was_begun(subject: Subject) -> None:
    """By the server's clock, so that a new one can be told from an old one."""
    await begin(subject, "d/x", b"part")
    (found,) = await subject.store.list_multipart_uploads("d/x")
    assert found.begun_ns is not None
    assert abs(found.begun_ns - time.time_ns()) < DAY_NS


@check
async def unfinished_uploads_under_a_prefix_are_listed(subject: Subject) -> None:
    """All keys with that beginning, and no others."""
    one, _ = await begin(subject, "d/x", b"part")
    two, _ = await begin(subject, "d/e/y", b"part")
    await begin(subject, "other", b"part")
    found = await subject.store.list_multipart_uploads("d/")
    assert sorted(found, key=upload_id) == sorted([one, two], key=upload_id)


@check
async def the_parts_of_an_upload_are_listed(subject: Subject) -> None:
    """Number, ETag and size of each, and its CRC32 where the server keeps it, in order."""
    upload = await subject.store.create_multipart("d/x+ é", PLAIN)
    assert await subject.store.list_parts(upload) == []
    late = await subject.store.upload_part(upload, 7, b"the seventh")
    early_body = os.urandom(subject.part_bytes)
    early = await subject.store.upload_part(upload, 2, early_body)
    found = await subject.store.list_parts(upload)
    assert [replace(one, crc32=None) for one in found] == [replace(one, crc32=None) for one in (early, late)]
    assert all(one.crc32 in (None, sent.crc32) for one, sent in zip(found, (early, late), strict=True))
    await subject.store.complete_multipart(upload, found)
    assert await subject.get("d/x+ é") == early_body + b"the seventh"


@check
async def a_part_that_was_sent_again_is_listed_once(subject: Subject) -> None:
    """And what is listed is what Complete takes by that ETag, whichever of the two it is."""
    bodies = [b"first", b"again, and longer"]
    upload = await subject.store.create_multipart("x", PLAIN)
    sent = [await subject.store.upload_part(upload, 1, body) for body in bodies]
    (found,) = await subject.store.list_parts(upload)
    (body,) = [body for body, one in zip(bodies, sent, strict=True) if one.etag == found.etag]
    assert (found.number, found.size) == (1, len(body))
    await subject.store.complete_multipart(upload, [found])
    assert await subject.get("x") == body


@check
async def the_parts_of_an_upload_that_is_gone_are_not_found(subject: Subject) -> None:
    """Aborted, finished, or never begun."""
    upload, _ = await begin(subject, "x", b"part")
    await subject.store.abort_multipart(upload)
    await raises(NotFound, subject.store.list_parts(upload))
    upload, parts = await begin(subject, "x", b"part")
    await subject.store.complete_multipart(upload, parts)
    await raises(NotFound, subject.store.list_parts(upload))


@check
async def more_parts_than_a_page_are_listed_to_the_end(subject: Subject) -> None:
    """A page holds at most a thousand."""
    upload = await subject.store.create_multipart("x", PLAIN)
    numbers = iter(range(1, 1004))

    async def work() -> None:
        for number in numbers:
            await subject.store.upload_part(upload, number, b"%d" % number)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(work)
    found = await subject.store.list_parts(upload)
    assert [(one.number, one.size) for one in found] == [(n, len(str(n))) for n in range(1, 1004)]
    await subject.store.abort_multipart(upload)


@check
async def a_part_may_be_copied_from_another_object(subject: Subject) -> None:
    """A range of it, mixed with parts that are sent."""
    size = subject.part_bytes
    source = os.urandom(2 * size + 10)
    etag = await subject.put("source + é", source)
    upload = await subject.store.create_multipart("x", PLAIN)
    copied = await subject.store.copy_part(upload, 1, "source + é", ByteRange(5, size + 10), if_match=etag)
    sent = await subject.store.upload_part(upload, 2, b"end")
    await subject.store.complete_multipart(upload, [copied, sent])
    assert await subject.get("x") == source[5 : size + 10] + b"end"


@check
async def a_part_is_not_copied_from_a_changed_object(subject: Subject) -> None:
    """Changed or gone, each said as such."""
    await subject.put("source", b"1234567890")
    upload = await subject.store.create_multipart("x", PLAIN)
    span = ByteRange(0, 5)
    await raises(ConditionFailed, subject.store.copy_part(upload, 1, "source", span, if_match=WRONG_ETAG))
    await raises(NotFound, subject.store.copy_part(upload, 1, "absent", span, if_match=WRONG_ETAG))
    await subject.store.abort_multipart(upload)


# Copies


@check
async def a_copy_keeps_bytes_and_headers(subject: Subject) -> None:
    """And leaves the source alone."""
    etag = await subject.put("a", b"body", RICH)
    answer = await subject.store.copy("a", "d/b", if_match=etag, headers=None)
    stat = await subject.store.head("d/b")
    assert (stat.size, stat.etag, stat.headers) == (4, answer.etag, RICH)
    assert await subject.get("d/b") == b"body" == await subject.get("a")


@check
async def a_copy_may_replace_the_headers(subject: Subject) -> None:
    """All of them: what is not given is gone."""
    await subject.put("a", b"body", RICH)
    new = ObjectHeaders(content_type="a/b", metadata={"mode": "33152"})
    await subject.store.copy("a", "b", if_match=None, headers=new)
    assert (await subject.store.head("b")).headers == new


@check
async def a_copy_onto_itself_replaces_the_headers(subject: Subject) -> None:
    """That is how attributes of a stored object change."""
    etag = await subject.put("a", b"body", RICH)
    new = replace(RICH, metadata={"mode": "33152"})
    await subject.store.copy("a", "a", if_match=etag, headers=new)
    assert (await subject.store.head("a")).headers == new
    assert await subject.get("a") == b"body"


@check
async def a_copy_is_bound_to_its_sources_etag(subject: Subject) -> None:
    """Changed or gone, each said as such, and nothing is created."""
    await subject.put("a", b"body")
    copy = subject.store.copy
    await raises(ConditionFailed, copy("a", "b", if_match=WRONG_ETAG, headers=None))
    await raises(NotFound, copy("absent", "b", if_match=WRONG_ETAG, headers=None))
    await raises(NotFound, copy("absent", "b", if_match=None, headers=None))
    await raises(NotFound, subject.store.head("b"))


@check
async def a_storage_class_is_kept_where_it_is_asked_for(subject: Subject) -> None:
    """PUT, HEAD, LIST and copies agree about it."""
    rare = "REDUCED_REDUNDANCY"
    await subject.put("a", b"body", ObjectHeaders(storage_class=rare))
    await subject.store.copy("a", "b", if_match=None, headers=None, storage_class=rare)
    await subject.store.copy("a", "c", if_match=None, headers=ObjectHeaders(storage_class=rare))
    await subject.put("d", b"body")
    for key, expected in (("a", rare), ("b", rare), ("c", rare), ("d", None)):
        stat: ObjectStat = await subject.store.head(key)
        assert (key, stat.storage_class) == (key, expected)
        assert stat.headers is not None
        assert stat.headers.storage_class == expected
    listed = (await subject.store.list_page("")).objects
    assert [one.storage_class for one in listed] == [rare, rare, rare, None]


@check
async def a_copy_without_a_storage_class_is_standard(subject: Subject) -> None:
    """S3 does not keep it of itself."""
    await subject.put("a", b"body", ObjectHeaders(storage_class="REDUCED_REDUNDANCY"))
    await subject.store.copy("a", "b", if_match=None, headers=None)
    assert (await subject.store.head("b")).storage_class is None


# Deletions


@check
async def deleting_what_is_absent_is_fine(subject: Subject) -> None:
    """Also a second time."""
    await subject.put("x")
    for key in ("x", "x", "absent/y"):
        await subject.store.delete(key)
    await raises(NotFound, subject.store.head("x"))


@check
async def delete_if_match_deletes_only_what_it_names(subject: Subject) -> None:
    """A delete that is bound to an ETag fails when the object is another."""
    etag = await subject.put("x", b"1")
    await raises(ConditionFailed, subject.store.delete("x", if_match=WRONG_ETAG))
    assert await subject.get("x") == b"1"
    await subject.store.delete("x", if_match=etag)
    await raises(NotFound, subject.store.head("x"))


@check
async def delete_if_match_of_an_absent_key_is_fine(subject: Subject) -> None:
    """What was to be deleted is gone."""
    await subject.store.delete("absent", if_match=WRONG_ETAG)


@check
async def deleting_a_key_leaves_those_below_it(subject: Subject) -> None:
    """A key is no directory."""
    await subject.put("d/", b"")
    await subject.put("d/x", b"1")
    await subject.store.delete("d/")
    assert await subject.get("d/x") == b"1"
    assert await subject.names() == (["d/x"], [])


@check
async def many_keys_go_in_one_request(subject: Subject) -> None:
    """A thousand, absent ones among them."""
    await many(subject, [f"d/{n:04}" for n in range(0, 1000, 2)])
    await subject.put("other")
    assert await subject.store.delete_many([f"d/{n:04}" for n in range(1000)]) == []
    assert await subject.names() == (["other"], [])


@check
async def deleting_no_keys_is_fine(subject: Subject) -> None:
    """An empty list is no request."""
    assert await subject.store.delete_many([]) == []


async def many(subject: Subject, keys: list[str]) -> None:
    """Store empty objects, eight at a time."""
    waiting = iter(keys)

    async def work() -> None:
        for key in waiting:
            await subject.put(key)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(work)


FLAT = "has directories inside: an empty component goes away, so other keys are hit"
PATHS = "refuses `.` and `..` as components"
DEVIATIONS: dict[str, dict[str, str]] = {
    "memory": {},
    "moto": {
        "key_with_a_newline_and_a_tab": "werkzeug finds no route to it: 404",
        "key_with_control_characters": "writes them into its answers, which are then no XML",
        "key_with_a_noncharacter": "writes them into its answers, which are then no XML",
        "a_key_over_1024_bytes_is_too_long": "has no limit",
        "complete_if_match_replaces_only_what_it_names": "ignores If-Match on CompleteMultipartUpload",
        "a_listed_upload_says_when_it_was_begun": "says that every upload was begun in 2010",
        "a_finished_upload_is_gone": "answers 500",
        "completing_twice_does_not_find_the_upload": "answers 500",
        "an_aborted_upload_leaves_nothing": "answers 500",
        "a_part_is_not_copied_from_a_changed_object": "ignores the condition on a copy's source",
        "a_copy_is_bound_to_its_sources_etag": "ignores the condition on a copy's source",
    },
    "minio": {
        "a_prefix_may_end_within_a_name": "LIST hides what is below a key that is itself an object",
        "a_key_and_keys_below_it_live_together": "LIST hides what is below a key that is itself an object",
        "key_with_a_leading_slash": "drops the slash: `/a` is `a`",
        "key_with_two_slashes": "refuses empty components",
        "key_ending_in_two_slashes": "refuses empty components",
        "key_that_is_a_slash": "refuses empty components",
        "key_with_a_dot_component": PATHS,
        "key_with_a_dot_dot_component": PATHS,
        "key_that_is_dot_dot": PATHS,
        "key_with_a_component_over_255_bytes": "keeps keys as paths of an ordinary file system",
        "unfinished_uploads_under_a_prefix_are_listed": "takes the prefix for a whole key",
        "a_copy_without_a_storage_class_is_standard": "keeps the source's",
        "delete_if_match_deletes_only_what_it_names": "ignores If-Match on DELETE",
    },
    "seaweedfs": {
        "absent_keys_are_not_found": "HEAD of a prefix with a slash at its end finds a directory",
        "a_marker_may_have_a_body": "LIST and HEAD give it size 0",
        "nothing_is_left_of_a_prefix_without_keys": "directories outlive their last key for a while",
        "put_if_match_on_an_absent_key_is_not_found": "answers 412",
        "a_delimited_listing_is_in_the_order_of_whole_keys": "sorts a directory by its name alone",
        "start_after_is_about_whole_keys": "sorts a directory by its name alone",
        "start_after_within_a_common_prefix_loses_nothing_behind_it": "starts anew before it",
        "key_with_a_backslash": "stores it as a slash",
        "key_with_a_leading_slash": FLAT,
        "key_with_two_slashes": FLAT,
        "key_ending_in_two_slashes": FLAT,
        "key_that_is_a_slash": FLAT,
        "key_with_a_dot_component": PATHS,
        "key_with_a_dot_dot_component": PATHS,
        "key_that_is_dot_dot": PATHS,
        "key_with_a_component_over_255_bytes": "refuses it",
        "completing_twice_does_not_find_the_upload": "answers as it did the first time",
        "a_copy_without_a_storage_class_is_standard": "keeps the source's",
    },
}
