"""Uploads in parts."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace

import trio

from s3mount.core.objects import (
    ByteRange,
    FileSlice,
    MultipartUpload,
    PartTag,
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
