"""How many requests a server that asks for fewer should get at once: additive increase, multiplicative
decrease, as TCP finds the rate of a line that it shares with others.
"""

from __future__ import annotations


class ConcurrencyLimit:
    """The limit: halved when the server says so, and one more for each round of answers without.

    A request is told the *epoch* in which it begins. Only one of those that began in the same epoch
    cuts: the others, which were on their way already, say nothing new.

    INVARIANT: 1 <= limit <= ceiling.
    """

    def __init__(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self._answers = 0
        self.limit = ceiling
        """Requests at once."""
        self.epoch = 0
        """How often it was cut."""

    def slow_down(self, epoch: int) -> bool:
        """Note that a request begun in *epoch* was told to slow down; return whether that cuts."""
        if epoch != self.epoch:
            return False
        self.epoch += 1
        self._answers = 0
        self.limit = max(1, self.limit // 2)
        return True

    def answered(self) -> bool:
        """Note an answer that was none of these; return whether the limit grew."""
        if self.limit == self._ceiling:
            return False
        self._answers += 1
        if self._answers < self.limit:
            return False
        self._answers = 0
        self.limit += 1
        return True
