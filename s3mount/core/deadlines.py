"""How long a transfer may take."""

from __future__ import annotations

from typing import Final

SLOWEST_TRANSFER: Final = 512 * 1024
"""Bytes per second below which a transfer is given up: what a deadline adds for its size."""


def with_transfer(timeout_s: float, size: int) -> float:
    """Return the deadline, in seconds, of what takes *timeout_s* and moves *size* bytes."""
    return timeout_s + size / SLOWEST_TRANSFER
