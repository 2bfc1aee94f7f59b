"""``s3mount spool discard``."""

from __future__ import annotations

import argparse
import sys

from s3mount.cli import say_failure
from s3mount.cli.spool_places import Found, find_places, select
from s3mount.cli.spool_work import Work, described, failed, open_work
from s3mount.core.exits import Exit
from s3mount.core.spool_commands import Refusal
from s3mount.errors import FsError, StartupError


def run(arguments: argparse.Namespace) -> int:
    """Delete files from the spool, each after a question.

    Returns: Exit.OK if all that were named are gone, else the code of the last that is not.
    Raises: StartupError.
    """
    chosen = select(find_places(arguments.where, arguments.spool_dir), arguments.ids)
    if not arguments.yes and not sys.stdin.isatty():
        raise StartupError(
            "discard", "there is no terminal to ask at", "give --yes if you are sure", Exit.USAGE
        )
    code = int(Exit.OK)
    for place in dict.fromkeys(place for place, _ in chosen):
        with open_work(place) as work:
            for found in (found for at, found in chosen if at is place):
                try:
                    is_gone = _discarded(work, found, is_sure=arguments.yes)
                except StartupError as error:
                    say_failure(error)
                    code = error.exit_code
                else:
                    code = code if is_gone else int(Exit.NOT_DRAINED)
    return code


def _discarded(work: Work, found: Found, *, is_sure: bool) -> bool:
    """Return whether the file is gone now. Raises: StartupError."""
    with work.claimed(work.find(found)) as claimed:
        title = described(claimed.record)
        if not is_sure and not _confirmed(title):
            print(f"s3mount: {title} stays in the spool")
            return False
        try:
            claimed.delete()
        except FsError as error:
            raise failed(claimed.record, Refusal(str(error), "see the spool's disk")) from error
    print(f"s3mount: {title} is deleted")
    return True


def _confirmed(title: str) -> bool:
    try:
        return input(f"Delete {title}? No other place has these bytes. [y/N] ").strip().lower() in (
            "y",
            "yes",
        )
    except EOFError:
        print()
        return False
