"""A bar for work that takes long, on a terminal; nothing in a pipe, where finished lines say enough."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Show(Protocol):
    """Draws the state of the work, at any time and from any thread."""

    def __call__(self, text: str, done_bytes: int, total_bytes: int) -> None:
        """Say with *text* what is being done, and how far it is."""


@contextmanager
def shown_bar(text: str) -> Iterator[Show]:
    """Give what draws the bar, which begins with *text*, where the standard error is a terminal.

    What is printed meanwhile goes above it, and where it would go without it.
    """
    if not sys.stderr.isatty():
        yield _nothing
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    # rich would print on its console, which is the standard error, what is meant for a file or a pipe.
    console = Console(stderr=True)
    with Progress(*columns, console=console, redirect_stdout=sys.stdout.isatty()) as bars:
        task = bars.add_task(text, total=None)

        def show(text: str, done_bytes: int, total_bytes: int) -> None:
            bars.update(task, completed=done_bytes, total=total_bytes, description=text)

        yield show


def _nothing(text: str, done_bytes: int, total_bytes: int) -> None:
    """Draw nothing."""
