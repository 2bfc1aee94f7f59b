"""``s3mount status``: how a mount is."""

from __future__ import annotations

import argparse
import sys

from s3mount.cli.parser import Commands
from s3mount.cli.watching import add_watching_parser, answers, print_each
from s3mount.core.exits import Exit

_DESCRIPTION = """\
Show how the mount at DIR is: what the bucket does not have yet, requests, cache, memory and disk against \
their bounds, whether the server answers, and the last errors. Without DIR: the mount that you stand in, or \
the only one.

It asks the mount's process and neither the server nor the mount itself, so it answers while both hang.
"""
_REFRESH_S = 1.0


def add_parser(commands: Commands) -> None:
    """Add the command to *commands*."""
    parser = add_watching_parser(
        commands,
        "status",
        help="how a mount is: uploads, cache, memory, errors",
        description=_DESCRIPTION,
        watch="again every second, until Ctrl-C or its end",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the status.

    Raises: StartupError.
    """
    from s3mount.cli import status_text
    from s3mount.cli.asking import mount_of

    mount, _ = mount_of(arguments.directory)
    statuses = (one["status"] for one in answers(mount, "status", arguments, every_s=_REFRESH_S))
    if not arguments.json and sys.stdout.isatty():
        from s3mount.cli import status_screen

        status_screen.show(statuses, live=arguments.watch)
    else:
        print_each(statuses, arguments, as_json=lambda one: one, lines=status_text.lines)
    return int(Exit.OK)
