"""Commands that show a mount's answer, once or again and again, for people or for programs."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from s3mount.cli.asking import Running
from s3mount.cli.parser import Commands, Parser, wrapped
from s3mount.core.exits import Exit

T = TypeVar("T")


def add_watching_parser(commands: Commands, name: str, *, help: str, description: str, watch: str) -> Parser:
    """Add the command *name*, of a mount that is found by DIR, with --json and --watch.

    Args:
        watch: what --watch does, in words.
    """
    parser = commands.add_parser(
        name,
        help=help,
        usage=f"s3mount {name} [DIR] [options]",
        description=wrapped(description),
        epilog=f"exit codes:\n   0  it answers\n  {Exit.MOUNTPOINT:>2}  there is none, or it does not answer",
    )
    parser.add_argument("directory", metavar="DIR", nargs="?", help="where it is mounted, or a path in it")
    parser.add_argument("--json", action="store_true", help="as one line of JSON, for programs")
    parser.add_argument("--watch", action="store_true", help=watch)
    return parser


def answers(
    mount: Running, command: str, arguments: argparse.Namespace, *, every_s: float
) -> Iterator[dict[str, Any]]:
    """Yield what *mount* answers to *command*, once, or with --watch every *every_s* seconds.

    Raises: StartupError (it does not answer, or not any more).
    """
    while True:
        yield mount.ask(command)
        if not arguments.watch:
            return
        time.sleep(every_s)


def print_each(
    found: Iterable[T],
    arguments: argparse.Namespace,
    *,
    as_json: Callable[[T], object],
    lines: Callable[[T], Iterable[str]],
) -> None:
    """Print each of *found* as it comes: with --json as a line, else as *lines*."""
    for one in found:
        print(json.dumps(as_json(one)) if arguments.json else "\n".join(lines(one)), flush=True)
