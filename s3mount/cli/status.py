"""``s3mount status``: how a mount is."""

from __future__ import annotations

import argparse
import json
import sys
import time

from s3mount.cli.parser import Commands, wrapped
from s3mount.core.exits import Exit

_DESCRIPTION = """\
Show how the mount at DIR is: what the bucket does not have yet, requests, cache, memory and disk against \
their bounds, whether the server answers, and the last errors. Without DIR: the mount that you stand in, or \
the only one.

It asks the mount's process and neither the server nor the mount itself, so it answers while both hang.
"""
_REFRESH_S = 1.0
_CLEAR = "\x1b[H\x1b[2J"


def add_parser(commands: Commands) -> None:
    """Add the command to *commands*."""
    parser = commands.add_parser(
        "status",
        help="how a mount is: uploads, cache, memory, errors",
        usage="s3mount status [DIR] [options]",
        description=wrapped(_DESCRIPTION),
        epilog=f"exit codes:\n   0  it answers\n  {Exit.MOUNTPOINT:>2}  there is none, or it does not answer",
    )
    parser.set_defaults(run=run)
    parser.add_argument("directory", metavar="DIR", nargs="?", help="where it is mounted, or a path in it")
    parser.add_argument("--json", action="store_true", help="as one line of JSON, for programs")
    parser.add_argument("--watch", action="store_true", help="again every second, until Ctrl-C or its end")


def run(arguments: argparse.Namespace) -> int:
    """Print the status.

    Raises: StartupError.
    """
    from s3mount.cli.asking import mount_of

    mount, _ = mount_of(arguments.directory)
    while True:
        status = mount.ask("status")["status"]
        if arguments.json:
            print(json.dumps(status), flush=True)
        else:
            _show(status, clear=arguments.watch and sys.stdout.isatty())
        if not arguments.watch:
            return int(Exit.OK)
        time.sleep(_REFRESH_S)


def _show(status: dict[str, object], *, clear: bool) -> None:
    from s3mount.cli import status_text

    if clear:
        print(_CLEAR, end="")
    print("\n".join(status_text.lines(status)), flush=True)
