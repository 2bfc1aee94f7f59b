"""A spool file against a bytearray."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from s3mount.core.objects import ByteRange
from s3mount.data.spool import SpoolDir
from s3mount.errors import (
    StoreUnavailable,
)
from tests.data.spools import KIB, Base, content, play

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
