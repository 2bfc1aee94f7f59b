"""Sizes to requests, within S3's limits."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3mount.core.objects import ByteRange
from s3mount.core.parts import (
    GIB,
    MAX_OBJECT_BYTES,
    MAX_PART_BYTES,
    MAX_PARTS,
    MIB,
    MIN_PART_BYTES,
    Multipart,
    SingleCopy,
    SinglePut,
    copy_plan,
    plan,
)
from s3mount.errors import FileTooLarge

object_sizes = st.one_of(st.integers(1, GIB), st.integers(1, MAX_OBJECT_BYTES))
part_sizes = st.one_of(st.integers(1, 100 * MIB), st.integers(1, 10 * GIB))


@given(object_sizes, part_sizes)
def test_every_multipart_plan_is_within_the_limits(size: int, part_size: int) -> None:
    """Whatever part size is wished for, S3 takes the plan."""
    parts = plan(size, part_size=part_size, single_put_max=0)
    assert isinstance(parts, Multipart)
    assert MIN_PART_BYTES <= parts.part_size <= MAX_PART_BYTES
    assert 1 <= len(parts) <= MAX_PARTS
    assert parts.part_size % MIB == 0


@given(st.integers(1, 400 * MIB), st.integers(1, 100 * MIB))
def test_the_parts_are_the_object(size: int, part_size: int) -> None:
    """Parts follow each other without gap from the first byte to the last; only the last is smaller."""
    multipart = plan(size, part_size=part_size, single_put_max=0)
    assert isinstance(multipart, Multipart)
    parts = list(multipart)
    assert len(parts) == len(multipart)
    assert (parts[0].start, parts[-1].stop) == (0, size)
    assert all(a.stop == b.start for a, b in itertools.pairwise(parts))
    assert {part.size for part in parts[:-1]} <= {multipart.part_size}
    assert 0 < parts[-1].size <= multipart.part_size


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, SinglePut(0)),
        (1, SinglePut(1)),
        (16 * MIB, SinglePut(16 * MIB)),
        (16 * MIB + 1, Multipart(16 * MIB + 1, 16 * MIB)),
        (160_000 * MIB, Multipart(160_000 * MIB, 16 * MIB)),
        (160_000 * MIB + 1, Multipart(160_000 * MIB + 1, 17 * MIB)),
        (MAX_OBJECT_BYTES, Multipart(MAX_OBJECT_BYTES, 5 * GIB)),
    ],
)
def test_named_sizes(size: int, expected: SinglePut | Multipart) -> None:
    """The edges: nothing, one part, one byte more, 10,000 parts, one byte more, the largest object."""
    assert plan(size, part_size=16 * MIB, single_put_max=16 * MIB) == expected


def test_one_byte_above_the_largest_object_is_refused() -> None:
    """A program that writes beyond 48.8 TiB gets EFBIG."""
    for decide in (
        lambda: plan(MAX_OBJECT_BYTES + 1, part_size=MIB, single_put_max=MIB),
        lambda: copy_plan(MAX_OBJECT_BYTES + 1, part_size=MIB),
    ):
        with pytest.raises(FileTooLarge):
            decide()


def test_a_wish_for_larger_single_puts_than_s3_takes_is_not_granted() -> None:
    """5 GiB is the most that one PUT can carry, whatever was configured."""
    assert plan(5 * GIB, part_size=MIB, single_put_max=100 * GIB) == SinglePut(5 * GIB)
    assert isinstance(plan(5 * GIB + 1, part_size=MIB, single_put_max=100 * GIB), Multipart)


def test_copies_above_5_gib_go_in_parts() -> None:
    """CopyObject takes 5 GiB; one byte more is copied in parts."""
    assert copy_plan(5 * GIB, part_size=GIB) == SingleCopy(5 * GIB)
    parts = copy_plan(5 * GIB + 1, part_size=GIB)
    assert isinstance(parts, Multipart)
    assert list(parts)[-1] == ByteRange(5 * GIB, 5 * GIB + 1)
    assert copy_plan(10, part_size=MIB, single_copy_max=9) == Multipart(10, 5 * MIB)
