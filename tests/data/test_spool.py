"""The spool directory and its files, against real disk and a bytearray."""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from s3mount.core.exits import Exit
from s3mount.core.objects import ByteRange, ObjectStat
from s3mount.core.parts import MAX_OBJECT_BYTES
from s3mount.core.spool_record import INTERRUPTED, SpoolState
from s3mount.data import disk
from s3mount.data.spool import SpoolDir, SpoolFile
from s3mount.data.spool_file import FETCH_BYTES, FETCHES_AT_ONCE
from s3mount.errors import (
    BadAnswer,
    BadDescriptor,
    FileTooLarge,
    FsError,
    NoSpace,
    StartupError,
    StoreUnavailable,
)

KIB = 1 << 10
MIB = 1 << 20


class Base:
    """The object underneath: gives exact bytes, records what was asked, waits where told."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.stat = ObjectStat("k", len(body), '"etag"', 0)
        self.asked: list[ByteRange] = []
        self.gate: Callable[[ByteRange], Awaitable[None]] | None = None

    async def fetch(self, span: ByteRange) -> bytes:
        """Return the bytes of *span*."""
        assert span.stop <= len(self.body)
        self.asked.append(span)
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate(span)
        return self.body[span.start : span.stop]


def content(path: str) -> bytes:
    """Return what is in a file on disk."""
    with open(path, "rb") as file:
        return file.read()


def put(path: str, data: bytes) -> None:
    """Write a file as somebody else would."""
    with open(path, "wb") as file:
        file.write(data)


def random_bytes(size: int, seed: int = 1) -> bytes:
    """Return bytes in which every place looks different."""
    return random.Random(seed).randbytes(size)


def data_files(path: str | Path) -> list[str]:
    """Return the names of the files with users' bytes in a spool directory."""
    return sorted(name for name in os.listdir(path) if name.endswith(".data"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A spool directory that is not there yet."""
    return tmp_path / "spool"


def play(
    directory: Path,
    main: Callable[[SpoolDir], Awaitable[None]],
    cap_bytes: int | None = None,
    free_floor_bytes: int = 0,
) -> None:
    """Run *main* with a spool directory."""
    spool = SpoolDir(str(directory), cap_bytes=cap_bytes, free_floor_bytes=free_floor_bytes)
    try:
        trio.run(main, spool)
    finally:
        spool.close()


# The directory.


def test_the_directory_is_made_for_its_user_alone(directory: Path) -> None:
    """Parents too are made; the mode is 0700 whatever the umask, files are 0600, names tell nothing."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("secret/name")
        assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600
        assert "secret" not in file.path
        await file.discard()

    old = os.umask(0)
    try:
        play(directory / "deep", main)
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(directory / "deep").st_mode) == 0o700
    assert data_files(directory / "deep") == []


def refused(path: Path) -> StartupError:
    """Return the refusal of a directory."""
    with pytest.raises(StartupError) as caught:
        SpoolDir(str(path), cap_bytes=None, free_floor_bytes=0)
    assert caught.value.exit_code == Exit.CACHE_DIR
    assert caught.value.thing == f"spool directory {path}"
    return caught.value


def test_a_directory_that_others_can_enter_is_refused(directory: Path) -> None:
    """Others could read unsent files, or put theirs in their place."""
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    assert "mode 0755" in refused(directory).cause


def test_a_symbolic_link_is_refused(directory: Path, tmp_path: Path) -> None:
    """Whoever made the link decides where unsent files go."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    directory.symlink_to(tmp_path / "elsewhere")
    assert refused(directory).cause == "is a symbolic link"


def test_a_file_in_its_place_is_refused(directory: Path) -> None:
    """A plain file, and a parent that is one."""
    directory.write_text("x")
    assert refused(directory).cause == "is not a directory"
    assert refused(directory / "deeper").cause == f"cannot be made: {directory} is not a directory"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(directory: Path) -> None:
    """Its owner could enter it whatever its mode."""
    directory.mkdir(mode=0o700)
    os.chown(directory, 12345, -1)
    assert refused(directory).cause == "belongs to user 12345, not to 0"


def test_two_mounts_do_not_share_a_directory(directory: Path) -> None:
    """The second is refused as long as the first is there."""
    first = SpoolDir(str(directory), cap_bytes=None, free_floor_bytes=0)
    assert refused(directory).cause == f"is in use by process {os.getpid()}"
    first.close()
    SpoolDir(str(directory), cap_bytes=None, free_floor_bytes=0).close()


def test_a_parent_may_be_a_symbolic_link(directory: Path, tmp_path: Path) -> None:
    """Only the directory itself must not be one."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"data")
        assert await file.read(ByteRange(0, 9), Base(b"").fetch) == b"data"
        await file.discard()

    play(tmp_path / "link" / "spool", main)


# Contents.


def test_a_new_file_reads_what_was_written(directory: Path) -> None:
    """Bytes come back, holes are zeros, the end is the end."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        nothing = Base(b"").fetch
        assert await file.read(ByteRange(0, 10), nothing) == b""
        await file.write(5, b"abc")
        await file.write(0, b"xy")
        assert file.size == 8
        assert await file.read(ByteRange(0, 100), nothing) == b"xy\0\0\0abc"
        assert await file.read(ByteRange(100, 200), nothing) == b""
        assert file.is_complete

    play(directory, main)


def test_only_missing_ranges_of_the_object_are_fetched(directory: Path) -> None:
    """What was written, or fetched before, is not asked for."""

    async def main(spool: SpoolDir) -> None:
        base = Base(random_bytes(1000))
        file = await spool.create("k", base.stat)
        await file.write(100, b"n" * 100)
        expected = base.body[:100] + b"n" * 100 + base.body[200:300]
        assert await file.read(ByteRange(0, 300), base.fetch) == expected
        assert base.asked == [ByteRange(0, 100), ByteRange(200, 300)]
        assert await file.read(ByteRange(50, 400), base.fetch) == expected[50:] + base.body[300:400]
        assert base.asked[2:] == [ByteRange(300, 400)]

    play(directory, main)


def test_an_overwritten_object_is_never_fetched(directory: Path) -> None:
    """Writing all of it, or truncating it away, costs no byte of the old one."""

    async def main(spool: SpoolDir) -> None:
        base = Base(random_bytes(1000))
        for change in ("write", "truncate"):
            file = await spool.create("k", base.stat)
            if change == "write":
                await file.write(0, bytes(1000))
            else:
                await file.truncate(0)
                await file.truncate(1000)
            await file.fill(base.fetch)
            assert await file.read(ByteRange(0, 2000), base.fetch) == bytes(1000)
            await file.discard()
        assert base.asked == []

    play(directory, main)


@pytest.mark.parametrize(("first", "second"), [(1000, 10), (10, 1000), (1500, 700), (0, 1000), (999, 1001)])
def test_truncating_keeps_what_is_below_and_zeros_what_is_above(
    directory: Path, first: int, second: int
) -> None:
    """Kept bytes stay the object's, bytes that were cut off never come back, new ones are zeros."""

    async def main(spool: SpoolDir) -> None:
        base = Base(random_bytes(1000))
        file = await spool.create("k", base.stat)
        await file.truncate(first)
        await file.truncate(second)
        kept = min(first, second, 1000)
        await file.fill(base.fetch)
        assert await file.read(ByteRange(0, 5000), base.fetch) == base.body[:kept] + bytes(second - kept)
        assert os.stat(file.path).st_size == file.size == second

    play(directory, main)


def test_large_gaps_are_fetched_in_pieces_side_by_side(directory: Path) -> None:
    """Before an upload several large GETs run at once, each byte once."""

    async def main(spool: SpoolDir) -> None:
        base = Base(random_bytes(6 * FETCH_BYTES + 123))
        now = most = 0

        async def gate(span: ByteRange) -> None:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await trio.lowlevel.checkpoint()
            now -= 1

        base.gate = gate
        file = await spool.create("k", base.stat)
        await file.write(FETCH_BYTES, b"new")
        await file.fill(base.fetch)
        assert sum(span.size for span in base.asked) == len(base.body) - 3
        assert max(span.size for span in base.asked) == FETCH_BYTES
        assert most == FETCHES_AT_ONCE
        expected = bytearray(base.body)
        expected[FETCH_BYTES : FETCH_BYTES + 3] = b"new"
        assert content(file.path) == expected
        assert file.is_complete
        await file.discard()

    play(directory, main)


def test_a_write_during_a_fetch_is_not_overwritten_by_it(directory: Path) -> None:
    """The old object's bytes arrive late; what a program wrote meanwhile stays."""

    async def main(spool: SpoolDir) -> None:
        base = Base(random_bytes(1000))
        go_on = trio.Event()
        base.gate = lambda _: go_on.wait()
        file = await spool.create("k", base.stat)
        got = []

        async def read() -> None:
            got.append(await file.read(ByteRange(0, 1000), base.fetch))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            await file.write(500, b"new")
            go_on.set()
        expected = base.body[:500] + b"new" + base.body[503:]
        assert got == [expected]
        assert await file.read(ByteRange(0, 1000), base.fetch) == expected

    play(directory, main)


def test_a_truncate_during_a_fetch_is_not_undone_by_it(directory: Path) -> None:
    """Bytes that were cut off while they were being fetched do not come back."""

    async def main(spool: SpoolDir) -> None:
        base = Base(random_bytes(1000))
        go_on = trio.Event()
        base.gate = lambda _: go_on.wait()
        file = await spool.create("k", base.stat)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.fill, base.fetch)
            await wait_all_tasks_blocked()
            await file.truncate(300)
            await file.truncate(800)
            go_on.set()
        assert await file.read(ByteRange(0, 1000), base.fetch) == base.body[:300] + bytes(500)

    play(directory, main)


