"""Look-ups: what they find, what they cost, and how long they are believed."""

from __future__ import annotations

import pytest

from s3mount.core.attributes import to_metadata
from s3mount.core.objects import ObjectHeaders
from s3mount.errors import IllegalName, NameTooLong, NotFound, StaleObject, StoreUnavailable
from s3mount.meta.inodes import DirectoryNode, FileNode
from s3mount.meta.observations import stored_attributes
from tests.support.names import NEGATIVE_TTL_S, TTL_S, Names, check, once, run

MANY = [f"{n:04}" for n in range(1500)]


async def missing(names: Names, path: str) -> None:
    """Assert that *path* is not there."""
    with pytest.raises(NotFound):
        await names.find(path)


def test_the_first_look_up_brings_the_whole_directory() -> None:
    """The kernel sends look-ups of one directory one after the other: the first one pays for all."""

    async def main() -> None:
        names = Names("a", "b", "d/x", "d/y")
        assert (await names.file("a")).size == 1
        assert names.requests() == {"list_page": 1}
        await names.file("b")
        assert isinstance(await names.find("d"), DirectoryNode)
        await missing(names, "c")
        assert not names.requests()
        await names.file("d/x")
        assert names.requests() == {"list_page": 1}
        await names.file("d/y")
        await missing(names, "d/z")
        assert not names.requests()

    run(main)


def test_a_name_is_asked_again_when_its_time_is_over() -> None:
    """One request after the TTL, and it may bring another version."""

    async def main() -> None:
        names = Names("a")
        node = await names.file("a")
        names.store.store("a", b"longer")
        names.now += TTL_S - 0.1
        assert (await names.file("a")).size == 1
        names.requests()
        names.now += 0.2
        assert (await names.file("a")).size == len(b"longer")
        assert await names.file("a") is node
        assert names.requests() == {"list_page": 1}

    run(main)


def test_an_absence_is_asked_again_when_its_time_is_over() -> None:
    """Nothing is asked within the negative TTL; after it a name that others made is found."""

    async def main() -> None:
        names = Names("a")
        await missing(names, "b")
        names.store.store("b", b"x")
        names.requests()
        names.now += NEGATIVE_TTL_S - 0.1
        await missing(names, "b")
        assert not names.requests()
        names.now += 0.2
        await names.file("b")

    run(main)


def test_without_a_ttl_every_look_up_asks() -> None:
    """What others do is seen at once."""

    async def main() -> None:
        names = Names("a", ttl_s=0.0, negative_ttl_s=0.0)
        await names.file("a")
        await missing(names, "b")
        names.store.store("b", b"x")
        names.store.remove("a")
        await names.file("b")
        await missing(names, "a")
        assert names.requests() == {"list_page": 4}

    run(main)


def test_a_large_directory_is_asked_for_single_names() -> None:
    """Once a page was not the last, a look-up is a HEAD and a LIST of one key, both at once."""

    async def main() -> None:
        names = Names(*(f"d/{name}" for name in MANY), "d/1400x/below")
        directory = await names.directory("d")
        names.requests()
        await names.file("d/0100")
        assert names.requests() == {"list_page": 1}
        await names.file("d/1200")
        assert names.requests() == {"list_page": 1, "head": 1}
        assert isinstance(await names.find("d/1400x"), DirectoryNode)
        assert names.requests() == {"list_page": 1, "head": 1}
        await missing(names, "d/1400y")
        assert names.requests() == {"list_page": 1, "head": 1}
        await missing(names, "d/1400y")
        await names.file("d/1200")
        assert not names.requests()
        assert directory.big_until > names.now

    run(main)


def test_absences_in_a_large_directory_are_bounded() -> None:
    """A program that tries a million names that are not there does not fill the memory."""

    async def main() -> None:
        names = Names(*(f"d/{name}" for name in MANY))
        directory = await names.directory("d")
        for n in range(6000):
            await missing(names, f"d/none-{n}")
        assert len(directory.absent) <= 4096
        names.now += NEGATIVE_TTL_S + 1
        await missing(names, "d/none-again")
        assert len(directory.absent) == 1

    run(main)


