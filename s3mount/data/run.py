"""A run: consecutive blocks of one version of an object, fetched by one GET into one buffer."""

from __future__ import annotations

import mmap

import trio

from s3mount.core.objects import ByteRange, ObjectStat, RangeAnswer

SMALL_RUN_BYTES = 64 << 10
"""Below this a buffer comes from the heap: a mapping for each small file would use up the kernel's
limit of 65,530 mappings per process (vm.max_map_count)."""

SMALL_RUN_OVERHEAD_BYTES = 1024
"""What Python's objects around a run take, counted where it is not negligible, so that a cache full
of tiny files is bounded too."""


def run_cost(size: int) -> int:
    """Return the bytes of memory that a run of *size* bytes is charged with."""
    return size if size >= SMALL_RUN_BYTES else size + SMALL_RUN_OVERHEAD_BYTES


def _allocate(size: int) -> memoryview:
    """Return a writable buffer that goes back to the system, not to the heap, when it is dropped.

    A bytearray would not: glibc raises its threshold for mapping to the largest block ever freed, and
    from then on large buffers fragment the heap.
    """
    if size < SMALL_RUN_BYTES:
        return memoryview(bytearray(size))
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


class Run:
    """Blocks that are here or on their way.

    ``waiters`` are readers that still have to take their bytes; ``unread`` are the blocks of a hint
    that no reader has asked for yet. ``is_settled`` and ``is_forgotten`` belong to the shelf.
    INVARIANT: once ``done`` is set, either ``error`` is set or the buffer holds the object's bytes.
    """

    __slots__ = (
        "background",
        "blocks",
        "buffer",
        "cost",
        "done",
        "error",
        "etag",
        "is_forgotten",
        "is_settled",
        "is_whole",
        "key",
        "span",
        "unread",
        "waiters",
    )

    def __init__(self, stat: ObjectStat, blocks: range, span: ByteRange, *, background: bool) -> None:
        self.key = stat.key
        self.etag = stat.etag
        self.blocks = blocks
        self.span = span
        self.is_whole = span == ByteRange(0, stat.size)
        self.cost = run_cost(span.size)
        self.buffer = _allocate(span.size)
        self.background = background
        self.done = trio.Event()
        self.error: Exception | None = None
        self.waiters = 0
        self.unread = set(blocks) if background else set[int]()
        self.is_settled = False
        self.is_forgotten = False

    @property
    def is_ready(self) -> bool:
        """Whether its bytes may be taken now."""
        return self.done.is_set() and self.error is None

    def view(self, span: ByteRange) -> memoryview:
        """Return the bytes of *span*, which must lie within the run, without copying."""
        return self.buffer[span.start - self.span.start : span.stop - self.span.start].toreadonly()

    def complaint(self, answer: RangeAnswer) -> str | None:
        """Say what cannot be true about *answer*; None if it is what was asked for."""
        if answer.received != self.span.size:
            return f"{answer.received} bytes arrived of {self.span.size}"
        if answer.span is not None and answer.span != self.span:
            return f"answered bytes {answer.span.start}-{answer.span.stop}"
        if answer.etag is not None and answer.etag != self.etag:
            return f"has ETag {answer.etag}, not {self.etag}"
        return None

    def fail(self, error: Exception) -> None:
        """Hand *error* to whoever waits, and let the memory go."""
        self.error = error
        self.buffer = memoryview(b"")

    def __repr__(self) -> str:
        state = "failed" if self.error else "ready" if self.done.is_set() else "in flight"
        return f"<run {self.key!r} blocks {self.blocks.start}-{self.blocks.stop} {state}>"
