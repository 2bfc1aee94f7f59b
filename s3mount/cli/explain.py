"""``s3mount explain``: what went wrong with a file, in the server's own words, and what to do."""

from __future__ import annotations

import argparse
import errno
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from s3mount.cli.parser import Commands, wrapped
from s3mount.core.exits import Exit
from s3mount.errors import StartupError

_DESCRIPTION = """\
Show the last errors that programs have met at PATH and below it, the newest first: the operation, what the
server said and the id by which its log knows the request, and what to do. With the name of an error (EIO,
EACCES) instead: every place that had it; without anything: all, of the mount that you stand in or the only
one.

A mount remembers its last 256 errors. What is ordinary, as that a file is not there, is none.
"""
_ERRNO = re.compile(r"E[A-Z0-9]+")


def add_parser(commands: Commands) -> None:
    """Add the command to *commands*."""
    parser = commands.add_parser(
        "explain",
        help="the last errors at a path, and what to do about them",
        usage="s3mount explain [PATH | ERRNO] [options]",
        description=wrapped(_DESCRIPTION),
        epilog="exit codes:\n   0  whether there were errors or not\n"
        f"  {Exit.MOUNTPOINT:>2}  there is no s3mount, or it does not answer",
    )
    parser.set_defaults(run=run)
    parser.add_argument("subject", metavar="PATH | ERRNO", nargs="?", help="./EIO is a file of that name")
    parser.add_argument("--of", metavar="DIR", help="with ERRNO: which mount")
    parser.add_argument("--json", action="store_true", help="as one line of JSON, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print the errors.

    Raises: StartupError.
    """
    from s3mount.cli.asking import mount_of

    subject = arguments.subject
    if subject is not None and _ERRNO.fullmatch(subject):
        mount, _ = mount_of(arguments.of)
        answer = mount.ask("explain", {"errno": _canonical(subject)})
    else:
        mount, path = mount_of(subject)
        answer = mount.ask("explain", {"path": path})
    if arguments.json:
        print(json.dumps({"errors": answer["errors"], "uploads": answer["uploads"]}))
    else:
        print("\n".join(_lines(answer)))
    return int(Exit.OK)


def _canonical(name: str) -> str:
    """Return the name that Python has for an errno of several names (EAGAIN, EWOULDBLOCK).

    Raises: StartupError.
    """
    number = getattr(errno, name, None)
    if number is None:
        raise StartupError(
            f"error {name}", "there is no such error", f"a file of that name is ./{name}", Exit.USAGE
        )
    return errno.errorcode[number]


def _lines(answer: Mapping[str, Any]) -> Iterator[str]:
    from s3mount.cli.status_text import upload_state
    from s3mount.cli.words import printable

    for upload in answer["uploads"]:
        yield f"{printable(upload['path'])} is not in the bucket: {upload_state(upload)}"
    if not answer["errors"]:
        yield "no errors are remembered"
    for error in answer["errors"]:
        yield from _error(error)


def _error(error: Mapping[str, Any]) -> Iterator[str]:
    from s3mount.cli.words import moment, printable

    times = "" if error["count"] == 1 else f", {error['count']} times"
    yield f"{moment(error['at_s'])}  {error['operation']} {printable(error['path'])}: {error['error']}{times}"
    if error["request"] is None:
        yield f"    {printable(error['message'])}"
    else:
        code = f" {printable(error['code'])}" if error["code"] else ""
        said = f": {printable(error['said'])}" if error["said"] else ""
        yield f"    {error['request']} {printable(error['key'])}: HTTP {error['http_status']}{code}{said}"
        if error["request_id"]:
            yield f"    request {printable(error['request_id'])}"
    yield f"    {error['advice']}"
