"""RangeSet against the plainest model there is: a set of ints."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from s3mount.core.objects import ByteRange
from s3mount.core.ranges import RangeSet

END = 40
spans = st.tuples(st.integers(0, END), st.integers(0, END)).map(lambda p: ByteRange(min(p), max(p)))
steps = st.lists(st.tuples(st.sampled_from(["add", "remove", "clip"]), spans), max_size=25)


def offsets(pieces: list[ByteRange]) -> set[int]:
    """Return every byte of *pieces*."""
    return {byte for piece in pieces for byte in range(piece.start, piece.stop)}


def played(todo: list[tuple[str, ByteRange]]) -> tuple[RangeSet, set[int]]:
    """Play the steps on both."""
    real, model = RangeSet(), set[int]()
    for verb, span in todo:
        if verb == "add":
            real.add(span)
            model |= offsets([span])
        elif verb == "remove":
            real.remove(span)
            model -= offsets([span])
        else:
            real.clip(span.stop)
            model = {byte for byte in model if byte < span.stop}
    return real, model


@given(steps)
def test_holds_what_a_set_of_ints_holds(todo: list[tuple[str, ByteRange]]) -> None:
    """After any adds, removes and clips the same bytes are in, and counted."""
    real, model = played(todo)
    assert offsets(list(real)) == model
    assert real.total == len(model)
    assert bool(real) == bool(model)


@given(steps)
def test_ranges_are_sorted_apart_and_never_empty(todo: list[tuple[str, ByteRange]]) -> None:
    """Ranges that touch have become one, so between any two there is a byte missing."""
    real, _ = played(todo)
    pieces = list(real)
    assert all(piece.size > 0 for piece in pieces)
    assert all(a.stop < b.start for a, b in itertools.pairwise(pieces))


@given(steps, spans)
def test_missing_and_contains(todo: list[tuple[str, ByteRange]], span: ByteRange) -> None:
    """What is missing of a span is exactly what is not in, in as few pieces as can be."""
    real, model = played(todo)
    gaps = real.missing(span)
    assert offsets(gaps) == offsets([span]) - model
    assert all(a.stop < b.start for a, b in itertools.pairwise(gaps))
    assert real.contains(span) == (offsets([span]) <= model)


def test_touching_ranges_become_one() -> None:
    """0-5 and 5-9 are 0-9, and the picture of a set names its ranges."""
    real = RangeSet()
    real.add(ByteRange(0, 5))
    real.add(ByteRange(5, 9))
    assert repr(real) == "RangeSet(0-9)"


def test_terabytes_cost_nothing() -> None:
    """Only the ends are kept, so a range may be as large as the largest object."""
    real = RangeSet()
    real.add(ByteRange(0, 48 << 40))
    real.remove(ByteRange(1 << 40, 2 << 40))
    assert real.total == 47 << 40
