"""Which links of the bucket programs learn the targets of, and which they may make."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from s3mount.core.link_targets import Links
from s3mount.core.objects import ObjectHeaders
from s3mount.errors import BadAnswer, LinkNotFollowed, LinkNotStored, ReadOnly
from s3mount.fuse.operations import FileSystem
from s3mount.meta.inodes import DirectoryNode, FileNode
from tests.support.file_system import CALLER, file_system
from tests.support.memory_store import MemoryStore

LINK = ObjectHeaders(metadata={"mode": "41471"})
#: file_system mounts at /mnt.
INSIDE = {"a": b"f", "d/a": b"../f", "b": b"/mnt/d/f", "d/e/a": b"../../d"}
OUTSIDE = {"a": b"/etc/shadow", "d/a": b"../../f", "b": b"/mnt/../f", "d/e/a": b"../d/../../f", "c": b"/mnt2"}


def played(
    tmp_path: Path,
    store: MemoryStore,
    play: Callable[[FileSystem], Awaitable[None]],
    **values: Any,
) -> None:
    """Let *play* have the file system over *store*."""

    async def main() -> None:
        async with file_system(store, tmp_path, ttl_s=3600.0, **values) as fs:
            await play(fs)

    trio.run(main)


def with_links(links: dict[str, bytes]) -> MemoryStore:
    """Return a store that has them, as another program made them."""
    store = MemoryStore(list_metadata=True)
    store.store("d/e/", b"")
    for key, target in links.items():
        store.store(key, target, LINK)
    return store


async def found(fs: FileSystem, path: str) -> FileNode:
    """Look a link up."""
    node: Any = fs.namespace.table.root
    for name in path.split("/"):
        node = await fs.namespace.lookup(node, name.encode())
    assert isinstance(node, FileNode)
    assert node.is_symlink
    return node


async def directory(fs: FileSystem, path: str) -> DirectoryNode:
    """Look a directory up."""
    node: Any = fs.namespace.table.root
    for name in filter(None, path.split("/")):
        node = await fs.namespace.lookup(node, name.encode())
    assert isinstance(node, DirectoryNode)
    return node


@pytest.mark.parametrize("links", ["inside", "all"])
def test_where_links_within_the_mount_lead_is_told(tmp_path: Path, links: Links) -> None:
    """Word for word: git and rsync compare them."""

    async def play(fs: FileSystem) -> None:
        for path, target in INSIDE.items():
            assert await fs.tree.readlink(await found(fs, path)) == target

    played(tmp_path, with_links(INSIDE), play, links=links)


def test_where_links_out_of_the_mount_lead_is_told_to_nobody(tmp_path: Path) -> None:
    """EACCES, each time; with --links=all they are told as they stand."""

    async def refused(fs: FileSystem) -> None:
        for path in OUTSIDE:
            for _ in range(2):
                with pytest.raises(LinkNotFollowed, match="outside of the mount"):
                    await fs.tree.readlink(await found(fs, path))

    async def told(fs: FileSystem) -> None:
        for path, target in OUTSIDE.items():
            assert await fs.tree.readlink(await found(fs, path)) == target

    played(tmp_path / "inside", with_links(OUTSIDE), refused)
    played(tmp_path / "all", with_links(OUTSIDE), told, links="all")


def test_with_links_none_nothing_is_told_and_nothing_fetched(tmp_path: Path) -> None:
    """Not even where it stays within; it is a link all the same."""
    store = with_links(INSIDE)

    async def play(fs: FileSystem) -> None:
        for path in INSIDE:
            node = await found(fs, path)
            store.calls.clear()
            with pytest.raises(LinkNotFollowed, match="--links=none"):
                await fs.tree.readlink(node)
            assert store.calls == []

    played(tmp_path, store, play, links="none")


def test_a_link_that_is_moved_is_judged_where_it_is(tmp_path: Path) -> None:
    """`../f` within `d` stays in the mount, and leads out of it from the root: also if it was read before."""

    async def play(fs: FileSystem) -> None:
        root, d = fs.namespace.table.root, await directory(fs, "d")
        link = await found(fs, "d/a")
        assert await fs.tree.readlink(link) == b"../f"
        await fs.renamer.rename(d, b"a", root, b"moved", no_replace=False)
        with pytest.raises(LinkNotFollowed):
            await fs.tree.readlink(link)
        await fs.renamer.rename(root, b"moved", d, b"back", no_replace=False)
        assert await fs.tree.readlink(link) == b"../f"
        await fs.tree.unlink(d, b"back")
        with pytest.raises(LinkNotFollowed):
            await fs.tree.readlink(link)

    played(tmp_path, with_links(INSIDE), play)


def test_links_below_a_directory_that_is_moved_are_judged_where_they_are(tmp_path: Path) -> None:
    """The depth is that of the directories now."""

    async def play(fs: FileSystem) -> None:
        link = await found(fs, "d/e/a")
        assert await fs.tree.readlink(link) == b"../../d"
        root = fs.namespace.table.root
        await fs.renamer.rename(await directory(fs, "d"), b"e", root, b"e", no_replace=False)
        with pytest.raises(LinkNotFollowed):
            await fs.tree.readlink(await found(fs, "e/a"))

    played(tmp_path, with_links(INSIDE), play)


@pytest.mark.parametrize("links", ["inside", "all"])
@pytest.mark.parametrize("body", [b"..\0name", b"name\0", b"", b"x" * 4096])
def test_what_no_link_can_hold_is_an_error(tmp_path: Path, links: Links, body: bytes) -> None:
    """The kernel would take a text with a NUL for the shorter one before it: `..`, which nobody judged."""

    async def play(fs: FileSystem) -> None:
        with pytest.raises(BadAnswer):
            await fs.tree.readlink(await found(fs, "a"))

    played(tmp_path, with_links({"a": body}), play, links=links)


@pytest.mark.parametrize("links", ["inside", "all", "none"])
def test_a_link_that_could_not_be_read_is_not_made(tmp_path: Path, links: Links) -> None:
    """EPERM, and no object is stored; the others are, with their target as the body."""

    async def play(fs: FileSystem) -> None:
        for permitted, targets in ((links != "none", INSIDE), (links == "all", OUTSIDE)):
            for path, target in targets.items():
                above, _, name = path.rpartition("/")
                parent = await directory(fs, above)
                if not permitted:
                    with pytest.raises(LinkNotStored):
                        await fs.tree.symlink(parent, name.encode(), target, CALLER)
                    assert path not in set(store.keys())
                    continue
                node = await fs.tree.symlink(parent, name.encode(), target, CALLER)
                assert store.body(path) == target
                assert await fs.tree.readlink(node) == target
                await fs.tree.unlink(parent, name.encode())

    store = with_links({})
    played(tmp_path, store, play, links=links)


def test_a_mount_that_changes_nothing_says_that_first(tmp_path: Path) -> None:
    """EROFS, whatever the link."""

    async def play(fs: FileSystem) -> None:
        with pytest.raises(ReadOnly):
            await fs.tree.symlink(fs.namespace.table.root, b"l", b"/etc", CALLER)

    played(tmp_path, with_links({}), play, read_only=True)
