"""Files that wait to be sent (write-back) over an object of that name, and then get another name, or none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import trio

from s3mount.errors import AccessDenied, FsError, NotFound
from s3mount.fuse.operations import FileSystem
from s3mount.meta.inodes import FileNode
from tests.support.file_system import CALLER, file_system
from tests.support.memory_store import Call, MemoryStore

#: Names are believed for the whole test.
SETTINGS: dict[str, Any] = {"write_back_s": 3600.0, "ttl_s": 3600.0, "negative_ttl_s": 3600.0}


async def there(fs: FileSystem, name: bytes) -> FileNode | None:
    """Return the node of *name*, None if there is none."""
    try:
        node = await fs.namespace.lookup(fs.namespace.table.root, name)
    except NotFound:
        return None
    assert isinstance(node, FileNode)
    return node


async def create(fs: FileSystem, name: bytes, data: bytes) -> None:
    """Make a file, which waits."""
    _, number = await fs.files.create(fs.namespace.table.root, name, 0o644, os.O_WRONLY, CALLER)
    await fs.files.write(number, 0, data)
    await fs.files.flush(number)
    await fs.files.release(number)


async def rename(fs: FileSystem, old: bytes, new: bytes) -> None:
    """rename(2), with the lookups that the kernel makes before."""
    for name in (old, new):
        await there(fs, name)
    root = fs.namespace.table.root
    await fs.renamer.rename(root, old, root, new, no_replace=False)


async def send(fs: FileSystem) -> None:
    """Send what waits."""
    for file in fs.open_files.unsent():
        await file.upload()


def content(store: MemoryStore) -> dict[str, bytes]:
    """Return all objects."""
    return {key: store.body(key) for key in store.keys()}  # noqa: SIM118


@pytest.mark.parametrize("is_remounted", [False, True])
def test_a_file_that_was_to_replace_an_object_and_gets_a_third_name_is_sent_there(
    tmp_path: Path, is_remounted: bool
) -> None:
    """`mv a b; mv b c` before b was sent: c was a conflict with nobody, since the object b was still to be
    replaced, and b was there again."""
    store = MemoryStore()
    store.store("b", b"old")

    async def main() -> None:
        async with file_system(store, tmp_path, **SETTINGS) as fs:
            await create(fs, b"a", b"new")
            await rename(fs, b"a", b"b")
            if not is_remounted:
                await rename(fs, b"b", b"c")
                await send(fs)
        if is_remounted:
            async with file_system(store, tmp_path, **SETTINGS) as fs:
                await rename(fs, b"b", b"c")
                await send(fs)
        assert content(store) == {"c": b"new"}

    trio.run(main)


def test_a_file_that_was_to_replace_an_object_and_is_removed_takes_that_along(tmp_path: Path) -> None:
    """`mv a b; rm b` before b was sent: the old b came back."""
    store = MemoryStore()
    store.store("b", b"old")

    async def main() -> None:
        async with file_system(store, tmp_path, **SETTINGS) as fs:
            await create(fs, b"a", b"new")
            await rename(fs, b"a", b"b")
            await fs.tree.unlink(fs.namespace.table.root, b"b")
            await send(fs)
        assert content(store) == {}

    trio.run(main)


def test_what_was_written_again_after_it_was_sent_can_be_renamed_by_the_next_mount(tmp_path: Path) -> None:
    """It was to replace the object that it had become itself, and asked for that under the new name."""
    store = MemoryStore()

    async def main() -> None:
        async with file_system(store, tmp_path, **SETTINGS) as fs:
            _, number = await fs.files.create(fs.namespace.table.root, b"a", 0o644, os.O_WRONLY, CALLER)
            await fs.files.write(number, 0, b"one")
            await fs.files.fsync(number)
            await fs.files.write(number, 0, b"two")
            await fs.files.flush(number)
            await fs.files.release(number)
        async with file_system(store, tmp_path, **SETTINGS) as fs:
            await rename(fs, b"a", b"c")
            await send(fs)
        assert content(store) == {"c": b"two"}

    trio.run(main)


def test_a_rename_whose_delete_is_refused_leaves_the_file_where_it_was(tmp_path: Path) -> None:
    """rename(2) failed, and yet the file was sent as if it had the new name's conditions: a conflict."""
    store = MemoryStore()
    store.store("b", b"old")

    async def refuse(call: Call) -> None:
        await trio.lowlevel.checkpoint()
        if call.method == "delete":
            raise AccessDenied("not you")

    async def main() -> None:
        async with file_system(store, tmp_path, **SETTINGS) as fs:
            await create(fs, b"a", b"new")
            await rename(fs, b"a", b"b")
            store.before = refuse
            with pytest.raises(FsError):
                await rename(fs, b"b", b"c")
            await send(fs)
        assert content(store) == {"b": b"new"}

    trio.run(main)
