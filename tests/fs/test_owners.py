"""Whose files are: what the mount says, or what the bucket has stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from s3mount.core.attributes import Attributes
from s3mount.core.objects import ObjectHeaders
from s3mount.errors import OwnerFixed
from s3mount.fs.attributes import AttributeChange, shown_attributes
from s3mount.fs.ownership import Caller, Defaults, Owners, new_attributes
from s3mount.fuse.operations import FileSystem
from s3mount.meta.inodes import FileNode, Inode, Node
from tests.support.file_system import file_system
from tests.support.memory_store import MemoryStore

MINE, THEIRS = (1000, 100), (1001, 1002)
STORED = {"uid": "1001", "gid": "1002", "mode": "33184", "colour": "blue"}
PATIENT = {"ttl_s": 3600.0, "uid": MINE[0], "gid": MINE[1]}


def defaults(owners: Owners) -> Defaults:
    return Defaults(*MINE, file_mode=0o644, dir_mode=0o755, owners=owners)


@pytest.mark.parametrize(("owners", "want"), [("mount", MINE), ("bucket", THEIRS)])
def test_what_is_stored_counts_only_where_that_is_wanted(owners: Owners, want: tuple[int, int]) -> None:
    """A file that says it is somebody's is the mount's owner's all the same; its mode counts either way."""
    node = FileNode(Inode(20), None, b"f", "f")
    node.attributes = Attributes(mode=0o640, uid=THEIRS[0], gid=THEIRS[1])
    shown = shown_attributes(node, defaults(owners))
    assert (shown.uid, shown.gid, shown.mode) == (*want, 0o640)
    node.attributes = None
    shown = shown_attributes(node, defaults(owners))
    assert (shown.uid, shown.gid, shown.mode) == (*MINE, 0o644)


@pytest.mark.parametrize("is_directory", [False, True])
def test_a_new_file_stores_its_owner_only_where_it_will_be_shown(is_directory: bool) -> None:
    """What nobody will see is not stored: the object stays a plain one."""
    mode = 0o755 if is_directory else 0o644
    other, me = Caller(*THEIRS, pid=1), Caller(*MINE, pid=1)
    for caller in (other, me):
        assert new_attributes(defaults("mount"), caller, mode, is_directory=is_directory).is_plain
    assert new_attributes(defaults("bucket"), me, mode, is_directory=is_directory).is_plain
    stored = new_attributes(defaults("bucket"), other, mode, is_directory=is_directory)
    assert (stored.uid, stored.gid) == THEIRS


def played(
    tmp_path: Path,
    store: MemoryStore,
    play: Callable[[FileSystem, Node], Awaitable[None]],
    owners: Owners = "mount",
    name: bytes = b"f",
) -> None:
    """Let *play* have the node of *name* in the root."""

    async def main() -> None:
        async with file_system(store, tmp_path, **PATIENT, owners=owners, attributes="list") as fs:
            root = fs.namespace.table.root
            await play(fs, await fs.namespace.lookup(root, name))

    trio.run(main)


@pytest.mark.parametrize(
    "change",
    [
        AttributeChange(uid=0),
        AttributeChange(gid=THEIRS[1]),
        AttributeChange(uid=MINE[0], gid=0),
        AttributeChange(uid=THEIRS[0], mode=0o600, mtime_ns=1, size=0),
    ],
    ids=["uid", "gid", "only the group is another", "with all else"],
)
@pytest.mark.parametrize("name", [b"f", b"d", b""])
def test_chown_to_somebody_else_fails_and_changes_nothing(
    tmp_path: Path, change: AttributeChange, name: bytes
) -> None:
    """OwnerFixed (EPERM), for the root too: no request, no byte cut off, and nothing shown that is not so."""
    store = MemoryStore(list_metadata=True)
    store.store("f", b"text", ObjectHeaders(metadata=STORED))
    store.store("d/", b"")

    async def play(fs: FileSystem, node: Node) -> None:
        node = node if name else fs.namespace.table.root
        store.calls.clear()
        before = (node.attributes, node.mtime_ns)
        with pytest.raises(OwnerFixed):
            await fs.attributes.change(node, change, None)
        assert store.calls == []
        assert (node.attributes, node.mtime_ns) == before

    played(tmp_path, store, play, name=name or b"f")
    assert store.body("f") == b"text"


def test_chown_to_who_is_shown_succeeds_and_costs_nothing(tmp_path: Path) -> None:
    """Also where a HEAD would be needed to know what is stored, and whatever that is."""
    store = MemoryStore()
    before = store.store("f", b"text", ObjectHeaders(metadata=STORED))

    async def play(fs: FileSystem, node: Node) -> None:
        store.calls.clear()
        for change in (
            AttributeChange(uid=MINE[0], gid=MINE[1]),
            AttributeChange(uid=MINE[0]),
            AttributeChange(),
        ):
            await fs.attributes.change(node, change, None)
        assert store.calls == []

    played(tmp_path, store, play)
    assert store.stat("f") == before


@pytest.mark.parametrize("owners", ["mount", "bucket"])
def test_chmod_keeps_the_owner_that_other_programs_stored(tmp_path: Path, owners: Owners) -> None:
    """Not to believe it is one thing, to take it from them another: of files and of directories."""
    store = MemoryStore()
    store.store("f", b"text", ObjectHeaders(metadata=STORED))
    store.store("d/", b"", ObjectHeaders(metadata={"uid": "1001", "gid": "1002"}))

    async def play(fs: FileSystem, node: Node) -> None:
        await fs.attributes.change(node, AttributeChange(mode=0o600), None)
        assert shown_attributes(node, defaults(owners)).uid == (1000 if owners == "mount" else 1001)

    played(tmp_path, store, play, owners)
    played(tmp_path, store, play, owners, name=b"d")
    headers = store.stat("f").headers
    assert headers is not None
    kept = {name: value for name, value in headers.metadata.items() if name != "mtime"}
    assert kept == {**STORED, "mode": "33152"}
    marker = store.stat("d/").headers
    assert marker is not None
    assert marker.metadata == {"uid": "1001", "gid": "1002", "mode": "16768"}


def test_with_owners_of_the_bucket_chown_is_stored(tmp_path: Path) -> None:
    """For others, and other mounts, to see."""
    store = MemoryStore()
    store.store("f", b"text")
    store.store("d/", b"")

    async def play(fs: FileSystem, node: Node) -> None:
        await fs.attributes.change(node, AttributeChange(uid=0, gid=5), None)
        shown = shown_attributes(node, defaults("bucket"))
        assert (shown.uid, shown.gid) == (0, 5)

    for name, key in ((b"f", "f"), (b"d", "d/")):
        played(tmp_path, store, play, "bucket", name=name)
        headers = store.stat(key).headers
        assert headers is not None
        assert (headers.metadata["uid"], headers.metadata["gid"]) == ("0", "5")
