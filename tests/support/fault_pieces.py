"""Streams of pieces with something done to them. A piece is its bytes on the wire and its payload's size.

The size is that of the bytes, or 0 for what only frames the payload (chunk sizes and their ends).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

Piece = tuple[bytes, int]


def payload(pieces: Iterable[Piece]) -> bytes:
    """Return the payload alone."""
    return b"".join(piece for piece, size in pieces if size)


def cut(pieces: Iterator[Piece], after_bytes: int, ending: Exception) -> Iterator[Piece]:
    """Pass *after_bytes* of payload on, then raise *ending*; also where the payload has no more."""
    left = after_bytes
    for piece, size in pieces:
        if size >= left and size:
            yield piece[:left], left
            raise ending
        left -= size
        yield piece, size
    raise ending


def stalled(pieces: Iterator[Piece], after_bytes: int, stall: Callable[[], None]) -> Iterator[Piece]:
    """Pass *after_bytes* of payload on, then call *stall*, then pass the rest on.

    A payload that is no longer than that passes whole: the other side would not notice.
    """
    left = after_bytes
    is_to_come = True
    for piece, size in pieces:
        if not is_to_come or size <= left:
            left -= size
            yield piece, size
            continue
        is_to_come = False
        if left:
            yield piece[:left], left
        stall()
        yield piece[left:], size - left


def shortened(pieces: Iterator[Piece], after_bytes: int) -> Iterator[Piece]:
    """Pass *after_bytes* of payload on and take the rest away.

    A chunked body becomes a shorter one in chunks.
    """
    left = after_bytes
    is_chunked = False
    for piece, size in pieces:
        is_chunked = is_chunked or not size
        kept = piece[: min(left, size)]
        left -= len(kept)
        if kept and is_chunked:
            yield b"%x\r\n" % len(kept), 0
            yield kept, len(kept)
            yield b"\r\n", 0
        elif kept:
            yield kept, len(kept)
    if is_chunked:
        yield b"0\r\n\r\n", 0


def flipped(pieces: Iterator[Piece], position: int) -> Iterator[Piece]:
    """Change all bits of the payload's byte at *position*."""
    start = 0
    for piece, size in pieces:
        at = position - start
        start += size
        if 0 <= at < size:
            yield piece[:at] + bytes([piece[at] ^ 0xFF]) + piece[at + 1 :], size
        else:
            yield piece, size


class Pacer:
    """Lets so many bytes a second through, whoever asks."""

    def __init__(self, bytes_per_s: float, sleep: Callable[[float], None]) -> None:
        self._bytes_per_s = bytes_per_s
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, size: int) -> None:
        """Wait until *size* bytes more have had their time."""
        with self._lock:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + size / self._bytes_per_s
            wait = self._free_at - now
        self._sleep(wait)


def paced(pieces: Iterator[Piece], pacer: Pacer, *, largest: int, free_bytes: int = 0) -> Iterator[Piece]:
    """Pass *free_bytes* on at once, then pieces of up to *largest* bytes at the pacer's rate."""
    for piece, size in pieces:
        if not size:
            yield piece, size
            continue
        at_once = min(free_bytes, size)
        if at_once:
            free_bytes -= at_once
            yield piece[:at_once], at_once
        for start in range(at_once, size, largest):
            part = piece[start : start + largest]
            pacer.take(len(part))
            yield part, len(part)
