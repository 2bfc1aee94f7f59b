"""What does this server honour? Asked in scratch keys under the mount's prefix, once for each bucket.

A question is a function that tries what it asks about and looks at what came of it: a status is not
believed where the object can be looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

import trio

from s3mount.core.contents import content_of
from s3mount.core.objects import ByteRange, ObjectHeaders
from s3mount.core.server_facts import QUESTIONS, ServerFacts
from s3mount.errors import (
    AccessDenied,
    BadAnswer,
    ConditionFailed,
    FsError,
    NotFound,
    StoreTimeout,
    StoreUnavailable,
    collapsed,
)
from s3mount.store.base import ObjectStore
from s3mount.store.scratch import Scratch

log = logging.getLogger(__name__)

_PLAIN: Final = ObjectHeaders()
_WRONG: Final = '"00000000000000000000000000000000"'
_INCONCLUSIVE: Final = (AccessDenied, StoreUnavailable, StoreTimeout, BadAnswer)


@dataclass(frozen=True, slots=True)
class Findings:
    """The facts, and why some of them were not found out (they are False then), by question."""

    facts: ServerFacts
    failures: dict[str, FsError]


async def probe(store: ObjectStore, prefix: str, known: ServerFacts) -> Findings:
    """Find out every fact, about ten requests one after the other, several at once.

    Args:
        store: passes every condition on, as it is; its answers are checked.
        prefix: the scratch keys begin with it.
        known: what is known already; the rest is filled in.

    Cancel: takes the scratch keys away first, for at most CLEANUP_S of store/scratch.py.
    Raises: AccessDenied, StoreError and its like (nothing can be written and deleted here).
    """
    scratch = Scratch(store, prefix)
    answers: dict[str, bool] = {}
    failures: dict[str, FsError] = {}

    async def ask(name: str, question: Question) -> None:
        try:
            answers[name] = await question(scratch)
        except _INCONCLUSIVE as exc:
            failures[name] = exc
        except FsError as exc:
            log.debug("the server cannot do %s: %s", name, exc)

    try:
        await _check_permissions(scratch)
        with collapsed():
            async with trio.open_nursery() as nursery:
                for name in QUESTIONS:
                    nursery.start_soon(ask, name, _QUESTIONS[name])
    finally:
        await scratch.clean()
    facts = known.answered(answers)
    if facts.list_has_metadata is None:
        facts = replace(facts, list_has_metadata=scratch.list_has_metadata)
    return Findings(facts, failures)


Question = Callable[[Scratch], Awaitable[bool]]


async def refused(call: Awaitable[object]) -> bool:
    """Return whether the server refused *call*, for its condition or because its object is absent."""
    try:
        await call
    except (ConditionFailed, NotFound):
        return True
    return False


async def _check_permissions(scratch: Scratch) -> None:
    """Delete before anything is stored: what could not be taken away again is better not there."""
    await scratch.store.delete(f"{scratch.stem}-write")
    key = scratch.key("write")
    await scratch.put(key, b"")
    await scratch.store.delete(key)


async def _put_if_none_match(scratch: Scratch) -> bool:
    key = scratch.key("put-new")
    made = (await scratch.store.put(key, b"1", _PLAIN, if_none_match=True)).etag or ""
    return await refused(
        scratch.store.put(key, b"2", _PLAIN, if_none_match=True)
    ) and await scratch.is_intact(key, made)


async def _put_if_match(scratch: Scratch) -> bool:
    absent = scratch.key("put-absent")
    if not await refused(scratch.store.put(absent, b"1", _PLAIN, if_match=_WRONG)):
        return False
    key = scratch.key("put-old")
    old = await scratch.put(key, b"1")
    if not await refused(scratch.store.put(key, b"2", _PLAIN, if_match=_WRONG)):
        return False
    # Looked at even after a refusal: an old MinIO has been seen to create the object all the same.
    if not (await scratch.is_absent(absent) and await scratch.is_intact(key, old)):
        return False
    await scratch.store.put(key, b"3", _PLAIN, if_match=old)
    return True


async def _complete_if_none_match(scratch: Scratch) -> bool:
    key = scratch.key("complete-new")
    upload, parts = await scratch.begin(key)
    made = await scratch.complete(upload, parts, if_none_match=True)
    upload, parts = await scratch.begin(key)
    old = await scratch.put(key, b"1")
    return (
        made != old
        and await refused(scratch.complete(upload, parts, if_none_match=True))
        and await scratch.is_intact(key, old)
    )


async def _complete_if_match(scratch: Scratch) -> bool:
    absent = scratch.key("complete-absent")
    upload, parts = await scratch.begin(absent)
    if not await refused(scratch.complete(upload, parts, if_match=_WRONG)):
        return False
    key = scratch.key("complete-old")
    old = await scratch.put(key, b"1")
    upload, parts = await scratch.begin(key)
    if not await refused(scratch.complete(upload, parts, if_match=_WRONG)):
        return False
    if not (await scratch.is_absent(absent) and await scratch.is_intact(key, old)):
        return False
    upload, parts = await scratch.begin(key)
    await scratch.complete(upload, parts, if_match=old)
    return True


async def _delete_if_match(scratch: Scratch) -> bool:
    key = scratch.key("delete")
    old = await scratch.put(key, b"1")
    if not await refused(scratch.store.delete(key, if_match=_WRONG)) or await scratch.is_absent(key):
        return False
    await scratch.store.delete(key, if_match=old)
    return await scratch.is_absent(key)


async def _copy_if_none_match(scratch: Scratch) -> bool:
    source, target = scratch.key("copy-from"), scratch.key("copy-to")
    etag = await scratch.put(source, b"1")

    async def copy(key: str) -> None:
        await scratch.store.copy(source, key, if_match=etag, headers=None, if_none_match=True)

    await copy(scratch.key("copy-new"))
    old = await scratch.put(target, b"2")
    return await refused(copy(target)) and await scratch.is_intact(target, old)


async def _copy_source_if_match(scratch: Scratch) -> bool:
    source, target = scratch.key("source"), scratch.key("target")
    etag = await scratch.put(source, b"1")
    copy = scratch.store.copy
    if not await refused(copy(source, target, if_match=_WRONG, headers=None)):
        return False
    if not await scratch.is_absent(target):
        return False
    await copy(source, target, if_match=etag, headers=None)
    return True


async def _copy_part_source_if_match(scratch: Scratch) -> bool:
    source = scratch.key("part-source")
    etag = await scratch.put(source, b"1")
    upload = await scratch.begin_empty(scratch.key("part-target"))
    span = ByteRange(0, 1)
    if not await refused(scratch.store.copy_part(upload, 1, source, span, if_match=_WRONG)):
        return False
    await scratch.store.copy_part(upload, 1, source, span, if_match=etag)
    return True


async def _head_checksum(scratch: Scratch) -> bool:
    key, body = scratch.key("checksum"), b"123456789"
    await scratch.put(key, body)
    return (await scratch.store.head(key, checksum=True)).crc32 == content_of([body]).crc32


async def _part_checksums(scratch: Scratch) -> bool:
    upload, _ = await scratch.begin(scratch.key("part-checksum"))
    listed = await scratch.store.list_parts(upload)
    return [part.crc32 for part in listed] == [content_of([b"part"]).crc32]


async def _lists_in_byte_order(scratch: Scratch) -> bool:
    # By name "list" comes before "list!"; by key "list!x" and "list-b" come before "list/1".
    keys = [scratch.key(f"list{end}") for end in ("!x", "-b", "/1")]
    for key in keys:
        await scratch.put(key, b"")
    page = await scratch.store.list_page(f"{scratch.stem}-list", max_keys=2)
    if page.objects:
        scratch.list_has_metadata = all(one.headers is not None for one in page.objects)
    return [one.key for one in page.objects] == keys[:2] and not page.prefixes


_QUESTIONS: Final[dict[str, Question]] = {
    "put_if_none_match": _put_if_none_match,
    "put_if_match": _put_if_match,
    "complete_if_none_match": _complete_if_none_match,
    "complete_if_match": _complete_if_match,
    "delete_if_match": _delete_if_match,
    "copy_if_none_match": _copy_if_none_match,
    "copy_source_if_match": _copy_source_if_match,
    "copy_part_source_if_match": _copy_part_source_if_match,
    "head_checksum": _head_checksum,
    "part_checksums": _part_checksums,
    "lists_in_byte_order": _lists_in_byte_order,
}
