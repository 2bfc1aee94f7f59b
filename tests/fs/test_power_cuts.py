"""The power goes when the bucket has got what waited in the spool: this host's own object is no conflict."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from s3mount.core.spool_record import SpoolRecord, SpoolState
from s3mount.data.journal_rows import read_records
from s3mount.errors import NotFound
from s3mount.fuse.operations import FileSystem
from s3mount.meta.inodes import FileNode
from tests.data.spools import power_cut
from tests.support.file_system import CALLER, file_system
from tests.support.memory_store import Call, MemoryStore

OLD = b"old bytes of the object"
NEW = b"new bytes"
PART = 100
LARGE = bytes(range(250))
PUBLISHING = ("put", "complete_multipart")


class Disk:
    """A directory of which a power cut leaves what was synced.

    Of the journal that is its log up to the last fsync, of a data file its bytes then. What was removed is
    gone. *place* gets the directory, and one for each cut.
    """

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = place / "before"
        self.path.mkdir()
        self._place = place
        self._monkeypatch = monkeypatch
        self._log_bytes = 0
        self._data: dict[str, bytes] = {}
        self._real = os.fsync
        monkeypatch.setattr(os, "fsync", self._fsync)

    def cut_power(self) -> Path:
        """Return what a mount would find after a restart."""
        left = self._place / "after"
        shutil.copytree(self.path, left)
        for path in [path for path in left.rglob("*") if path.is_file()]:
            if path.name.endswith("-wal"):
                os.truncate(path, self._log_bytes)
            elif path.name.endswith("-shm"):
                path.unlink()
            elif path.name.endswith(".data") and path.name in self._data:
                path.write_bytes(self._data[path.name])
            elif path.name.endswith(".data"):
                path.unlink()
        power_cut(self._monkeypatch, self._place)
        return left

    def _fsync(self, fd: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
        size = os.fstat(fd).st_size
        if name.endswith("-wal"):
            self._log_bytes = size
        elif name.endswith(".data"):
            self._data[name] = os.pread(fd, size, 0)
        self._real(fd)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The disk under the spool."""
    return Disk(tmp_path, monkeypatch)


@asynccontextmanager
async def mounted(store: MemoryStore, spool: Path) -> AsyncIterator[FileSystem]:
    """Mount in write-back mode; what was closed waits for :func:`send`."""
    async with file_system(store, spool, write_back_s=0.0, part_size=PART) as fs:
        yield fs


async def begin(fs: FileSystem, flags: int, offset: int, data: bytes) -> int:
    """open(2) f, or make it, and write(2); return the handle."""
    root = fs.namespace.table.root
    if flags & os.O_CREAT:
        _, number = await fs.files.create(root, b"f", 0o644, os.O_WRONLY, CALLER)
    else:
        node = await fs.namespace.lookup(root, b"f")
        assert isinstance(node, FileNode)
        number, _ = await fs.files.open(node, os.O_WRONLY | flags, CALLER)
    await fs.files.write(number, offset, data)
    return number


async def close(fs: FileSystem, number: int) -> None:
    """close(2)."""
    await fs.files.flush(number)
    await fs.files.release(number)


async def send(fs: FileSystem) -> None:
    """Send what waits, as the queue does."""
    for file in fs.open_files.unsent():
        await fs.files.upload_in_background(file)


def kept(spool: Path) -> list[SpoolRecord]:
    """Return what is left of files in the spool."""
    (directory,) = spool.iterdir()
    return read_records(str(directory))


def cut_behind_publishing(store: MemoryStore, disk: Disk) -> list[Path]:
    """Let the power go when the bucket has an object whose answer has not come; return what is left."""
    left: list[Path] = []

    async def hook(call: Call) -> None:
        await trio.lowlevel.checkpoint()
        if call.method in PUBLISHING and not left:
            left.append(disk.cut_power())

    store.after = hook
    return left


