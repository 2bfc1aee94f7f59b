"""``s3mount doctor``: what works, what does not, and what to change."""

from __future__ import annotations

import argparse
import json

from s3mount.cli.findings import Finding, Verdict, lines
from s3mount.cli.parser import Commands, wrapped
from s3mount.config.options import SPEED, STORE
from s3mount.core.exits import Exit

_DESCRIPTION = """\
Find out what this machine and, with BUCKET, a server can do for a mount: kernel, FUSE and limits;
whether the bucket can be reached, what its keys permit, which conditions of writes the server honours,
its round trip and throughput, and whether the clocks agree. What could be better comes with what to
change.

With BUCKET it writes 32 MiB into scratch objects below the prefix and takes them away again; with keys
that may not write it only looks.
"""


def add_parser(commands: Commands) -> None:
    """Add the command to *commands*."""
    from s3mount.cli.mount import add_options

    parser = commands.add_parser(
        "doctor",
        help="what works here and with a server, and what to change",
        usage="s3mount doctor [BUCKET[/PREFIX]] [options]",
        description=wrapped(_DESCRIPTION),
        epilog=f"exit codes:\n   0  a mount would work\n   {int(Exit.FAILURE)}  something does not",
    )
    parser.set_defaults(run=run, chosen=None)
    parser.add_argument("source", metavar="BUCKET[/PREFIX]", nargs="?", help="or s3://BUCKET/PREFIX")
    parser.add_argument("--json", action="store_true", help="as one line of JSON, for programs")
    for title in (STORE, SPEED):
        add_options(parser, title)


def run(arguments: argparse.Namespace) -> int:
    """Look, and print the table.

    Raises: StartupError (the command line).
    """
    from s3mount.cli.doctor_machine import machine_findings

    found = list(machine_findings())
    if arguments.source is not None:
        found += _of_store(arguments)
    if arguments.json:
        shown = [
            {"verdict": one.verdict.value, "thing": one.thing, "result": one.result, "advice": one.advice}
            for one in found
        ]
        print(json.dumps({"findings": shown}))
    else:
        print("\n".join(lines(found)))
    return int(Exit.FAILURE if any(one.verdict is Verdict.BAD for one in found) else Exit.OK)


def _of_store(arguments: argparse.Namespace) -> list[Finding]:
    import logging

    import trio

    from s3mount.cli.doctor_store import store_findings
    from s3mount.config import make_config
    from s3mount.config.mount_options import Chosen

    # What would be a line in a mount's log is a line of the table here.
    logging.disable(logging.WARNING)
    chosen: Chosen = arguments.chosen or Chosen()
    config = make_config(arguments.source, "/", chosen.values)

    return trio.run(store_findings, config)
