"""Listings."""

from __future__ import annotations

from dataclasses import replace

from tests.store.contract.subject import (
    PLAIN,
    RICH,
    Subject,
    check,
    many,
)


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
