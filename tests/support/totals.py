"""What the sweeps of a run add up to: counted by any process of the run, printed at its end.

A sweep counts zero of what must not happen, so that the summary says that it was looked for::

    totals.count("faults injected", rule.injected)
    totals.count("lost bytes", 0)
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

#: Names the file; processes that a test starts inherit it.
VARIABLE = "S3MOUNT_TEST_TOTALS"
#: How the summary begins; what else was counted follows in the order in which it came.
FIRST = (
    "faults injected",
    "faults survived",
    "crashes injected",
    "crashes survived",
    "power cuts injected",
    "power cuts survived",
    "histories checked",
    "lost bytes",
    "orphan uploads",
    "hung callers",
)


def count(name: str, number: int = 1) -> None:
    """Add *number* to the total *name*. Does nothing outside a test run."""
    if path := os.environ.get(VARIABLE):
        # One write to a file opened for appending is not mixed with another process's.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, f"{number} {name}\n".encode())
        finally:
            os.close(descriptor)


def read(path: Path) -> Counter[str]:
    """Return the totals in the file at *path*, in the order in which they are to be said."""
    lines = path.read_text().splitlines() if path.exists() else []
    found: Counter[str] = Counter()
    for line in lines:
        number, _, name = line.partition(" ")
        found[name] += int(number)
    names = [name for name in FIRST if name in found] + [name for name in found if name not in FIRST]
    return Counter({name: found[name] for name in names})


def summary(path: Path) -> str:
    """Return the totals in one line, empty if nothing was counted."""
    return ", ".join(f"{name} {number:,}" for name, number in read(path).items())
