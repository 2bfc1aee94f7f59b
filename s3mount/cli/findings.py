"""What ``s3mount doctor`` has found out, one thing at a time."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from s3mount.cli.words import printable, table


class Verdict(enum.Enum):
    """What a finding means; the value is the mark in front of it."""

    GOOD = "ok"
    NOTE = "note"  # works, and could be better
    BAD = "BAD"  # does not work


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table; *advice* is what to change, empty where there is nothing."""

    verdict: Verdict
    thing: str
    result: str
    advice: str = ""


def good(thing: str, result: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(Verdict.GOOD, thing, result)


def note(thing: str, result: str, advice: str) -> Finding:
    """Return a finding that could be better."""
    return Finding(Verdict.NOTE, thing, result, advice)


def bad(thing: str, result: str, advice: str) -> Finding:
    """Return a finding of what does not work."""
    return Finding(Verdict.BAD, thing, result, advice)


def lines(findings: Sequence[Finding]) -> list[str]:
    """Return the table, and below it what to change, what does not work first."""
    shown = table([[one.verdict.value, one.thing, printable(one.result)] for one in findings])
    wanting = [one for verdict in (Verdict.BAD, Verdict.NOTE) for one in findings if one.verdict is verdict]
    if not wanting:
        return shown
    return [*shown, "", "what to change:", *(f"  {one.thing}: {printable(one.advice)}" for one in wanting)]
