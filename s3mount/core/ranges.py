"""A set of bytes, kept as half-open ranges: which bytes of a file are there."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from s3mount.core.objects import ByteRange


class RangeSet:
    """A set of byte offsets. Ranges that touch are one range.

    INVARIANT: ``_starts[i] < _stops[i] < _starts[i + 1]``.
    INVARIANT: ``total`` is the sum of the ranges' sizes.
    """

    __slots__ = ("_starts", "_stops", "_total")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._total = 0

    @property
    def total(self) -> int:
        """Number of bytes in the set."""
        return self._total

    def add(self, span: ByteRange) -> None:
        """Put every byte of *span* in."""
        if not span.size:
            return
        first = bisect_left(self._stops, span.start)  # the first range that touches or follows
        last = bisect_right(self._starts, span.stop)  # one past the last range that touches
        start, stop = span.start, span.stop
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._replace(first, last, [(start, stop)])

    def remove(self, span: ByteRange) -> None:
        """Take every byte of *span* out."""
        if not span.size:
            return
        first = bisect_right(self._stops, span.start)
        last = bisect_left(self._starts, span.stop)
        if first >= last:
            return
        left = (self._starts[first], span.start)
        right = (span.stop, self._stops[last - 1])
        self._replace(first, last, [piece for piece in (left, right) if piece[0] < piece[1]])

    def clip(self, size: int) -> None:
        """Take every byte at *size* and beyond out."""
        if self._stops and self._stops[-1] > size:
            self.remove(ByteRange(size, self._stops[-1]))

    def missing(self, span: ByteRange) -> list[ByteRange]:
        """Return the stretches of *span* that are not in the set, in order, none empty."""
        gaps = []
        position = span.start
        for index in range(bisect_right(self._stops, span.start), len(self._starts)):
            if self._starts[index] >= span.stop:
                break
            if position < self._starts[index]:
                gaps.append(ByteRange(position, self._starts[index]))
            position = self._stops[index]
        if position < span.stop:
            gaps.append(ByteRange(position, span.stop))
        return gaps

    def contains(self, span: ByteRange) -> bool:
        """Return whether every byte of *span* is in the set; of an empty one, it is."""
        if not span.size:
            return True
        index = bisect_right(self._starts, span.start) - 1
        return index >= 0 and span.stop <= self._stops[index]

    def _replace(self, first: int, last: int, pieces: list[tuple[int, int]]) -> None:
        """Put *pieces* in the place of the ranges *first* up to *last*."""
        gone = sum(self._stops[first:last]) - sum(self._starts[first:last])
        self._starts[first:last] = [start for start, _ in pieces]
        self._stops[first:last] = [stop for _, stop in pieces]
        self._total += sum(stop - start for start, stop in pieces) - gone

    def __iter__(self) -> Iterator[ByteRange]:
        return map(ByteRange, self._starts, self._stops)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __repr__(self) -> str:
        return f"RangeSet({', '.join(f'{r.start}-{r.stop}' for r in self)})"
