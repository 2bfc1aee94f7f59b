"""The bytes of one read, put together from several runs."""

from __future__ import annotations

from collections.abc import Iterable

from s3mount.core.objects import ByteRange
from s3mount.data.run import Run


class Reply:
    """A buffer for the bytes of *span*, made when the first block comes in."""

    __slots__ = ("_block_size", "_buffer", "_missing", "_span")

    def __init__(self, span: ByteRange, block_size: int) -> None:
        self._span = span
        self._block_size = block_size
        self._buffer = bytearray()
        self._missing = span.size

    def put(self, run: Run, numbers: Iterable[int]) -> None:
        """Copy what these blocks of *run* have of the span; each block once."""
        if not self._buffer:
            self._buffer = bytearray(self._span.size)
        for number in numbers:
            start = max(number * self._block_size, self._span.start)
            stop = min((number + 1) * self._block_size, self._span.stop)
            at = start - self._span.start
            self._buffer[at : at + stop - start] = run.view(ByteRange(start, stop))
            self._missing -= stop - start

    def finished(self) -> memoryview:
        """Return the bytes, which must be complete: the kernel takes a short reply for zeros."""
        assert self._missing == 0
        return memoryview(self._buffer).toreadonly()
