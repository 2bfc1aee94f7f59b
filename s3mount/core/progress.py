"""Whether work that takes long is still moving."""

from __future__ import annotations


class Progress:
    """Watches marks of some work: any values that change when it gets on.

    Args:
        patience_s: for so long the same mark still counts as moving.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._mark: object = None
        self._since_s: float | None = None

    def moves(self, mark: object, now_s: float) -> bool:
        """Note *mark* of the moment *now_s*; return whether the work has moved of late; the first is news."""
        if self._since_s is None or mark != self._mark:
            self._mark, self._since_s = mark, now_s
        return now_s - self._since_s < self._patience_s