def test_force_asks_whatever_is_known() -> None:
    """RENAME_NOREPLACE must not trust a cache, neither for what is there nor for what is not."""

    async def main() -> None:
        names = Names("a")
        await missing(names, "b")
        names.store.store("b", b"x")
        names.requests()
        assert isinstance(await names.namespace.lookup(names.root, b"b", force=True), FileNode)
        assert names.requests() == {"list_page": 1, "head": 1}
        names.store.remove("a")
        with pytest.raises(NotFound):
            await names.namespace.lookup(names.root, b"a", force=True)

    run(main)


def test_an_object_beside_a_prefix_has_a_name_of_its_own() -> None:
    """The directory keeps the plain name, the file gets the suffix; both while both are there."""

    async def main() -> None:
        names = Names("a", "a/b", "c")
        assert sorted(await names.list()) == [b"a", b"a%s3=file", b"c"]
        assert isinstance(await names.find("a"), DirectoryNode)
        assert (await names.file("a%s3=file")).key == "a"
        await missing(names, "c%s3=file")
        names.now += TTL_S + 1
        names.store.remove("a/b")
        assert (await names.file("a")).key == "a"
        await missing(names, "a%s3=file")
        check(names.table)

    run(main)


def test_names_that_cannot_be_say_so_whatever_is_known() -> None:
    """Also in a directory whose listing is complete, and without a request."""

    async def main() -> None:
        names = Names("a")
        for _ in range(2):
            for name, error in ((b"x" * 256, NameTooLong), (b"\xff", IllegalName)):
                with pytest.raises(error):
                    await names.namespace.lookup(names.root, name)
            await names.list()
            names.requests()
        assert not names.requests()

    run(main)


def test_a_name_that_was_forgotten_is_still_there() -> None:
    """The kernel forgets an entry right after `ls`: the listing that lacks it now proves no absence."""

    async def main() -> None:
        names = Names("a", "b")
        await names.list()
        node = await names.file("a")
        node.lookup_count = 1
        names.table.forget(node.inode, 1)
        assert (await names.file("a")).size == 1

    run(main)


def test_what_this_host_makes_is_not_asked_for() -> None:
    """Its own new file is there, whatever the store says, and its absence is forgotten at once."""

    async def main() -> None:
        names = Names("a")
        await missing(names, "new")
        node = names.create(names.root, b"new")
        names.now += 1000
        names.requests()
        assert await names.find("new") is node
        assert not names.requests()

    run(main)


def test_a_failure_of_the_store_is_no_absence() -> None:
    """The look-up fails, nothing is concluded, and the next one asks again."""

    async def main() -> None:
        names = Names("a")
        await names.file("a")
        names.now += TTL_S + 1

        def fail() -> None:
            raise StoreUnavailable("503")

        names.store.before = once("list_page", "", fail)
        with pytest.raises(StoreUnavailable):
            await names.find("a")
        assert b"a" in names.root.children
        assert not names.root.listings
        await names.file("a")
        check(names.table)

    run(main)


def test_an_open_file_is_replaced_by_another_node() -> None:
    """Who has it open keeps the old version; the name leads to a node with the new one."""

    async def main() -> None:
        names = Names("a")
        old = await names.file("a")
        old.pins = 1
        names.store.store("a", b"another")
        names.now += TTL_S + 1
        with pytest.raises(StaleObject):
            await names.namespace.refresh(old)
        new = await names.file("a")
        assert new is not old and new.inode != old.inode
        assert (old.size, new.size) == (1, len(b"another"))
        assert not old.is_linked
        await names.namespace.refresh(old)
        names.table.unpin(old)
        check(names.table)

    run(main)


def test_refreshing_what_is_gone() -> None:
    """NotFound, and the name is gone."""

    async def main() -> None:
        names = Names("a", "b")
        node = await names.file("a")
        names.store.remove("a")
        names.now += TTL_S + 1
        with pytest.raises(NotFound):
            await names.namespace.refresh(node)
        assert not node.is_linked

    run(main)


def test_refreshing_one_unchanged_file_is_one_head() -> None:
    """An open of a known file asks for that file alone."""

    async def main() -> None:
        names = Names("a", "b")
        node = await names.file("a")
        names.now += TTL_S + 1
        names.requests()
        await names.namespace.refresh(node)
        assert names.requests() == {"head": 1}
        await names.namespace.refresh(node)
        assert not names.requests()

    run(main)


