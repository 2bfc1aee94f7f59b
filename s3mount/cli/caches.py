"""``s3mount refresh`` and ``s3mount evict``: forget what is known of names, and the bytes that are cached."""

from __future__ import annotations

import argparse

from s3mount.cli.parser import Commands, wrapped
from s3mount.core.exits import Exit

_REFRESH = """\
Let the mount ask the server again about PATH and everything below it: names, sizes, times and modes,
whatever --ttl says. What another host changed shows at the next look. Nothing is asked before.
"""
_EVICT = """\
Drop the blocks of PATH, and of every file below it, from the mount's memory. The next reader fetches them
again.
"""
_CODES = f"exit codes:\n   0  done\n  {Exit.MOUNTPOINT:>2}  there is no s3mount, or it does not answer"
# A million names take a while.
_ANSWER_S = 600.0


def add_parsers(commands: Commands) -> None:
    """Add both commands to *commands*."""
    for name, text, description in (
        ("refresh", "see now what others changed", _REFRESH),
        ("evict", "drop cached blocks", _EVICT),
    ):
        parser = commands.add_parser(
            name,
            help=text,
            usage=f"s3mount {name} [PATH]",
            description=wrapped(description),
            epilog=_CODES,
        )
        parser.set_defaults(run=run, command=name)
        parser.add_argument(
            "path", metavar="PATH", nargs="?", help="a file or directory in a mount, or a mount"
        )


def run(arguments: argparse.Namespace) -> int:
    """Ask the mount.

    Raises: StartupError.
    """
    from s3mount.cli.asking import mount_of

    mount, path = mount_of(arguments.path)
    mount.ask(arguments.command, {"path": path}, timeout_s=_ANSWER_S)
    return int(Exit.OK)
