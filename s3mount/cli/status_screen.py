"""A mount's status on a terminal: the same as ``status_text``, in columns that fit, with bars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from s3mount.cli import status_text
from s3mount.cli.words import plural, printable
from s3mount.config.units import format_size_short

_BAR_COLUMNS = 20
_FULL = 0.9
"""Of a bound: from here on it is shown as a warning."""


def show(statuses: Iterable[Mapping[str, Any]], *, live: bool, console: Console | None = None) -> None:
    """Print each of *statuses*; *live*: in the place of the one before, until Ctrl-C."""
    console = Console(highlight=False) if console is None else console
    if not live:
        for status in statuses:
            console.print(screen(status))
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as place:
        for status in statuses:
            place.update(screen(status), refresh=True)


def screen(status: Mapping[str, Any]) -> RenderableType:
    """Return what a status looks like."""
    return Group(*_parts(status))


def _parts(status: Mapping[str, Any]) -> Iterator[RenderableType]:
    first, *others = status_text.mount_lines(status)
    yield Text(first, style="bold")
    yield from (Text(line) for line in others)
    yield Text()
    yield _facts(status)
    if status["uploads"]["files"]:
        yield Text()
        yield from _uploads(status["uploads"])
    if renames := status.get("renames"):
        yield Text()
        yield from (Text(f"renaming {status_text.rename_line(one)}") for one in renames)
    if status["spool"]["held_files"]:
        yield Text()
        yield Text(status_text.held_title(status), style="yellow")
        yield _grid(status_text.held_rows(status))
    if status["errors"]:
        yield Text()
        yield Text(status_text.ERRORS_TITLE)
        yield from (Text(f"  {status_text.error_line(error)}", style="red") for error in status["errors"])


def _facts(status: Mapping[str, Any]) -> Table:
    bars = {
        "memory": (status["memory"]["used_bytes"], status["memory"]["cap_bytes"]),
        "spool": (status["spool"]["used_bytes"], status["spool"]["cap_bytes"]),
    }
    grid = Table.grid(padding=(0, 2))
    for name, text in status_text.facts(status):
        used, cap = bars.get(name, (0, None))
        is_bad = name == "server" and not status["server"]["is_reachable"]
        bar = ProgressBar(cap, used, width=_BAR_COLUMNS, complete_style=_bar_style(used, cap)) if cap else ""
        grid.add_row(Text(name, style="dim"), Text(text, style="bold red" if is_bad else ""), bar)
    return grid


def _uploads(uploads: Mapping[str, Any]) -> Iterator[RenderableType]:
    yield Text(status_text.uploads_title(uploads))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(overflow="ellipsis", no_wrap=True, ratio=3)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(width=_BAR_COLUMNS)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(ratio=4)
    listed = uploads["listed"][: status_text.MOST_FILES]
    for one in listed:
        grid.add_row(
            Text(f"  {printable(one['path'])}"),
            format_size_short(one["size_bytes"]),
            ProgressBar(max(1, one["size_bytes"]), one["sent_bytes"], width=_BAR_COLUMNS),
            status_text.progress(one),
            Text(status_text.upload_state(one), style="red" if one["failures"] else ""),
        )
    yield grid
    if (more := uploads["files"] - len(listed)) > 0:
        yield Text(f"  and {plural(more, 'file')} more")


def _grid(rows: Iterable[Iterable[str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for row in rows:
        grid.add_row("", *(Text(cell) for cell in row))
    return grid


def _bar_style(used: int, cap: int | None) -> str:
    return "red" if cap and used > _FULL * cap else "green"