def test_two_that_refresh_at_once_agree_that_a_file_was_replaced() -> None:
    """While one waits for its answer the other finds the new version: StaleObject, not a bug."""

    async def main() -> None:
        names = Names("a")
        node = await names.file("a")
        node.pins = 1
        names.store.store("a", b"another")
        names.now += TTL_S + 1

        def overtake() -> None:
            names.table.new_file(names.root, b"a", "a").describe(names.store.stat("a"), None)

        names.store.after = once("head", "a", overtake)
        with pytest.raises(StaleObject):
            await names.namespace.refresh(node)

    run(main)


def test_a_chmod_here_is_not_undone_by_an_older_answer() -> None:
    """A HEAD that was under way when this host stored a mode brings the one before it."""

    async def main() -> None:
        names = Names("a", attributes="exact")
        node = await names.file("a")
        names.now += TTL_S + 1
        old = names.store.stat("a")

        def change_mode() -> None:
            names.namespace.note_change(names.root, b"a", adds_or_removes=False)
            names.store.store("a", b"x", ObjectHeaders(metadata={"mode": "33152"}))
            node.stat = names.store.stat("a")
            node.attributes = stored_attributes(node.stat)
            names.namespace.note_fresh(node)
            names.namespace.note_change(names.root, b"a", adds_or_removes=False)

        assert old.headers is not None and not to_metadata(
            old.headers.metadata, node.attributes, is_directory=False
        )
        names.store.after = once("head", "a", change_mode)
        await names.namespace.refresh(node)
        assert node.attributes is not None
        assert node.attributes.mode == 0o600

    run(main)


def test_a_chmod_elsewhere_within_the_second_is_seen() -> None:
    """Neither ETag nor Last-Modified tell of it, but the answer carries the new mode."""

    async def main() -> None:
        names = Names("a", attributes="exact")
        names.store.now_ns = lambda: 1_700_000_000 * 10**9
        names.store.store("a", b"x")
        node = await names.file("a")
        assert node.attributes is not None and node.attributes.mode is None
        names.store.store("a", b"x", ObjectHeaders(metadata={"mode": "33152"}))
        names.now += TTL_S + 1
        await names.namespace.refresh(node)
        assert node.attributes.mode == 0o600

    run(main)


def test_moving_a_directory_gives_what_is_below_its_new_keys() -> None:
    """Nodes keep their inodes; keys and locations follow."""

    async def main() -> None:
        names = Names("a/b/c", "a/d")
        directory = await names.directory("a")
        deep, file = await names.file("a/b/c"), await names.file("a/d")
        names.namespace.move(directory, names.root, b"z")
        assert (deep.key, file.key) == ("z/b/c", "z/d")
        assert directory.location.prefix == "z/"
        assert deep.path() == "/z/b/c"
        check(names.table)

    run(main)


def test_cached_names_over_the_cap_are_dropped() -> None:
    """A walk through a large tree does not keep it: what was listed longest ago goes first."""

    async def main() -> None:
        names = Names(*(f"{d:02}/{n:03}" for d in range(20) for n in range(100)), max_cached_names=300)
        await names.list()
        for d in range(20):
            directory = await names.directory(f"{d:02}")
            directory.lookup_count = 1  # the kernel's, which has it open
            await names.list(directory)
            assert len(names.table) <= 300 + 100 + 21
        assert len((await names.directory("19")).children) == 100
        check(names.table)

    run(main)


@pytest.mark.parametrize("key", ["d/a", "d/a/b", "d/"], ids=["file", "deeper", "marker"])
def test_whether_a_directory_holds_anything_is_asked(key: str) -> None:
    """An empty marker alone is nothing; whatever else is there, others' newest included, is something."""

    async def main() -> None:
        names = Names("d/", key)
        directory = await names.directory("d")
        await names.list(directory)
        holds = await names.namespace.holds_keys(directory.location, beside_marker=True)
        assert holds is (key != "d/")
        names.store.store("d/", b"bytes")
        assert await names.namespace.holds_keys(directory.location, beside_marker=True)

    run(main)
