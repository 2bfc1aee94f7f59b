"""The faults of the sweep by name, and which requests of a program they hit."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.counting_proxy import Action, Close, Cut, DropAnswer, Rule
from tests.support.fault_actions import (
    ACCESS_DENIED,
    HTML_200,
    INTERNAL_ERROR,
    SLOW_DOWN,
    ApplyThenAnswer,
    Shorten,
    Stall,
)

FAULTS: dict[str, Action] = {
    "503": SLOW_DOWN,
    "500-late": ApplyThenAnswer(INTERNAL_ERROR),
    "reset-before": Close(reset=True),
    "reset-after": DropAnswer(reset=True),
    "cut-head": Cut(60, of="head"),
    "cut-body": Cut(20),
    "shortened": Shorten(20),
    "garbage": HTML_200,
    "stall": Stall(of="head"),
    "403": ACCESS_DENIED,
}


@dataclass(frozen=True)
class Cell:
    """One run: *fault* at request *k* of *program*, and, if it is *sticky*, at all that follow."""

    program: str
    fault: str
    sticky: bool
    k: int

    def rule(self) -> Rule:
        """Return the rule for the proxy, new and unused."""
        return Rule(FAULTS[self.fault], first=self.k, last=None if self.sticky else self.k)

    def __str__(self) -> str:
        return f"{self.program} {self.fault} {'sticky' if self.sticky else 'once'} {self.k}"

    @classmethod
    def parse(cls, text: str) -> Cell:
        """Return the cell that ``str`` was made of."""
        program, fault, how, k = text.split()
        return cls(program, fault, how == "sticky", int(k))
