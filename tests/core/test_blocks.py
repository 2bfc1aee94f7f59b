"""Byte ranges to block numbers and back."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3mount.core.blocks import blocks_of, clip, runs_of, span_of
from s3mount.core.objects import ByteRange

sizes = st.integers(0, 100)
spans = st.tuples(sizes, sizes).map(lambda p: ByteRange(min(p), max(p)))


@given(spans, st.integers(1, 30))
def test_blocks_of_are_those_that_hold_a_byte_of_the_span(span: ByteRange, block_size: int) -> None:
    """A block is named exactly when a byte of the span lies in it."""
    assert list(blocks_of(span, block_size)) == sorted(
        {b // block_size for b in range(span.start, span.stop)}
    )


@given(sizes, st.integers(1, 30))
def test_the_blocks_of_an_object_are_its_bytes(size: int, block_size: int) -> None:
    """All blocks side by side are the object, and the last ends where it ends."""
    blocks = blocks_of(ByteRange(0, size), block_size)
    pieces = [span_of(range(n, n + 1), block_size, size) for n in blocks]
    assert sum(piece.size for piece in pieces) == size
    assert all(a.stop == b.start for a, b in itertools.pairwise(pieces))
    assert span_of(blocks, block_size, size).size == size


@given(spans, sizes)
def test_clip_keeps_what_lies_below(span: ByteRange, size: int) -> None:
    """Clipping is intersection with the bytes below a size."""
    clipped = clip(span, size)
    assert set(range(clipped.start, clipped.stop)) == {b for b in range(span.start, span.stop) if b < size}


@given(st.sets(st.integers(0, 60)), st.integers(1, 10))
def test_runs_hold_every_number_once_and_are_as_long_as_they_may(numbers: set[int], longest: int) -> None:
    """Runs are consecutive, none is too long, and no two could have been one."""
    runs = runs_of(sorted(numbers), longest)
    assert [n for run in runs for n in run] == sorted(numbers)
    assert all(len(run) <= longest for run in runs)
    assert all(a.stop < b.start or len(a) == longest for a, b in itertools.pairwise(runs))


def test_a_run_of_no_blocks_is_refused() -> None:
    """A run size below one block would never end."""
    with pytest.raises(ValueError, match="at least one block"):
        runs_of([1], 0)
