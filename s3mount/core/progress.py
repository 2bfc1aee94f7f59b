"""Whether work that takes long is still moving."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sending:
    """What is being sent, below whole requests.

    Args:
        wire_bytes: that have gone to the server since the start, heads and failed tries included.
        is_held_back: a request waits for its turn at a limit of bytes or requests a second.
    """

    wire_bytes: int = 0
    is_held_back: bool = False


class Progress:
    """Watches marks of some work: any values that change when it gets on.

    Args:
        patience_s: for so long the same mark still counts as moving.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._mark: object = None
        self._since_s: float | None = None

    def moves(self, mark: object, now_s: float, *, is_held_back: bool = False) -> bool:
        """Note *mark* of the moment *now_s*; return whether the work has moved of late; the first is news.

        *is_held_back*: it is this side that makes it wait, which is no stall.
        """
        if self._since_s is None or mark != self._mark or is_held_back:
            self._mark, self._since_s = mark, now_s
        return now_s - self._since_s < self._patience_s
