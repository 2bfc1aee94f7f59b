"""Requests by operation: how many, what came of them, how long they took."""

from __future__ import annotations

from dataclasses import dataclass

from s3mount.core.status import RequestCount
from s3mount.errors import ConditionFailed, FsError, NotFound, SlowDown, StaleObject

_SENDING = frozenset({"PutObject", "UploadPart"})
_RECEIVING = frozenset({"GetObject"})
_ANSWERS = (NotFound, ConditionFailed, StaleObject)


@dataclass(slots=True)
class _Count:
    made: int = 0
    failed: int = 0
    slow_downs: int = 0
    given_up: int = 0
    seconds: float = 0.0
    sent_bytes: int = 0
    received_bytes: int = 0


class RequestCounts:
    """Counts since it was made."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}

    def succeeded(self, operation: str, seconds: float, size: int) -> None:
        """Note a request that did what it should with *size* bytes."""
        count = self._ended(operation, seconds)
        count.sent_bytes += size * (operation in _SENDING)
        count.received_bytes += size * (operation in _RECEIVING)

    def failed(self, operation: str, seconds: float, failure: FsError) -> None:
        """Note a request that came to *failure*."""
        count = self._ended(operation, seconds)
        count.failed += not isinstance(failure, _ANSWERS)
        count.slow_downs += isinstance(failure, SlowDown)

    def given_up(self, operation: str, seconds: float) -> None:
        """Note a request that was ended from this side."""
        self._ended(operation, seconds).given_up += 1

    def snapshot(self) -> list[RequestCount]:
        """Return the counts in the order of the operations' names."""
        return [
            RequestCount(
                operation=operation,
                made=count.made,
                failed=count.failed,
                slow_downs=count.slow_downs,
                given_up=count.given_up,
                seconds=round(count.seconds, 6),
                sent_bytes=count.sent_bytes,
                received_bytes=count.received_bytes,
            )
            for operation, count in sorted(self._counts.items())
        ]

    def _ended(self, operation: str, seconds: float) -> _Count:
        count = self._counts.setdefault(operation, _Count())
        count.made += 1
        count.seconds += seconds
        return count
