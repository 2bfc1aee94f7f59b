"""Every lie that a server can tell is an error: never data, never an empty directory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import trio

from s3mount.core.objects import (
    ByteRange,
    ListPage,
    MultipartUpload,
    ObjectHeaders,
    ObjectStat,
    PartTag,
    RangeAnswer,
    WriteAnswer,
)
from s3mount.core.parts import MAX_OBJECT_BYTES
from s3mount.errors import BadAnswer
from s3mount.store.checked import CheckedStore
from tests.support.memory_store import MemoryStore

PLAIN = ObjectHeaders()
UPLOAD = MultipartUpload("d/x", "u")
PART = PartTag(1, '"e"', 4)
GOOD = RangeAnswer('"e"', ByteRange(2, 6), 10, 4)
STAT = ObjectStat("d/x", 4, '"e"', 0)
PAGE = ListPage((STAT,), ("d/sub/",), "token", True, "d/", 2)


class Liar(MemoryStore):
    """Answers every call with the same thing."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self._answer = answer

    async def _lie(self, *_: Any, **__: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return self._answer

    head = list_page = get_into = put = create_multipart = upload_part = copy_part = _lie
    complete_multipart = list_multipart_uploads = list_parts = copy = delete_many = _lie


def ask(answer: Any, call: Callable[[CheckedStore], Awaitable[Any]]) -> Any:
    """Return what the checked store says when the server answers so."""
    return trio.run(call, CheckedStore(Liar(answer)))


async def get(store: CheckedStore) -> RangeAnswer:
    return await store.get_into("d/x", ByteRange(2, 6), memoryview(bytearray(4)), if_match='"e"')


async def list_page(store: CheckedStore) -> ListPage:
    return await store.list_page("d/", token="before", max_keys=2)


async def head(store: CheckedStore) -> ObjectStat:
    return await store.head("d/x")


WRITES: dict[str, Callable[[CheckedStore], Awaitable[Any]]] = {
    "put": lambda store: store.put("d/x", b"body", PLAIN),
    "complete": lambda store: store.complete_multipart(UPLOAD, [PART]),
    "copy": lambda store: store.copy("d/x", "d/y", if_match=None, headers=None),
}
PARTS: dict[str, Callable[[CheckedStore], Awaitable[Any]]] = {
    "upload": lambda store: store.upload_part(UPLOAD, 1, b"body"),
    "copy": lambda store: store.copy_part(UPLOAD, 1, "s", ByteRange(3, 7), if_match='"e"'),
}


def test_true_answers_pass() -> None:
    """Nothing is changed on the way."""
    assert ask(GOOD, get) is GOOD
    assert ask(STAT, head) is STAT
    assert ask(PAGE, list_page) is PAGE


@pytest.mark.parametrize(
    "lie",
    [
        replace(GOOD, etag=None),
        replace(GOOD, etag='"other"'),
        replace(GOOD, span=None),
        replace(GOOD, span=ByteRange(0, 10)),
        replace(GOOD, span=ByteRange(2, 5)),
        replace(GOOD, span=ByteRange(1, 5)),
        replace(GOOD, received=3),
        replace(GOOD, received=0),
        replace(GOOD, total_size=5),
    ],
    ids=repr,
)
def test_lies_about_a_range(lie: RangeAnswer) -> None:
    """Another version, another range, too few bytes."""
    with pytest.raises(BadAnswer, match="GET 'd/x'"):
        ask(lie, get)


def test_an_etag_may_be_marked_weak_by_a_proxy() -> None:
    """A compressing proxy does so, and the object is the same."""
    assert ask(replace(GOOD, etag='W/"e"'), get).received == 4


@pytest.mark.parametrize(
    "lie",
    [
        replace(STAT, size=-1),
        replace(STAT, size=MAX_OBJECT_BYTES + 1),
        replace(STAT, etag=""),
        replace(STAT, etag='""'),
        replace(STAT, key="d/y"),
    ],
    ids=repr,
)
def test_lies_about_an_object(lie: ObjectStat) -> None:
    """No length, an impossible one, no ETag, another key."""
    with pytest.raises(BadAnswer):
        ask(lie, head)


@pytest.mark.parametrize(
    "lie",
    [
        replace(PAGE, echoed_prefix="e/"),
        replace(PAGE, key_count=3),
        replace(PAGE, key_count=0),
        replace(PAGE, next_token=None),
        replace(PAGE, next_token="before"),
        replace(PAGE, objects=(replace(STAT, key="e/x"),)),
        replace(PAGE, objects=(replace(STAT, key="../d/x"),)),
        replace(PAGE, objects=(replace(STAT, size=-1),)),
        replace(PAGE, objects=(replace(STAT, size=10**20),)),
        replace(PAGE, objects=(replace(STAT, etag=""),)),
        replace(PAGE, prefixes=("e/sub/",)),
        replace(PAGE, prefixes=("d/",)),
        replace(PAGE, prefixes=("d/sub",)),
        replace(PAGE, objects=(STAT, STAT), key_count=3),
    ],
    ids=repr,
)
def test_lies_about_a_listing(lie: ListPage) -> None:
    """Other keys, other counts, pages that do not end."""
    with pytest.raises(BadAnswer):
        ask(lie, list_page)


@pytest.mark.parametrize("write", list(WRITES))
@pytest.mark.parametrize("etag", [None, "", '""'])
def test_a_write_without_an_etag_is_none(write: str, etag: str | None) -> None:
    """A proxy's page with status 200 stored nothing."""
    with pytest.raises(BadAnswer):
        ask(WriteAnswer(etag), WRITES[write])
    assert ask(WriteAnswer('"e"'), WRITES[write]).etag == '"e"'


@pytest.mark.parametrize("part", list(PARTS))
@pytest.mark.parametrize("lie", [replace(PART, etag=None), replace(PART, number=2), replace(PART, size=5)])
def test_lies_about_a_part(part: str, lie: PartTag) -> None:
    """No ETag, another part, another size."""
    with pytest.raises(BadAnswer):
        ask(lie, PARTS[part])
    assert ask(PART, PARTS[part]) is PART


def test_an_upload_without_an_id_is_none() -> None:
    """Its parts would go nowhere."""
    with pytest.raises(BadAnswer):
        ask(MultipartUpload("d/x", ""), lambda store: store.create_multipart("d/x", PLAIN))


def test_a_deletion_speaks_only_of_the_keys_it_was_given() -> None:
    """What is left must be among them."""
    assert ask(["a"], lambda store: store.delete_many(["a", "b"])) == ["a"]
    with pytest.raises(BadAnswer):
        ask(["c"], lambda store: store.delete_many(["a", "b"]))


def test_uploads_are_of_keys_under_the_prefix() -> None:
    """Or an abort would hit another's upload."""
    with pytest.raises(BadAnswer):
        ask([UPLOAD], lambda store: store.list_multipart_uploads("e/"))


@pytest.mark.parametrize(
    "lie",
    [
        [replace(PART, etag=None)],
        [replace(PART, size=-1)],
        [replace(PART, number=0)],
        [replace(PART, number=10_001)],
        [PART, PART],
        [replace(PART, number=2), PART],
    ],
    ids=repr,
)
def test_lies_about_the_parts_that_the_server_has(lie: list[PartTag]) -> None:
    """No ETag, no size, a number that cannot be, twice, or out of order."""
    with pytest.raises(BadAnswer, match="parts of 'd/x'"):
        ask(lie, lambda store: store.list_parts(UPLOAD))


def test_the_parts_that_the_server_has_pass() -> None:
    """None, some, and with a gap between."""
    for parts in ([], [PART, replace(PART, number=10_000)]):
        assert ask(parts, lambda store: store.list_parts(UPLOAD)) is parts
