"""The bytes of a spool file: written here, or the object's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from s3mount.core.objects import ByteRange
from s3mount.data.spool import SpoolDir, SpoolFile
from s3mount.data.spool_loader import FETCH_BYTES, FETCHES_AT_ONCE
from s3mount.errors import (
    BadAnswer,
    StoreUnavailable,
)
from tests.data.spools import Base, content, play, random_bytes


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
