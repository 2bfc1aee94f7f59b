"""Text for a terminal: names that cannot do it harm, tables, times."""

from __future__ import annotations

import time
from collections.abc import Sequence


def printable(text: object) -> str:
    """Return *text* without what a terminal would obey, and without bytes that are no text."""
    shown = "".join(one if one.isprintable() else repr(one)[1:-1] for one in str(text))
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")


def table(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Return *rows* as lines with columns of the same width; those in *right* are aligned to the right."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def plural(count: int, noun: str) -> str:
    """Return ``1 file`` or ``2 files``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return *seconds* in the two largest units: ``3 d 4 h``, ``5 min 2 s``, ``0.4 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts: list[str] = []
    for name, size in units:
        count, whole = divmod(whole, size)
        if count or parts:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


def moment(at_s: float) -> str:
    """Return a time of day of this machine: ``2026-01-31 12:00:00``."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))
