"""Listings page by page, while this host and others change what is listed."""

from __future__ import annotations

import pytest

from s3mount.errors import StoreUnavailable
from s3mount.meta.inodes import FileNode
from tests.support.memory_store import Call
from tests.support.names import TTL_S, Names, check, names_of, once, run

MANY = 2500
NAMES = [f"{n:04}".encode() for n in range(MANY)]


def many(prefix: str = "", **policy: object) -> Names:
    """A directory that takes three pages."""
    return Names(*(f"{prefix}{name.decode()}" for name in NAMES), **policy)


def test_pages_come_one_by_one() -> None:
    """The first thousand names cost one request, and each name comes once."""

    async def main() -> None:
        names = many()
        stream = names.namespace.stream(names.root)
        first = names_of(await stream.next_page())
        # The last key of a page is held back: its prefix may follow.
        assert first == NAMES[:999]
        assert names.requests() == {"list_page": 1}
        rest = [await stream.next_page() for _ in range(3)]
        stream.close()
        assert [*first, *names_of(rest[0]), *names_of(rest[1])] == NAMES
        assert rest[2] is None
        assert names.requests() == {"list_page": 2}

    run(main)


def test_a_whole_listing_answers_for_its_time() -> None:
    """Afterwards no name of it, and no name that it lacks, is asked for; then both are."""

    async def main() -> None:
        names = many()
        assert await names.list() == NAMES
        names.requests()
        assert names.namespace.cached_listing(names.root) is not None
        await names.find("0007")
        with pytest.raises(Exception, match="no entry"):
            await names.find("missing")
        assert not names.requests()
        names.now += TTL_S + 1
        assert names.namespace.cached_listing(names.root) is None
        await names.find("0007")
        assert names.requests()

    run(main)


def test_what_others_removed_goes_and_what_they_added_comes() -> None:
    """A second listing says what is there now."""

    async def main() -> None:
        names = many()
        await names.list()
        names.store.remove("0100")
        names.store.store("2400a", b"x")
        names.now += TTL_S + 1
        found = await names.list()
        assert set(found) == {*NAMES, b"2400a"} - {b"0100"}
        assert names.root.children.keys() == set(found)
        check(names.table)

    run(main)


def test_a_page_that_fails_is_asked_again() -> None:
    """The error is raised; the next call goes on where it broke off, with no name lost or twice."""

    async def main() -> None:
        names = many()
        stream = names.namespace.stream(names.root)
        found = names_of(await stream.next_page())

        def fail() -> None:
            raise StoreUnavailable("503")

        names.store.before = once("list_page", "", fail)
        with pytest.raises(StoreUnavailable):
            await stream.next_page()
        while (page := await stream.next_page()) is not None:
            found += names_of(page)
        stream.close()
        assert found == NAMES

    run(main)


@pytest.mark.parametrize("moment", ["before", "after"], ids=["as asked", "as answered"])
def test_a_file_made_during_a_listing_is_not_lost(moment: str) -> None:
    """The answer does not have it yet; it stays, and the listing shows it."""

    async def main() -> None:
        names = Names("a", "b", "d/1")
        setattr(names.store, moment, once("list_page", "", lambda: names.create(names.root, b"new")))
        assert sorted(await names.list()) == [b"a", b"b", b"d", b"new"]
        assert b"new" in names.root.children

    run(main)


def test_a_file_removed_during_a_listing_is_not_resurrected() -> None:
    """The answer still has it; it stays gone, in the listing as in the names."""

    async def main() -> None:
        names = Names("a", "b")
        node = await names.find("a")
        names.now += TTL_S + 1
        names.store.after = once("list_page", "", lambda: names.remove(node))
        assert await names.list() == [b"b"]
        assert names.root.children.keys() == {b"b"}
        with pytest.raises(Exception, match="no entry"):
            await names.find("a")

    run(main)


def test_a_file_uploaded_during_a_listing_keeps_its_new_version() -> None:
    """The answer has the old size; the one that this host just wrote holds."""

    async def main() -> None:
        names = Names("a")
        node = await names.file("a")
        names.now += TTL_S + 1

        def upload() -> None:
            names.namespace.note_change(names.root, b"a", adds_or_removes=False)
            node.stat = names.store.store("a", b"longer now")
            node.size, node.is_own = len(b"longer now"), True
            names.namespace.note_fresh(node)
            names.namespace.note_change(names.root, b"a", adds_or_removes=False)

        names.store.after = once("list_page", "", upload)
        assert await names.list() == [b"a"]
        assert (await names.file("a")).size == len(b"longer now")

    run(main)


