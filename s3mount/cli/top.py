"""``s3mount top``: who makes the requests, and what they cost."""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from s3mount.cli.parser import Commands
from s3mount.cli.watching import add_watching_parser, answers, print_each
from s3mount.cli.words import duration, printable, table
from s3mount.config.units import format_size_short
from s3mount.core.exits import Exit
from s3mount.core.prices import AWS, Prices, RequestClass, advice_on, made_by_class, read_prices
from s3mount.core.status import ProcessRequests, RequestCount
from s3mount.errors import StartupError

_DESCRIPTION = """\
Show which programs make the requests of the mount at DIR, how many of which kind, the bytes that they
move, and an estimate of what they cost, since it was mounted. Without DIR: the mount that you stand in,
or the only one.

Prices are those of S3 Standard in us-east-1, for requests alone; --prices names a file with your own
(TOML): GET, HEAD, LIST, PUT and DELETE for 1,000 requests, received and sent for a GiB, and the
currency.
"""
_REFRESH_S = 2.0
_MOST_ROWS = 30


def add_parser(commands: Commands) -> None:
    """Add the command to *commands*."""
    parser = add_watching_parser(
        commands,
        "top",
        help="which programs make the requests, and what they cost",
        description=_DESCRIPTION,
        watch="again every two seconds, until Ctrl-C",
    )
    parser.set_defaults(run=run)
    parser.add_argument("--prices", metavar="FILE", help="your own prices, see above")


def run(arguments: argparse.Namespace) -> int:
    """Print the table.

    Raises: StartupError.
    """
    from s3mount.cli.asking import mount_of

    prices = AWS if arguments.prices is None else _prices_in(arguments.prices)
    mount, _ = mount_of(arguments.directory)
    found = (
        ([_process(one) for one in answer["processes"]], answer["uptime_s"])
        for answer in answers(mount, "top", arguments, every_s=_REFRESH_S)
    )
    if arguments.watch and not arguments.json and sys.stdout.isatty():
        _show_live(found, prices)
    else:
        print_each(
            found,
            arguments,
            as_json=lambda one: _as_json(one[0], prices),
            lines=lambda one: lines(one[0], prices, one[1]),
        )
    return int(Exit.OK)


def lines(processes: Sequence[ProcessRequests], prices: Prices, uptime_s: float) -> list[str]:
    """Return the table and the advice, those who cost most first."""
    ordered = sorted(processes, key=lambda one: (-prices.cost(one.counts), one.process))
    heads = ["PROCESS", *(one.value for one in RequestClass), "RECEIVED", "SENT", "FAILED", prices.currency]
    rows = [_row(printable(one.process), one.counts, prices) for one in ordered[:_MOST_ROWS]]
    everything = [count for one in processes for count in one.counts]
    rows.append(_row("all", everything, prices))
    found = table([heads, *rows], right=frozenset(range(1, len(heads))))
    found.append("")
    found.append(f"requests since it was mounted, {duration(uptime_s)} ago")
    return [*found, *map(printable, advice_on(processes))]


def _row(name: str, counts: Sequence[RequestCount], prices: Prices) -> list[str]:
    made = made_by_class(counts)
    return [
        name,
        *(f"{made[one]:,}" for one in RequestClass),
        format_size_short(sum(one.received_bytes for one in counts)),
        format_size_short(sum(one.sent_bytes for one in counts)),
        f"{sum(one.failed for one in counts):,}",
        f"{prices.cost(counts):.4f}",
    ]


def _as_json(processes: Sequence[ProcessRequests], prices: Prices) -> dict[str, Any]:
    return {
        "currency": prices.currency,
        "processes": [{**asdict(one), "cost": round(prices.cost(one.counts), 9)} for one in processes],
        "advice": advice_on(processes),
    }


def _process(found: dict[str, Any]) -> ProcessRequests:
    names = RequestCount.__dataclass_fields__
    return ProcessRequests(
        found["process"],
        [
            RequestCount(**{name: value for name, value in one.items() if name in names})
            for one in found["counts"]
        ],
    )


def _prices_in(path: str) -> Prices:
    """Raises: StartupError."""
    try:
        with open(path, "rb") as file:
            return read_prices(tomllib.load(file))
    except OSError as error:
        cause = f"it cannot be read ({error.strerror})"
    except ValueError as error:
        cause = str(error)
    raise StartupError(f"price list {path}", cause, "see `s3mount top --help`", Exit.CONFIG)


def _show_live(asked: Iterator[tuple[list[ProcessRequests], float]], prices: Prices) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(highlight=False), auto_refresh=False, vertical_overflow="crop") as place:
        for processes, uptime_s in asked:
            place.update(Text("\n".join(lines(processes, prices, uptime_s)), no_wrap=True), refresh=True)
