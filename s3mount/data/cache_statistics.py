"""What the block cache counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """Counts since the cache was opened, and its memory now. Hits and misses are in blocks."""

    hits: int
    misses: int
    gets: int
    fetched_bytes: int
    background_gets: int
    dropped_hints: int
    evicted_runs: int
    used_bytes: int
    capacity_bytes: int