async def never(call: Call) -> None:
    """Let no request get through any more."""
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("old", "flags", "offset", "new"),
    [
        (None, os.O_CREAT, 0, NEW),
        (OLD, os.O_TRUNC, 0, NEW),
        (OLD, 0, len(OLD), NEW),
        (OLD, 0, 4, NEW),
        (None, os.O_CREAT, 0, LARGE),
        (LARGE, 0, len(LARGE), NEW),
    ],
    ids=["new", "replaced", "appended", "edited", "in parts", "appended in parts"],
)
@pytest.mark.parametrize("other", [None, b"another host's"], ids=["alone", "another host"])
def test_what_the_bucket_got_before_a_power_cut_is_no_conflict_after_it(
    disk: Disk, old: bytes | None, flags: int, offset: int, new: bytes, other: bytes | None
) -> None:
    """The journal on the disk still said "to be sent", over what was there before: `spool list` showed a
    conflict with nobody, and the user had to choose between two equal files. Another host's object is one."""
    store = MemoryStore()
    if old is not None:
        store.store("f", old)
    base = b"" if old is None or flags & os.O_TRUNC else old
    want = base[:offset] + new + base[offset + len(new) :]

    async def main() -> None:
        left = cut_behind_publishing(store, disk)
        async with mounted(store, disk.path) as fs:
            await close(fs, await begin(fs, flags, offset, new))
            await send(fs)
        assert store.body("f") == want
        if other is not None:
            store.store("f", other)
        async with mounted(store, left[0]) as fs:
            await send(fs)
        assert store.body("f") == (want if other is None else other)
        states = [record.state for record in kept(left[0])]
        assert states == ([] if other is None else [SpoolState.CONFLICT])
        assert store.uploads() == []

    trio.run(main)


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "being written"])
def test_a_file_that_was_sent_and_written_again_before_a_power_cut_is_no_conflict(
    disk: Disk, is_closed: bool
) -> None:
    """The second version is over the first, whatever the journal remembers of how that was sent."""
    store = MemoryStore()
    store.store("f", OLD)
    second = LARGE[:50]

    async def main() -> None:
        async with mounted(store, disk.path) as fs:
            await close(fs, await begin(fs, os.O_TRUNC, 0, NEW))
            await send(fs)
            number = await begin(fs, os.O_TRUNC, 0, second)
            if is_closed:
                left = cut_behind_publishing(store, disk)
                await close(fs, number)
                await send(fs)
            else:
                left = [disk.cut_power()]
                store.before = never
        store.before = MemoryStore().before
        async with mounted(store, left[0]) as fs:
            await send(fs)
        assert store.body("f") == (second if is_closed else NEW)
        assert SpoolState.CONFLICT not in [record.state for record in kept(left[0])]

    trio.run(main)


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "being written"])
def test_a_file_that_is_written_again_while_it_is_sent_is_no_conflict_after_a_power_cut(
    disk: Disk, is_closed: bool
) -> None:
    """The bucket has the first version, whose answer nobody got, when the power goes."""
    store = MemoryStore()
    store.store("f", OLD)
    second = LARGE[:50]
    carried_out = trio.Event()

    async def hold(call: Call) -> None:
        await trio.lowlevel.checkpoint()
        if call.method == "put":
            carried_out.set()
            await trio.sleep_forever()

    async def main() -> None:
        store.after = hold
        async with mounted(store, disk.path) as fs:
            await close(fs, await begin(fs, os.O_TRUNC, 0, NEW))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, fs)
                await carried_out.wait()
                store.before = never
                number = await begin(fs, os.O_TRUNC, 0, second)
            if is_closed:
                await close(fs, number)
            left = disk.cut_power()
        assert store.body("f") == NEW
        store.before = store.after = MemoryStore().before
        async with mounted(store, left) as fs:
            await send(fs)
        assert store.body("f") == (second if is_closed else NEW)
        assert SpoolState.CONFLICT not in [record.state for record in kept(left)]

    trio.run(main)


async def rename(fs: FileSystem, new: bytes) -> None:
    """rename(2) of f."""
    root = fs.namespace.table.root
    with suppress(NotFound):
        await fs.namespace.lookup(root, new)
    await fs.renamer.rename(root, b"f", root, new, no_replace=False)


@pytest.mark.parametrize("flags", [0, os.O_TRUNC], ids=["appended", "replaced"])
def test_a_rename_of_unsent_bytes_is_known_for_good_before_the_old_object_goes(
    disk: Disk, flags: int
) -> None:
    """`mv` of a file that waited over its old object, then a power cut: the file came back at the old name,
    over an object that was not there any more, and waited for the user, with bytes missing."""
    store = MemoryStore()
    store.store("f", OLD)
    left: list[Path] = []

    async def hook(call: Call) -> None:
        await trio.lowlevel.checkpoint()
        if call.method == "delete":
            left.append(disk.cut_power())

    async def main() -> None:
        async with mounted(store, disk.path) as fs:
            await close(fs, await begin(fs, flags, 0 if flags else len(OLD), NEW))
            store.after = hook
            await rename(fs, b"g")
            assert store.keys() == ["g"]
        store.after = MemoryStore().after
        async with mounted(store, left[0]) as fs:
            await send(fs)
        assert store.keys() == ["g"]
        assert store.body("g") == (NEW if flags else OLD + NEW)
        assert kept(left[0]) == []

    trio.run(main)


@pytest.mark.parametrize("how", ["unlinked", "replaced by a rename"])
def test_a_file_that_went_while_it_waited_and_is_open_does_not_come_back(disk: Disk, how: str) -> None:
    """unlink(2) or rename(2) has returned 0 when the power goes: nobody needs what was to be sent."""
    store = MemoryStore()
    store.store("f", OLD)
    store.store("other", LARGE)

    async def main() -> None:
        async with mounted(store, disk.path) as fs:
            root = fs.namespace.table.root
            number = await begin(fs, 0, len(OLD), NEW)
            await fs.files.flush(number)
            if how == "unlinked":
                await fs.tree.unlink(root, b"f")
            else:
                await fs.namespace.lookup(root, b"other")
                await fs.renamer.rename(root, b"other", root, b"f", no_replace=False)
            left = disk.cut_power()
            await fs.files.release(number)
        after = {key: store.body(key) for key in store.keys()}  # noqa: SIM118
        async with mounted(store, left) as fs:
            await send(fs)
        assert {key: store.body(key) for key in store.keys()} == after  # noqa: SIM118
        assert kept(left) == []

    trio.run(main)
