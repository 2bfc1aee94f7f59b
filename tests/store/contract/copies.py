"""Copies."""

from __future__ import annotations

from dataclasses import replace

from s3mount.core.objects import (
    ObjectHeaders,
    ObjectStat,
)
from s3mount.errors import (
    ConditionFailed,
    NotFound,
)
from tests.store.contract.subject import (
    RICH,
    WRONG_ETAG,
    Subject,
    check,
    raises,
)


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