def test_two_readers_of_a_missing_range_share_its_fetch(directory: Path) -> None:
    """The second waits for the first's request; if that one goes, it asks for itself."""

    async def main(spool: SpoolDir) -> None:
        base = Base(random_bytes(1000))
        go_on = trio.Event()
        base.gate = lambda _: go_on.wait()
        for cancelled, requests in ((False, 1), (True, 2)):
            go_on = trio.Event()
            base.asked.clear()
            file = await spool.create("k", base.stat)
            got: list[bytes] = []
            first = trio.CancelScope()

            async def read(scope: trio.CancelScope, file: SpoolFile, got: list[bytes]) -> None:
                with scope:
                    got.append(await file.read(ByteRange(0, 1000), base.fetch))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read, first, file, got)
                await wait_all_tasks_blocked()
                nursery.start_soon(read, trio.CancelScope(), file, got)
                await wait_all_tasks_blocked()
                assert len(base.asked) == 1
                if cancelled:
                    first.cancel()
                    await wait_all_tasks_blocked()
                go_on.set()
            assert len(base.asked) == requests
            assert got == [base.body] * (1 if cancelled else 2)

    play(directory, main)


def test_a_reader_of_what_is_here_does_not_wait_for_a_fetch(directory: Path) -> None:
    """While the rest of a file is fetched for its upload, its present bytes are read at once."""

    async def main(spool: SpoolDir) -> None:
        base = Base(random_bytes(1000))
        file = await spool.create("k", base.stat)
        await file.write(0, b"here")
        base.gate = lambda _: trio.Event().wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.fill, base.fetch)
            await wait_all_tasks_blocked()
            assert await file.read(ByteRange(0, 4), base.fetch) == b"here"
            await file.write(2, b"!!")
            nursery.cancel_scope.cancel()

    play(directory, main)


