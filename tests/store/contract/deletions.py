"""Deletions."""

from __future__ import annotations

from s3mount.errors import (
    ConditionFailed,
    NotFound,
)
from tests.store.contract.subject import (
    WRONG_ETAG,
    Subject,
    check,
    many,
    raises,
)


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
