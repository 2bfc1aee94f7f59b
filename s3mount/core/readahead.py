"""How far ahead of one handle's reader to fetch.

The kernel cuts a program's sequential read into requests that arrive out of order, several at once,
and one handle may serve more than one reader. So a handle keeps a few *streams*, each a place where
reading goes on. A read belongs to the stream that it continues, or opens a new one; two streams that
grow together become one. A stream earns credit: the bytes that were read in it, less the bytes that
it skipped. The window is as large as the credit, so that it doubles as the reader goes on, never
wastes more than was used, and a random reader, who earns nothing, is offered nothing.
"""

from __future__ import annotations

from s3mount.core.blocks import blocks_of, clip
from s3mount.core.objects import ByteRange
from s3mount.core.ranges import RangeSet

MIB = 1 << 20

MAX_STREAMS = 16
"""Streams kept per handle; above the number of requests that the kernel reorders, 12 by default."""

EVIDENCE_BYTES = 128 << 10
"""What must be read in sequence, in two reads or more, before anything is offered.

The kernel's first read-ahead of a program that only looks at a file's head is no larger.
"""


class _Stream:
    """One place in the object where reading goes on.

    ``seen`` holds what was read within ``start`` and ``stop``, the last few MiB of the stream.
    ``reads`` counts those that brought anything new.
    ``offered`` is the first block that was not offered yet.
    """

    __slots__ = ("credit", "offered", "reads", "seen", "start", "stop")

    def __init__(self, span: ByteRange) -> None:
        self.start = span.start
        self.stop = span.stop
        self.reads = 0
        self.credit = 0
        self.offered = 0
        self.seen = RangeSet()

    def __repr__(self) -> str:
        return f"<stream {self.start}-{self.stop} credit {self.credit} offered {self.offered}>"


class Readahead:
    """Watches the reads of one handle and says which blocks to offer for fetching.

    Args:
        block_size: in bytes.
        start_bytes: the smallest window.
        cap_bytes: the largest window.
        tolerance_bytes: how far back, and within the credit forward, a read still belongs to its
            stream; at least the kernel's read_ahead_kb times the requests that it reorders.
    """

    def __init__(
        self,
        block_size: int,
        *,
        start_bytes: int = MIB,
        cap_bytes: int = 32 * MIB,
        tolerance_bytes: int = 8 * MIB,
    ) -> None:
        self._block_size = block_size
        self._start_bytes = min(start_bytes, cap_bytes)
        self._cap_bytes = cap_bytes
        self._tolerance_bytes = tolerance_bytes
        self._streams: list[_Stream] = []  # the most recently used last

    def observe(self, span: ByteRange, object_size: int) -> range:
        """Note a read of *span* of an object of *object_size* bytes; return the blocks to offer now.

        Often none, never one beyond the end, within one stream none twice.
        """
        span = clip(span, object_size)
        if not span.size or not self._cap_bytes:
            return range(0)
        stream = self._stream_of(span)
        self._advance(stream, span)
        self._absorb_neighbours(stream)
        self._drop_tail(stream)
        self._streams.append(stream)
        del self._streams[:-MAX_STREAMS]
        return self._offer(stream, object_size)

    def _stream_of(self, span: ByteRange) -> _Stream:
        """Take the stream that *span* continues best out of the list, or make a new one."""
        best = None
        for stream in self._streams:
            reach = max(
                stream.stop + min(stream.credit, self._tolerance_bytes), stream.offered * self._block_size
            )
            if stream.start <= span.start <= reach and (
                best is None or abs(span.start - stream.stop) < abs(span.start - best.stop)
            ):
                best = stream
        if best is None:
            return _Stream(span)
        self._streams.remove(best)
        return best

    def _advance(self, stream: _Stream, span: ByteRange) -> None:
        fresh = sum(gap.size for gap in stream.seen.missing(span))
        stream.seen.add(span)
        stream.stop = max(stream.stop, span.stop)
        stream.reads += fresh > 0
        stream.credit = min(stream.credit + fresh, self._cap_bytes)

    def _absorb_neighbours(self, stream: _Stream) -> None:
        """Make one of *stream* and those that it has grown together with."""
        for other in self._streams[:]:
            if other.start <= stream.stop and stream.start <= other.stop:
                self._streams.remove(other)
                for piece in other.seen:
                    stream.seen.add(piece)
                stream.start = min(stream.start, other.start)
                stream.stop = max(stream.stop, other.stop)
                stream.reads += other.reads
                stream.credit = min(stream.credit + other.credit, self._cap_bytes)
                stream.offered = max(stream.offered, other.offered)

    def _drop_tail(self, stream: _Stream) -> None:
        """Forget what lies too far back; what was never read there was skipped, and costs credit."""
        start = stream.stop - self._tolerance_bytes
        if start <= stream.start:
            return
        tail = ByteRange(stream.start, start)
        skipped = sum(gap.size for gap in stream.seen.missing(tail))
        stream.credit = max(0, stream.credit - skipped)
        stream.seen.remove(tail)
        stream.start = start

    def _offer(self, stream: _Stream, object_size: int) -> range:
        if stream.reads < 2 or stream.credit < EVIDENCE_BYTES:
            return range(0)
        window = max(stream.credit, self._start_bytes)
        ahead = stream.offered * self._block_size - stream.stop
        if ahead > window // 2:  # refilled half a window at a time: fewer and larger GETs
            return range(0)
        first = max(stream.offered, -(-stream.stop // self._block_size))
        last = blocks_of(clip(ByteRange(0, stream.stop + window), object_size), self._block_size).stop
        for other in self._streams:
            if -(-other.stop // self._block_size) <= first < other.offered:
                first = other.offered  # on its way for a stream that this one is about to meet
        if first >= last:
            return range(0)
        stream.offered = last
        return range(first, last)