def test_a_failed_fetch_fails_the_read_and_changes_nothing(directory: Path) -> None:
    """The file is whole after it, and the next read asks again."""

    async def main(spool: SpoolDir) -> None:
        base = Base(random_bytes(1000))

        async def away(_: ByteRange) -> None:
            raise StoreUnavailable("away")

        file = await spool.create("k", base.stat)
        await file.write(10, b"new")
        base.gate = away
        with pytest.raises(StoreUnavailable):
            await file.read(ByteRange(0, 1000), base.fetch)
        with pytest.raises(StoreUnavailable):
            await file.fill(base.fetch)
        assert file.poison is None
        base.gate = None
        assert await file.read(ByteRange(0, 20), base.fetch) == base.body[:10] + b"new" + base.body[13:20]

    play(directory, main)


def test_a_fetch_that_gives_too_few_bytes_is_an_error(directory: Path) -> None:
    """Missing bytes would be zeros in the object that is uploaded."""

    async def main(spool: SpoolDir) -> None:
        base = Base(random_bytes(1000))

        async def short(span: ByteRange) -> bytes:
            return (await base.fetch(span))[:-1]

        file = await spool.create("k", base.stat)
        with pytest.raises(BadAnswer):
            await file.fill(short)
        assert not file.is_complete

    play(directory, main)


# Space.


def test_the_cap_refuses_before_writing(directory: Path) -> None:
    """The write that does not fit gets ENOSPC whole; deleting and truncating give space back."""

    async def main(spool: SpoolDir) -> None:
        first, second = await spool.create("a"), await spool.create("b")
        await first.write(0, bytes(64 * KIB))
        with pytest.raises(NoSpace):
            await second.write(0, bytes(40 * KIB))
        assert second.size == 0
        assert spool.used_bytes == 64 * KIB
        await first.truncate(10 * KIB + 1)
        assert spool.used_bytes == 12 * KIB
        await second.write(0, bytes(40 * KIB))
        await first.discard()
        assert spool.used_bytes == 40 * KIB
        await second.discard()
        assert spool.used_bytes == 0

    play(directory, main, cap_bytes=100 * KIB)


