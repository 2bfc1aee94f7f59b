"""``s3mount status``: how a mount is."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from s3mount.cli.parser import Commands, wrapped
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
    from s3mount.cli import status_text
    from s3mount.cli.asking import mount_of

    mount, _ = mount_of(arguments.directory)

    def asked() -> Iterator[dict[str, Any]]:
        while True:
            yield mount.ask("status")["status"]
            if not arguments.watch:
                return
            time.sleep(_REFRESH_S)

    if not arguments.json and sys.stdout.isatty():
        from s3mount.cli import status_screen

        status_screen.show(asked(), live=arguments.watch)
        return int(Exit.OK)
    for status in asked():
        if arguments.json:
            print(json.dumps(status), flush=True)
        else:
            print("\n".join(status_text.lines(status)), flush=True)
    return int(Exit.OK)
