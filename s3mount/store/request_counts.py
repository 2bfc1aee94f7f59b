"""Requests by process and operation: how many, what came of them, how long they took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from s3mount.core.status import ProcessRequests, RequestCount
from s3mount.errors import ConditionFailed, FsError, NotFound, SlowDown, StaleObject
from s3mount.store.base import ON_BEHALF_OF
from s3mount.store.processes import ProcessNames

OTHERS: Final = "(others)"
MOST_PROCESSES: Final = 200
"""Names that are told apart; the rest is ``OTHERS``."""

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

    def add(self, other: _Count) -> None:
        self.made += other.made
        self.failed += other.failed
        self.slow_downs += other.slow_downs
        self.given_up += other.given_up
        self.seconds += other.seconds
        self.sent_bytes += other.sent_bytes
        self.received_bytes += other.received_bytes


class RequestCounts:
    """Counts since it was made, of the process that the current task works for."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, _Count]] = {}
        self._names = ProcessNames()

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
        """Return the counts of all processes together, in the order of the operations' names."""
        total: dict[str, _Count] = {}
        for counts in self._counts.values():
            for operation, count in counts.items():
                total.setdefault(operation, _Count()).add(count)
        return _shown(total)

    def by_process(self) -> list[ProcessRequests]:
        """Return the counts of each process, in the order of their names."""
        return [ProcessRequests(name, _shown(counts)) for name, counts in sorted(self._counts.items())]

    def _ended(self, operation: str, seconds: float) -> _Count:
        name = self._names.name(ON_BEHALF_OF.get())
        if name not in self._counts and len(self._counts) >= MOST_PROCESSES:
            name = OTHERS
        count = self._counts.setdefault(name, {}).setdefault(operation, _Count())
        count.made += 1
        count.seconds += seconds
        return count


def _shown(counts: dict[str, _Count]) -> list[RequestCount]:
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
        for operation, count in sorted(counts.items())
    ]