def test_scattered_bytes_are_charged_as_the_disk_stores_them(directory: Path) -> None:
    """One byte takes a disk block, and the second in it nothing more."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("a")
        for offset in range(0, MIB, 64 * KIB):
            await file.write(offset, b"x")
            await file.write(offset + 100, b"x")
        os.fsync(file.slice(ByteRange(0, 1)).fd)
        assert spool.used_bytes == 16 * 4096
        extents = 4096  # the file system's own record of where they are
        assert os.stat(file.path).st_blocks * 512 <= spool.used_bytes + extents
        await file.discard()

    play(directory, main)


def test_fetched_bytes_count_too(directory: Path) -> None:
    """Reading a changed file cannot fill the disk: the read fails, the file is not poisoned by it."""

    async def main(spool: SpoolDir) -> None:
        base = Base(random_bytes(100 * KIB))
        file = await spool.create("k", base.stat)
        await file.write(0, b"x")
        with pytest.raises(NoSpace):
            await file.fill(base.fetch)
        assert file.poison is None
        assert spool.used_bytes == 4096

    play(directory, main, cap_bytes=50 * KIB)


def test_the_floor_of_free_space_is_kept(directory: Path) -> None:
    """With more to be left free than there is, nothing is written at all."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        with pytest.raises(NoSpace, match="are to stay free"):
            await file.write(0, b"x")

    play(directory, main, free_floor_bytes=1 << 62)


def test_a_refused_write_poisons_until_it_is_made_good(directory: Path) -> None:
    """A program that ignores ENOSPC must not have half a file published; one that acts on it goes on."""

    async def main(spool: SpoolDir) -> None:
        other, file = await spool.create("a"), await spool.create("b")
        await other.write(0, bytes(8 * KIB))
        await file.write(0, b"begin")
        with pytest.raises(NoSpace):
            await file.write(5, bytes(4 * KIB))
        assert isinstance(file.poison, NoSpace)
        with pytest.raises(NoSpace):
            file.slice(ByteRange(0, 5))
        await other.discard()
        await file.write(5, bytes(4 * KIB))
        assert file.poison is None
        with pytest.raises(NoSpace):
            await file.write(10 * KIB, bytes(4 * KIB))
        await file.truncate(5 + 4 * KIB)
        assert file.poison is None
        assert file.slice(ByteRange(0, 5)).span == ByteRange(0, 5)

    play(directory, main, cap_bytes=12 * KIB)


@pytest.mark.parametrize("size", [100, MIB])
@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, FsError)]
)
def test_a_failing_disk_fails_the_write_and_poisons(
    directory: Path, monkeypatch: pytest.MonkeyPatch, size: int, number: int, expected: type[FsError]
) -> None:
    """The disk takes a part and then no more: the error reaches the program, the file is not uploaded."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"old")
        real = os.pwrite
        calls = 0

        def pwrite(fd: int, data: bytes, offset: int) -> int:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise OSError(number, os.strerror(number))
            return real(fd, data[:40], offset)

        monkeypatch.setattr(disk.os, "pwrite", pwrite)
        with pytest.raises(FsError) as caught:
            await file.write(0, b"n" * size)
        monkeypatch.undo()
        assert type(caught.value) is expected
        assert type(file.poison) is expected
        assert await file.read(ByteRange(0, MIB), Base(b"").fetch) == b"n" * 40
        await file.write(0, b"n" * size)
        assert (file.poison is None) == (expected is NoSpace)

    play(directory, main)


def test_short_writes_of_the_disk_are_carried_on(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pwrite may take less than it was given without having failed."""
    real = os.pwrite
    monkeypatch.setattr(disk.os, "pwrite", lambda fd, data, offset: real(fd, data[:1000], offset))

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        data = random_bytes(300 * KIB)
        await file.write(7, data)
        assert await file.read(ByteRange(0, MIB), Base(b"").fetch) == bytes(7) + data
        await file.discard()

    play(directory, main)


