"""Who is offered what: sequential readers a growing window, random readers nothing."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3mount.core.objects import ByteRange
from s3mount.core.readahead import MAX_STREAMS, Readahead

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


class Watched:
    """A Readahead bound to one object's size."""

    def __init__(self, object_size: int, block_size: int, **options: int) -> None:
        self.readahead = Readahead(block_size, **options)
        self.object_size = object_size

    def observe(self, span: ByteRange) -> range:
        """Note a read; return the offers."""
        return self.readahead.observe(span, self.object_size)


def reads(start: int, stop: int, size: int) -> list[ByteRange]:
    """Return reads of *size* bytes one after the other."""
    return [ByteRange(at, min(at + size, stop)) for at in range(start, stop, size)]


def offered(readahead: Watched, todo: list[ByteRange]) -> list[int]:
    """Observe the reads; return every block that was offered, in order."""
    return [block for span in todo for block in readahead.observe(span)]


@pytest.mark.parametrize("size", [4 * KIB, 128 * KIB, MIB, 5 * MIB])
def test_a_sequential_reader_is_offered_the_whole_object_once(size: int) -> None:
    """Every block behind the first reads is offered before it is read, and none twice."""
    readahead = Watched(256 * MIB, MIB)
    seen: set[int] = set()
    late = []
    for span in reads(0, 256 * MIB, size):
        blocks = readahead.observe(span)
        assert seen.isdisjoint(blocks)
        late += [n for n in range(span.start // MIB, -(-span.stop // MIB)) if n not in seen]
        seen.update(blocks)
    assert max(seen) == 255
    assert max(late) <= max(1, 2 * size // MIB)


def test_the_window_doubles_up_to_the_cap() -> None:
    """What lies offered ahead of the reader grows with what it has read and stops at the cap."""
    readahead = Watched(GIB, MIB, cap_bytes=32 * MIB)
    ahead = []
    end = 0
    for span in reads(0, 200 * MIB, MIB):
        blocks = readahead.observe(span)
        end = max(end, blocks.stop)
        ahead.append(end - span.stop // MIB)
        assert ahead[-1] <= max(1, span.stop // MIB)
    assert max(ahead) == 32
    assert min(ahead[64:]) >= 16


def test_offers_are_large_once_the_window_is() -> None:
    """The window is refilled half at a time, so that one GET can fetch many blocks."""
    readahead = Watched(GIB, MIB, cap_bytes=32 * MIB)
    sizes = [len(blocks) for span in reads(0, 512 * MIB, 128 * KIB) if (blocks := readahead.observe(span))]
    assert min(sizes[12:]) >= 16


def test_the_first_read_is_offered_nothing() -> None:
    """A program that looks at a file's head pays for its head, however much it asks for."""
    assert not Watched(GIB, MIB).observe(ByteRange(0, 4 * KIB))
    assert not Watched(GIB, MIB).observe(ByteRange(0, MIB))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("object_size", [8 * MIB, 10 * GIB])
def test_random_reads_of_4_kib_are_offered_nothing(seed: int, object_size: int) -> None:
    """A random reader never pays for blocks that it did not ask for, in a small file neither."""
    chance = random.Random(seed)
    readahead = Watched(object_size, MIB)
    todo = [ByteRange(at, at + 4 * KIB) for at in chance.choices(range(0, object_size, 4 * KIB), k=500)]
    assert offered(readahead, todo) == []


@pytest.mark.parametrize("size", [128 * KIB, MIB])
@pytest.mark.parametrize("seed", range(5))
def test_reads_reordered_by_8_are_one_stream(size: int, seed: int) -> None:
    """The kernel's parallel read-ahead arrives in any order; the reader still gets its whole window."""
    chance = random.Random(seed)
    todo = reads(0, 256 * MIB, size)
    for at in range(0, len(todo), 8):
        group = todo[at : at + 8]
        chance.shuffle(group)
        todo[at : at + 8] = group
    readahead = Watched(256 * MIB, MIB)
    blocks = offered(readahead, todo)
    assert len(blocks) == len(set(blocks))
    assert set(blocks) >= set(range(16, 256))


def test_two_interleaved_streams_each_get_their_own_window() -> None:
    """Two readers on one handle do not reset each other, and get no more than their own blocks."""
    readahead = Watched(GIB, MIB)
    first, second = reads(0, 64 * MIB, MIB), reads(512 * MIB, 576 * MIB, MIB)
    blocks = offered(readahead, [span for pair in zip(first, second, strict=True) for span in pair])
    assert len(blocks) == len(set(blocks))
    assert set(blocks) >= set(range(2, 64)) | set(range(514, 576))
    assert set(blocks) <= set(range(96)) | set(range(512, 608))


def test_a_seek_starts_again_small() -> None:
    """After a jump the window is what the reader has earned at the new place."""
    readahead = Watched(GIB, MIB)
    offered(readahead, reads(0, 64 * MIB, MIB))
    assert not readahead.observe(ByteRange(500 * MIB, 501 * MIB))
    assert readahead.observe(ByteRange(501 * MIB, 502 * MIB)) == range(502, 504)


def test_a_second_pass_is_offered_its_blocks_again() -> None:
    """Reading a file again through the same handle is a new stream: its blocks may be gone by then."""
    readahead = Watched(64 * MIB, MIB)
    offered(readahead, reads(0, 64 * MIB, MIB))
    again = offered(readahead, reads(0, 64 * MIB, MIB))
    assert set(again) >= set(range(2, 48))


def test_small_skips_within_what_was_earned_go_on() -> None:
    """A reader of an archive, who skips a little and reads much, keeps its window."""
    readahead = Watched(GIB, MIB)
    todo = [ByteRange(at, at + 900 * KIB) for at in range(0, 128 * MIB, MIB)]
    blocks = offered(readahead, todo)
    assert len(blocks) == len(set(blocks))
    assert set(blocks) >= set(range(8, 128))


def test_a_reader_that_begins_to_jump_soon_stops_being_offered() -> None:
    """Credit earned by reading on is used up by skipping, not kept for ever."""
    readahead = Watched(10 * GIB, MIB)
    offered(readahead, reads(0, 128 * MIB, MIB))
    jumps = [ByteRange(at, at + 4 * KIB) for at in range(136 * MIB, 4 * GIB, 8 * MIB)]
    assert len(offered(readahead, jumps)) <= 64
    assert offered(readahead, jumps[-20:]) == []


def test_reading_the_same_place_again_earns_nothing() -> None:
    """Only new bytes count as progress."""
    readahead = Watched(GIB, MIB)
    blocks = offered(readahead, [ByteRange(0, 128 * KIB)] * 100)
    assert blocks == []


def test_no_cap_no_offers() -> None:
    """A window of zero switches read-ahead off."""
    assert offered(Watched(GIB, MIB, cap_bytes=0), reads(0, 64 * MIB, MIB)) == []


spans = st.tuples(st.integers(0, 120 * MIB), st.integers(0, 2 * MIB)).map(
    lambda p: ByteRange(p[0], p[0] + p[1])
)


@given(st.lists(spans, max_size=60), st.integers(0, 100 * MIB), st.sampled_from([4 * KIB, 100_000, MIB]))
def test_any_reader_is_offered_existing_blocks_ahead_within_the_cap(
    todo: list[ByteRange], object_size: int, block_size: int
) -> None:
    """Never a block beyond the end, never more than the window ahead of the read's stream at once."""
    readahead = Watched(object_size, block_size, cap_bytes=8 * MIB)
    for span in todo:
        blocks = readahead.observe(span)
        if blocks:
            assert blocks.stop <= -(-object_size // block_size)
            assert len(blocks) * block_size <= 8 * MIB + block_size
        assert len(readahead.readahead._streams) <= MAX_STREAMS


@given(st.lists(spans, max_size=60))
def test_what_is_offered_is_bounded_by_what_was_read(todo: list[ByteRange]) -> None:
    """No pattern of reads makes the offers explode: a window is never larger than what earned it."""
    readahead = Watched(200 * MIB, MIB)
    total = read = 0
    for span in todo:
        read += span.size
        total += len(readahead.observe(span)) * MIB
    assert total <= 2 * read + MIB * (1 + len(todo))


def test_streams_are_bounded() -> None:
    """A handle's memory does not grow with the number of places that were read."""
    readahead = Watched(GIB, MIB)
    offered(readahead, [ByteRange(at, at + 1) for at in range(0, GIB, 10 * MIB)])
    assert len(readahead.readahead._streams) == MAX_STREAMS
    assert all(a is not b for a, b in pairwise(readahead.readahead._streams))
