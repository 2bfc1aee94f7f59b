"""Listings that are behind: as long as names are believed, this host's own changes hold against them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from s3mount.control.commands import forget_what_is_known
from s3mount.errors import DirectoryNotEmpty, NotFound
from s3mount.fs.attributes import AttributeChange
from tests.fs.rename_world import ME, Host, World
from tests.support.names import check

TTL_S, NEGATIVE_TTL_S = 5.0, 2.0
SOON_S = 1.0  # within both


class Late:
    """A host that has believed what it knows for too long: the next look asks the store."""

    def __init__(self, world: World, host: Host, clock: MockClock) -> None:
        self.world = world
        self.store = world.store
        self.host = host
        self.wait = clock.jump

    async def names(self) -> set[str]:
        """Return what `ls` shows when the last listing is too old; and look up a name that nobody has."""
        root = await self.host.directory("")
        root.forget_listing()
        shown = await self.host.list()
        root.forget_listing()
        with pytest.raises(NotFound):
            await self.host.find("nobody-has-this")
        assert await self.host.list() == shown
        return set(shown)

    async def remove(self, path: str) -> None:
        """unlink(2) or rmdir(2)."""
        above, _, name = path.rpartition("/")
        parent = await self.host.directory(above)
        node = await self.host.namespace.lookup(parent, name.encode())
        act = self.host.tree.unlink if node in [await _file(self.host, path)] else self.host.tree.rmdir
        await act(parent, name.encode())

    async def gone(self, path: str) -> None:
        """Assert that a lookup finds nothing."""
        with pytest.raises(NotFound):
            await self.host.find(path)


async def _file(host: Host, path: str) -> object:
    try:
        return await host.file(path)
    except AssertionError:
        return None


def late(place: Path, test: Callable[[Late], Awaitable[None]], *keys: str) -> None:
    """Run *test* on a mount of *keys* that has seen them all."""
    clock = MockClock()

    @asynccontextmanager
    async def mounted() -> AsyncIterator[Late]:
        world = World(place)
        for key in keys:
            world.store.store(key, b"" if key.endswith("/") else b"old")
        async with world.host(ttl_s=TTL_S, negative_ttl_s=NEGATIVE_TTL_S) as host:
            await host.list()
            clock.jump(10 * TTL_S)
            yield Late(world, host, clock)
            check(host.namespace.table)

    async def main() -> None:
        async with mounted() as it:
            await test(it)

    trio.run(main, clock=clock)


@pytest.fixture(params=[False, True], ids=["LIST", "LIST and HEAD"])
def head(request: pytest.FixtureRequest) -> bool:
    """Whether HEAD is behind as well."""
    return bool(request.param)


def test_a_new_file_is_there_though_the_listing_lacks_it(tmp_path: Path, head: bool) -> None:
    """`cp`, then `ls`: it is shown, and can be read, and so it is after the listing has caught up."""

    async def test(it: Late) -> None:
        with it.store.lagging(head=head):
            await it.host.write("f", b"new")
            it.wait(SOON_S)
            assert await it.names() == {"a", "f"}
            assert await it.host.read("f") == b"new"
        it.wait(TTL_S)
        assert await it.names() == {"a", "f"}
        assert await it.host.read("f") == b"new"

    late(tmp_path, test, "a")


def test_a_removed_file_does_not_come_back(tmp_path: Path, head: bool) -> None:
    """`rm`, then `ls`: it is not shown, and not found."""

    async def test(it: Late) -> None:
        with it.store.lagging(head=head):
            await it.remove("f")
            it.wait(SOON_S)
            assert await it.names() == {"a"}
            await it.gone("f")
        it.wait(NEGATIVE_TTL_S)
        assert await it.names() == {"a"}
        await it.gone("f")

    late(tmp_path, test, "a", "f")


def test_a_file_written_again_keeps_its_new_bytes(tmp_path: Path, head: bool) -> None:
    """The listing has the old version: size and bytes are the new ones, and a next write is no conflict."""

    async def test(it: Late) -> None:
        with it.store.lagging(head=head):
            await it.host.write("f", b"longer now")
            it.wait(SOON_S)
            assert await it.names() == {"a", "f"}
            assert (await it.host.file("f")).size == len(b"longer now")
            assert await it.host.read("f") == b"longer now"
            await it.host.write("f", b"and again")
            assert await it.names() == {"a", "f"}
            assert await it.host.read("f") == b"and again"
        assert it.store.body("f") == b"and again"

    late(tmp_path, test, "a", "f")


def test_a_file_made_again_after_its_removal_is_the_new_one(tmp_path: Path, head: bool) -> None:
    """The listing has the one that was removed."""

    async def test(it: Late) -> None:
        with it.store.lagging(head=head):
            await it.remove("f")
            await it.host.write("f", b"another")
            it.wait(SOON_S)
            assert await it.names() == {"a", "f"}
            assert await it.host.read("f") == b"another"

    late(tmp_path, test, "a", "f")


def test_a_mode_that_was_changed_stays(tmp_path: Path, head: bool) -> None:
    """The listing has the object as it was before chmod, which keeps the ETag."""

    async def test(it: Late) -> None:
        with it.store.lagging(head=head):
            node = await it.host.file("f")
            await it.host.attributes.change(node, AttributeChange(mode=0o600), None)
            it.wait(SOON_S)
            assert await it.names() == {"f"}
            attributes = (await it.host.file("f")).attributes
            assert attributes is not None and attributes.mode == 0o600

    late(tmp_path, test, "f")


def test_a_directorys_mode_that_was_changed_stays(tmp_path: Path) -> None:
    """Its own listing shows its marker as it was before chmod."""

    async def test(it: Late) -> None:
        await it.host.list("d")
        with it.store.lagging():
            node = await it.host.directory("d")
            await it.host.attributes.change(node, AttributeChange(mode=0o700), None)
            it.wait(SOON_S)
            node.forget_listing()
            assert await it.host.list("d") == ["f"]
            assert node.attributes is not None and node.attributes.mode == 0o700

    late(tmp_path, test, "d/", "d/f")


def test_directories_come_and_go_as_this_host_says(tmp_path: Path, head: bool) -> None:
    """mkdir and rmdir, while the listing is as before both."""

    async def test(it: Late) -> None:
        with it.store.lagging(head=head):
            await it.host.tree.mkdir(await it.host.directory(""), b"new", 0o755, ME)
            await it.host.write("new/f", b"f")
            await it.host.tree.rmdir(await it.host.directory(""), b"d")
            it.wait(SOON_S)
            assert await it.names() == {"a", "new"}
            assert await it.host.list("new") == ["f"]
            await it.gone("d")
        it.wait(TTL_S)
        assert await it.names() == {"a", "new"}

    late(tmp_path, test, "a", "d/")


def test_a_directory_that_this_host_has_just_filled_is_not_empty(tmp_path: Path) -> None:
    """rmdir and rename onto it go by the listing, which lacks the file: it must not go with its directory."""

    async def test(it: Late) -> None:
        with it.store.lagging():
            await it.host.write("d/f", b"f")
            it.wait(SOON_S)
            with pytest.raises(DirectoryNotEmpty):
                await it.host.tree.rmdir(await it.host.directory(""), b"d")
            with pytest.raises(DirectoryNotEmpty):
                await it.host.rename("e", "d")
        assert await it.host.list("d") == ["f"]

    late(tmp_path, test, "d/", "e/")


def test_a_renamed_file_is_at_its_new_name_only(tmp_path: Path) -> None:
    """`mv`, then `ls`: the listing has the old name and lacks the new one."""

    async def test(it: Late) -> None:
        with it.store.lagging():
            await it.host.rename("f", "g")
            it.wait(SOON_S)
            assert await it.names() == {"a", "g"}
            assert await it.host.read("g") == b"old"
            await it.gone("f")
            await it.host.rename("g", "f")
            it.wait(SOON_S)
            assert await it.names() == {"a", "f"}
            await it.gone("g")

    late(tmp_path, test, "a", "f")


def test_a_renamed_directory_keeps_all_that_is_in_it(tmp_path: Path) -> None:
    """The listing of the new tree is empty still, the one of the old tree as before."""

    async def test(it: Late) -> None:
        await it.host.list("old")
        await it.host.list("old/d")
        with it.store.lagging():
            await it.host.rename("old", "new")
            it.wait(SOON_S)
            assert await it.names() == {"new"}
            for directory in ("new", "new/d"):
                (await it.host.directory(directory)).forget_listing()
            assert await it.host.list("new") == ["d", "f"]
            assert await it.host.list("new/d") == ["e"]
            assert await it.host.read("new/d/e") == b"old"
            await it.gone("old")

    late(tmp_path, test, "old/f", "old/d/e")


def test_a_large_listing_shows_each_name_once(tmp_path: Path) -> None:
    """Several pages, the first and the last name changed here meanwhile."""

    async def test(it: Late) -> None:
        with it.store.lagging():
            await it.host.write("m0000", b"longer now")
            await it.remove("m2499")
            await it.host.write("m1500x", b"new")
            it.wait(SOON_S)
            want = sorted([*keys[:-1], "m1500x"])
            assert await it.host.list() == want
            assert await it.host.list() == want

    keys = [f"m{number:04}" for number in range(2500)]
    late(tmp_path, test, *keys)


def test_what_others_do_afterwards_is_seen_when_the_time_is_over(tmp_path: Path) -> None:
    """A listing that this host did not believe is not believed for longer than its own change is."""

    async def test(it: Late) -> None:
        await it.host.write("f", b"mine")
        await it.remove("g")
        it.store.remove("f")
        it.store.store("g", b"theirs")
        it.wait(SOON_S)
        assert await it.names() == {"a", "f"}
        it.wait(NEGATIVE_TTL_S - SOON_S)
        assert await it.names() == {"a", "f", "g"}
        assert await it.host.read("g") == b"theirs"
        it.wait(TTL_S - NEGATIVE_TTL_S)
        assert await it.names() == {"a", "g"}

    late(tmp_path, test, "a", "g")


def test_who_asks_for_a_fresh_look_gets_one(tmp_path: Path) -> None:
    """`s3mount refresh`: whatever the store says is believed from then on."""

    async def test(it: Late) -> None:
        await it.host.write("f", b"mine")
        await it.remove("g")
        it.store.remove("f")
        it.store.store("g", b"theirs")
        root = await it.host.directory("")
        for node in (root, *root.descendants()):
            forget_what_is_known(node)
        assert await it.names() == {"a", "g"}

    late(tmp_path, test, "a", "g")


def test_without_a_ttl_the_store_is_believed_at_once(tmp_path: Path) -> None:
    """--ttl=0 --negative-ttl=0: what another host does after this one shows in the next listing."""

    async def main() -> None:
        world = World(tmp_path)
        world.store.store("g", b"g")
        async with world.host() as host:
            await host.write("f", b"mine")
            await host.tree.unlink(await host.directory(""), b"g")
            world.store.remove("f")
            world.store.store("g", b"theirs")
            assert await host.list() == ["g"]

    trio.run(main)