def test_a_disk_that_takes_nothing_is_an_error(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pwrite of 0 bytes must not loop for ever."""
    monkeypatch.setattr(disk.os, "pwrite", lambda fd, data, offset: 0)

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        with pytest.raises(FsError, match="takes no more bytes"):
            await file.write(0, b"x")

    play(directory, main)


def test_a_file_too_large_for_s3_is_refused_at_once(directory: Path) -> None:
    """EFBIG when it is written, not hours later when it is uploaded."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        with pytest.raises(FileTooLarge):
            await file.write(MAX_OBJECT_BYTES, b"x")
        with pytest.raises(FileTooLarge):
            await file.truncate(MAX_OBJECT_BYTES + 1)
        assert file.size == 0

    play(directory, main)


# Keeping and discarding.


def test_a_discarded_file_is_gone_and_closed(directory: Path) -> None:
    """Nothing is on disk, the descriptor is closed, discarding again is fine."""

    async def main(spool: SpoolDir) -> None:
        file = await spool.create("k")
        await file.write(0, b"x")
        await file.discard()
        await file.discard()
        assert data_files(spool.path) == []
        for use in (file.write(0, b"x"), file.truncate(0), file.read(ByteRange(0, 1), Base(b"").fetch)):
            with pytest.raises(BadDescriptor):
                await use

    play(directory, main)


def test_a_file_of_a_mount_that_died_is_found_and_parked(directory: Path) -> None:
    """Nothing is deleted that might be somebody's unsent bytes, and nobody sends it unasked."""

    async def first(spool: SpoolDir) -> None:
        for name in "ab":
            file = await spool.create(name)
            await file.write(0, name.encode())

    async def second(spool: SpoolDir) -> None:
        found = [left.record for left in spool.leftovers()]
        assert [(record.key, record.state, record.cause) for record in found] == [
            ("a", SpoolState.PARKED, INTERRUPTED),
            ("b", SpoolState.PARKED, INTERRUPTED),
        ]
        files = [await spool.reopen(record) for record in found]
        assert [await file.read(ByteRange(0, 9), Base(b"").fetch) for file in files] == [b"a", b"b"]

    play(directory, first)
    play(directory, second)


def test_a_slice_of_an_incomplete_file_is_refused(directory: Path) -> None:
    """Zeros in place of bytes that were not fetched must never be uploaded."""

    async def main(spool: SpoolDir) -> None:
        base = Base(random_bytes(100))
        file = await spool.create("k", base.stat)
        with pytest.raises(FsError, match="not all here"):
            file.slice(ByteRange(0, 100))
        await file.fill(base.fetch)
        assert file.slice(ByteRange(0, 100)).span.size == 100
        with pytest.raises(FsError, match="not all here"):
            file.slice(ByteRange(0, 101))

    play(directory, main)


# Against a bytearray.

SIZE = 60
ops = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, SIZE), st.binary(max_size=20)),
        st.tuples(st.just("truncate"), st.integers(0, SIZE)),
        st.tuples(st.just("read"), st.integers(0, SIZE), st.integers(0, SIZE)),
        st.tuples(st.just("fill")),
    ),
    max_size=20,
)


def apply(model: bytearray, op: tuple[object, ...]) -> None:
    """Do to a bytearray what the file shall do."""
    match op:
        case ("write", int(offset), bytes(data)) if data:
            model.extend(bytes(max(0, offset + len(data) - len(model))))
            model[offset : offset + len(data)] = data
        case ("truncate", int(size)):
            del model[size:]
            model.extend(bytes(size - len(model)))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpoolDir]:
    """One directory for all examples: hypothesis gives no fresh fixture to each."""
    spool = SpoolDir(str(tmp_path_factory.mktemp("s") / "spool"), cap_bytes=None, free_floor_bytes=0)
    yield spool
    spool.close()


@settings(deadline=None, max_examples=150)
@given(todo=ops, body=st.binary(max_size=40))
def test_any_operations_give_what_a_bytearray_gives(
    shared: SpoolDir, todo: list[tuple[object, ...]], body: bytes
) -> None:
    """Writes, truncates, reads and fills over an object, one after the other."""

    async def main() -> None:
        base, model = Base(body), bytearray(body)
        file = await shared.create("k", base.stat)
        for op in todo:
            match op:
                case ("write", int(offset), bytes(data)):
                    await file.write(offset, data)
                case ("truncate", int(size)):
                    await file.truncate(size)
                case ("fill",):
                    await file.fill(base.fetch)
                    assert file.is_complete
                case (_, int(one), int(other)):
                    span = ByteRange(min(one, other), max(one, other))
                    assert await file.read(span, base.fetch) == model[span.start : span.stop]
            apply(model, op)
            assert file.size == len(model)
        await file.fill(base.fetch)
        assert content(file.path) == model
        await file.discard()
        assert shared.used_bytes == 0

    trio.run(main)


