"""A flat TOML file as statements with their lines, which tomllib does not tell.

tomllib parses; here is only found where a statement ends: it is the first line up to which tomllib takes it.
So a fault in one line does not hide those of the others.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# What may go on in the next line: a text in three quotes, a list.
_GOES_ON = re.compile(r'"""|\'\'\'|\[')
_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Statement:
    """``key = value`` that begins in *line*, counted from 1."""

    line: int
    key: str
    value: Any


@dataclass(frozen=True, slots=True)
class SyntaxFault:
    """What is no TOML, or none of a flat file, in *line*."""

    line: int
    cause: str


def statements(text: str) -> Iterator[Statement | SyntaxFault]:
    """Yield what is in *text*, line by line."""
    lines = text.replace("\r\n", "\n").split("\n")
    at = 0
    while at < len(lines):
        found, used = _statement(lines, at)
        at += used
        if found is not None:
            yield found


def _statement(lines: list[str], at: int) -> tuple[Statement | SyntaxFault | None, int]:
    """Return the statement at index *at*, None for a comment, and how many lines it has."""
    ends = range(at + 1, len(lines) + 1) if _GOES_ON.search(lines[at]) else (at + 1,)
    first_fault: tomllib.TOMLDecodeError | None = None
    for end in ends:
        try:
            parsed = tomllib.loads("\n".join(lines[at:end]))
        except tomllib.TOMLDecodeError as fault:
            first_fault = first_fault or fault
            continue
        if lines[at].lstrip().startswith("["):
            return SyntaxFault(at + 1, "there are no sections: every option stands by itself"), end - at
        for key, value in parsed.items():
            return Statement(at + 1, key, value), end - at
        return None, end - at
    assert first_fault is not None
    match = _PLACE.fullmatch(str(first_fault))
    said = match[1] if match is not None else str(first_fault)
    return SyntaxFault(at + 1, f"this is no TOML ({said[:1].lower()}{said[1:]})"), 1
