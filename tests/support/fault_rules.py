"""Which exchanges an action is applied to. The ``repr`` of rules is one line that makes them again."""

from __future__ import annotations

import fnmatch
import random
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields

from tests.support import fault_actions
from tests.support.fault_actions import Action
from tests.support.s3_requests import S3Request


@dataclass(repr=False)
class Rule:
    """Applies *action* to the requests that match, or to some of them.

    Args:
        method, operation: HTTP's and S3's name of what is asked; None for all.
        key: a glob of the object's key; ``*`` also matches slashes.
        prefix: a glob of a listing's prefix; None for all requests.
        first, last: the first and last matching request, counted from 1; both the same: the n-th.
        every: of those, each so-manieth, beginning with *first*.
        probability: of those, each with this chance, drawn from *seed*.
        times: how often at most; 1: once.
    """

    action: Action
    method: str | None = None
    operation: str | None = None
    key: str = "*"
    prefix: str | None = None
    first: int = 1
    last: int | None = None
    every: int = 1
    probability: float = 1.0
    seed: int = 0
    times: int | None = None
    seen: int = field(default=0, init=False, compare=False)
    """Requests that matched."""
    injected: int = field(default=0, init=False, compare=False)
    """Requests that the action was applied to."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def __repr__(self) -> str:
        said = [repr(self.action)]
        for one in fields(self)[1:]:
            value = getattr(self, one.name)
            if one.init and (one.default is MISSING or value != one.default):
                said.append(f"{one.name}={value!r}")
        return f"Rule({', '.join(said)})"

    def matches(self, request: S3Request) -> bool:
        """Whether the request is one of those that are counted."""
        if self.method not in (None, request.method) or self.operation not in (None, request.operation):
            return False
        if self.prefix is not None and not fnmatch.fnmatchcase(request.query.get("prefix", ""), self.prefix):
            return False
        return fnmatch.fnmatchcase(request.key, self.key)

    def applies(self) -> bool:
        """Count one more request that matches; whether the action is applied to it."""
        self.seen += 1
        if self.seen < self.first or (self.last is not None and self.seen > self.last):
            return False
        if (self.seen - self.first) % self.every:
            return False
        if self.probability < 1.0 and self._random.random() >= self.probability:
            return False
        if self.times is not None and self.injected >= self.times:
            return False
        self.injected += 1
        return True


def parse_rules(text: str) -> list[Rule]:
    """Return the rules that ``repr`` of a list of them, or of one, was made of."""
    names = {name: value for name, value in vars(fault_actions).items() if name[:1].isupper()}
    made = eval(text, {"__builtins__": {}}, names | {"Rule": Rule})  # a test's own words
    return list(made) if isinstance(made, Sequence) else [made]