def test_a_file_renamed_during_a_listing_shows_once_or_not_at_all() -> None:
    """Moved from a page that was shown to one that was not, it has one of its names, and is not lost."""

    async def main() -> None:
        names = many()
        stream = names.namespace.stream(names.root)
        found = names_of(await stream.next_page())
        node = await names.file("0001")
        for name in (b"0001", b"2499z"):
            names.namespace.note_change(names.root, name)
        names.store.remove("0001")
        names.namespace.move(node, names.root, b"2499z")
        node.stat = names.store.store("2499z", b"x")
        while (page := await stream.next_page()) is not None:
            found += names_of(page)
        stream.close()
        assert found.count(b"2499z") == 1
        assert sorted(set(found)) == [*NAMES, b"2499z"]
        assert names.root.children.keys() == {*NAMES, b"2499z"} - {b"0001"}

    run(main)


def test_two_listings_at_once_do_not_take_each_others_entries_away() -> None:
    """Two `ls` of one large directory, page by page in turn: both see every name, and it stays known."""

    async def main() -> None:
        for order in ("aabbab", "abbbaa", "ababab", "baabab"):
            names = many()
            names.create(names.root, b"only here")
            streams = {letter: names.namespace.stream(names.root) for letter in "ab"}
            found: dict[str, list[bytes]] = {"a": [], "b": []}
            for letter in order:
                found[letter] += names_of(await streams[letter].next_page())
            for stream in streams.values():
                assert await stream.next_page() is None
                stream.close()
            for letter in "ab":
                assert sorted(found[letter]) == sorted([*NAMES, b"only here"]), f"{letter} of {order}"
            assert len(names.root.children) == MANY + 1
            check(names.table)

    run(main)


def test_looking_a_name_up_does_not_end_a_listing_early() -> None:
    """A look-up asks for the first page, too; the names of that page stay in the listing."""

    async def main() -> None:
        names = many()
        stream = names.namespace.stream(names.root)
        found = names_of(await stream.next_page())
        names.now += TTL_S + 1
        await names.find("0005")
        while (page := await stream.next_page()) is not None:
            found += names_of(page)
        stream.close()
        assert found == NAMES
        assert len(names.root.children) == MANY

    run(main)


def test_what_was_seen_after_a_listing_began_is_not_undone_by_it() -> None:
    """Another host's new file, found by a look-up behind the listing's back, does not vanish again."""

    async def main() -> None:
        names = many()
        stream = names.namespace.stream(names.root)
        await stream.next_page()
        names.now += 1
        names.store.store("0000a", b"x")
        node = await names.find("0000a")
        while await stream.next_page() is not None:
            pass
        stream.close()
        assert names.root.children[b"0000a"] is node
        assert await names.find("0000a") is node

    run(main)


def test_an_old_page_does_not_undo_a_newer_look_up() -> None:
    """A page that was long on its way brings an older version than a look-up has found since."""

    async def main() -> None:
        names = many()
        names.root.big_until = names.now + 1000
        stream = names.namespace.stream(names.root)

        async def overtake(call: Call) -> None:
            if call.method == "list_page" and call.key == "" and not overtaken:
                overtaken.append(call)
                names.now += 1
                names.store.store("0003", b"a new version")
                assert (await names.file("0003")).size == len(b"a new version")

        overtaken: list[Call] = []
        names.store.after = overtake
        assert names_of(await stream.next_page()) == NAMES[:999]
        stream.close()
        node = names.root.children[b"0003"]
        assert isinstance(node, FileNode)
        assert node.size == len(b"a new version")

    run(main)


def test_files_that_only_this_host_has_are_listed_last() -> None:
    """They have no place in the bucket's order yet, and are shown once."""

    async def main() -> None:
        names = many()
        names.create(names.root, b"0000-local")
        found = await names.list()
        assert found == [*NAMES, b"0000-local"]

    run(main)


def test_an_entry_that_is_being_forgotten_stays_in_the_listing() -> None:
    """FORGETs that come between pages take no name out of it."""

    async def main() -> None:
        names = many()
        stream = names.namespace.stream(names.root)
        page = await stream.next_page()
        assert page is not None
        for _, node in page:
            node.lookup_count = 1
        for _, node in page:
            names.table.forget(node.inode, 1)
        while await stream.next_page() is not None:
            pass
        assert len(names.root.children) == MANY
        stream.close()

    run(main)


def test_the_change_record_ends_with_the_last_listing() -> None:
    """Names that changed are remembered only while somebody lists."""

    async def main() -> None:
        names = Names("a")
        streams = [names.namespace.stream(names.root) for _ in range(2)]
        names.create(names.root, b"b")
        for stream in streams:
            assert names.root.changes
            stream.close()
            stream.close()
        assert not names.root.changes
        names.create(names.root, b"c")
        assert not names.root.changes

    run(main)


@pytest.mark.parametrize("has_marker", [True, False])
def test_a_listing_tells_of_the_directorys_own_marker(has_marker: bool) -> None:
    """It is no entry, and whether it is there decides who keeps an empty directory alive."""

    async def main() -> None:
        names = Names("d/", "d/a")
        directory = await names.directory("d")
        if not has_marker:
            names.store.remove("d/")
        assert await names.list(directory) == [b"a"]
        assert directory.has_marker is has_marker

    run(main)
