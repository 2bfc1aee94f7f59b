"""Files that another host replaces or removes while this one has them open, before anything is written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from s3mount.errors import FsError, NotFound, StoreUnavailable
from s3mount.fuse.operations import FileSystem
from s3mount.meta.inodes import FileNode
from tests.support.file_system import CALLER, file_system
from tests.support.memory_store import Call, MemoryStore
from tests.sweeps.spooled import spooled

#: Names are believed for the whole test.
PATIENT = {"ttl_s": 3600.0, "negative_ttl_s": 3600.0}


async def looked_up(fs: FileSystem, name: bytes, *, force: bool = False) -> FileNode:
    """Return the node of *name*."""
    node = await fs.namespace.lookup(fs.namespace.table.root, name, force=force)
    assert isinstance(node, FileNode)
    return node


@pytest.mark.parametrize("theirs", [b"theirs", None], ids=["replaced", "removed"])
def test_a_write_to_a_name_that_another_host_has_taken_is_not_swallowed(
    tmp_path: Path, theirs: bytes | None
) -> None:
    """Opened here, replaced or removed elsewhere, seen by an ls: write(2) and close(2) returned 0, and the
    bytes were nowhere. write(2) fails with ESTALE."""

    async def main() -> None:
        store = MemoryStore()
        store.store("f", b"old")
        async with file_system(store, tmp_path, **PATIENT) as fs:
            number, _ = await fs.files.open(await looked_up(fs, b"f"), os.O_WRONLY, CALLER)
            if theirs is None:
                store.remove("f")
                with pytest.raises(NotFound):
                    await looked_up(fs, b"f", force=True)
            else:
                store.store("f", theirs)
                await looked_up(fs, b"f", force=True)
            with pytest.raises(FsError) as caught:
                await fs.files.write(number, 0, b"mine")
            assert caught.value.errno == errno.ESTALE
            await fs.files.flush(number)
            await fs.files.release(number)
        assert store.keys() == ([] if theirs is None else ["f"])

    trio.run(main)


def test_what_this_host_itself_has_removed_can_still_be_written(tmp_path: Path) -> None:
    """A file that was unlinked here while open takes writes and closes, as on a disk."""

    async def main() -> None:
        store = MemoryStore()
        store.store("f", b"old")
        async with file_system(store, tmp_path, **PATIENT) as fs:
            number, _ = await fs.files.open(await looked_up(fs, b"f"), os.O_RDWR, CALLER)
            await fs.tree.unlink(fs.namespace.table.root, b"f")
            await fs.files.write(number, 0, b"mine")
            assert bytes(await fs.files.read(number, 0, 10)) == b"mine"
            await fs.files.flush(number)
            await fs.files.release(number)
        assert store.keys() == []

    trio.run(main)


@pytest.mark.parametrize("turns", range(4))
def test_a_file_cut_off_while_a_listing_shows_another_one_is_not_lost(tmp_path: Path, turns: int) -> None:
    """`> file` while ls learns that another host has replaced it: close(2) returned 0, and the bucket never
    got the bytes. Something fails with ESTALE, and theirs stays."""

    async def main() -> None:
        go_on = trio.Event()

        async def hold(call: Call) -> None:
            if call.method == "list_page" and len(store.calls) > 1:
                await go_on.wait()
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()

        store = MemoryStore()
        store.store("f", b"old")
        async with file_system(store, tmp_path, **PATIENT) as fs, trio.open_nursery() as nursery:
            node = await looked_up(fs, b"f")
            store.after = hold
            store.store("f", b"theirs")
            stream = fs.namespace.stream(fs.namespace.table.root)
            nursery.start_soon(stream.next_page)
            await wait_all_tasks_blocked()

            go_on.set()
            with pytest.raises(FsError) as caught:
                await rewrite(fs, node)
            assert caught.value.errno == errno.ESTALE
            assert store.body("f") == b"theirs"
            stream.close()

    # Which task goes first at each checkpoint is trio's choice: so often, that both happen.
    for _ in range(20):
        trio.run(main)


async def rewrite(fs: FileSystem, node: FileNode) -> None:
    """Open with O_TRUNC, write, close."""
    number, _ = await fs.files.open(node, os.O_WRONLY | os.O_TRUNC, CALLER)
    try:
        await fs.files.write(number, 0, b"mine")
        await fs.files.flush(number)
    finally:
        await fs.files.release(number)


def test_what_was_written_over_a_file_that_went_elsewhere_is_noted_while_no_server_answers(
    tmp_path: Path,
) -> None:
    """Opened with O_TRUNC from what a listing said, removed by another host, and the server went away: close
    failed as it must, but the journal did not say what was written, since the headers of the old object were
    asked for once more."""

    async def main() -> None:
        async def fail(call: Call) -> None:
            raise StoreUnavailable(f"{call.method} {call.key}")

        store = MemoryStore()
        store.store("f", b"old")
        async with file_system(store, tmp_path, attributes="list", **PATIENT) as fs:
            await fs.namespace.stream(fs.namespace.table.root).next_page()
            store.remove("f")
            number, _ = await fs.files.open(await looked_up(fs, b"f"), os.O_WRONLY | os.O_TRUNC, CALLER)
            await fs.files.write(number, 0, b"mine")
            store.before = fail
            with pytest.raises(StoreUnavailable):
                await fs.files.flush(number)
            assert spooled(tmp_path, lambda key, etag: None) == {"f": [b"mine"]}
            await fs.files.release(number)

    trio.run(main)
