"""Byte ranges to block numbers and back.

Block *n* of an object holds its bytes ``n * block_size`` up to ``(n + 1) * block_size``; the last
block ends where the object ends. Numbers are given as ``range`` objects with step 1.
"""

from __future__ import annotations

from collections.abc import Iterable

from s3mount.core.objects import ByteRange


def blocks_of(span: ByteRange, block_size: int) -> range:
    """Return the numbers of the blocks that *span* touches; none for an empty span."""
    if not span.size:
        return range(0)
    return range(span.start // block_size, -(-span.stop // block_size))


def span_of(blocks: range, block_size: int, object_size: int) -> ByteRange:
    """Return the bytes of consecutive *blocks* in an object of *object_size* bytes."""
    stop = min(blocks.stop * block_size, object_size)
    return ByteRange(min(blocks.start * block_size, stop), stop)


def clip(span: ByteRange, size: int) -> ByteRange:
    """Return the part of *span* that lies below *size*."""
    stop = min(span.stop, size)
    return ByteRange(min(span.start, stop), stop)


def runs_of(numbers: Iterable[int], max_blocks: int) -> list[range]:
    """Group rising block *numbers* into runs of consecutive ones, none longer than *max_blocks*."""
    if max_blocks < 1:
        raise ValueError(f"a run holds at least one block, not {max_blocks}")
    runs: list[range] = []
    for number in numbers:
        if runs and runs[-1].stop == number and len(runs[-1]) < max_blocks:
            runs[-1] = range(runs[-1].start, number + 1)
        else:
            runs.append(range(number, number + 1))
    return runs