@pytest.mark.parametrize("seed", range(15))
def test_reads_and_fetches_during_writes_see_each_write_whole(directory: Path, seed: int) -> None:
    """One writer, several readers, slow fetches, small and threaded operations mixed.

    Each write is of one letter and takes a block of its own; a reader sees a block as it was at some
    moment during its read, and never older than what was written before the read began.
    """
    block = 300 * KIB if seed % 3 == 0 else 5000
    count = 12

    async def main(spool: SpoolDir) -> None:
        chance = random.Random(seed)
        base = Base(b"".join(bytes([n]) * block for n in range(count)))

        async def slowly(_: ByteRange) -> None:
            for _ in range(chance.randrange(20)):
                await trio.lowlevel.checkpoint()

        base.gate = slowly
        file = await spool.create("k", base.stat)
        history = [[n] for n in range(count)]  # every value of each block so far, the current one last
        writing: dict[int, int] = {}
        done = trio.Event()

        async def write() -> None:
            for value in range(100, 180):
                n = chance.randrange(count)
                writing[n] = value
                await file.write(n * block, bytes([value]) * block)
                history[n].append(value)
                del writing[n]
                await slowly(ByteRange(0, 0))
            done.set()

        async def read() -> None:
            while not done.is_set():
                first = chance.randrange(count)
                stop = chance.randrange(first, count) + 1
                before = [len(values) for values in history]
                data = await file.read(ByteRange(first * block, stop * block), base.fetch)
                assert len(data) == (stop - first) * block
                for n in range(first, stop):
                    seen = data[(n - first) * block : (n + 1 - first) * block]
                    allowed = set(history[n][before[n] - 1 :]) | ({writing[n]} if n in writing else set())
                    assert seen[0] in allowed
                    assert seen.count(seen[0]) == block
                await slowly(ByteRange(0, 0))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            for _ in range(4):
                nursery.start_soon(read)
        await file.fill(base.fetch)
        assert content(file.path) == b"".join(bytes([v[-1]]) * block for v in history)

    play(directory, main)


@pytest.mark.parametrize("seed", range(40))
def test_every_read_is_the_file_as_it_was_at_one_moment(directory: Path, seed: int) -> None:
    """One task writes and truncates, others read and fill with slow and failing fetches."""

    async def main(spool: SpoolDir) -> None:
        chance = random.Random(seed)
        base = Base(bytes(range(1, 1 + chance.randrange(SIZE))))

        async def slowly(_: ByteRange) -> None:
            for _ in range(chance.randrange(8)):
                await trio.lowlevel.checkpoint()
            if chance.random() < 0.2:
                raise StoreUnavailable("broke off")

        base.gate = slowly
        file = await spool.create("k", base.stat)
        model = bytearray(base.body)
        moments = [bytes(model)]
        done = trio.Event()

        async def change() -> None:
            for number in range(60):
                if chance.random() < 0.7:
                    data = bytes([100 + number]) * chance.randrange(1, 20)
                    op: tuple[object, ...] = ("write", chance.randrange(SIZE), data)
                else:
                    op = ("truncate", chance.randrange(SIZE))
                apply(model, op)
                moments.append(bytes(model))
                await (file.write(*op[1:]) if op[0] == "write" else file.truncate(*op[1:]))  # type: ignore[arg-type]
                for _ in range(chance.randrange(12)):
                    await trio.lowlevel.checkpoint()
            done.set()

        async def use() -> None:
            while not done.is_set():
                await trio.lowlevel.checkpoint()  # what is here is read without one
                try:
                    if chance.random() < 0.1:
                        await file.fill(base.fetch)
                        continue
                    start = chance.randrange(SIZE)
                    stop = min(start + chance.randrange(SIZE), max(start, file.size))
                    since = len(moments) - 1
                    got = await file.read(ByteRange(start, stop), base.fetch)
                    assert got in [moment[start:stop] for moment in moments[since:]]
                except StoreUnavailable:
                    continue

        async with trio.open_nursery() as nursery:
            nursery.start_soon(change)
            for _ in range(4):
                nursery.start_soon(use)
        base.gate = None
        await file.fill(base.fetch)
        assert content(file.path) == model
        await file.discard()
        assert spool.used_bytes == 0

    play(directory, main)
