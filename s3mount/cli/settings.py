"""``s3mount set``: change a mount while it is mounted."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

from s3mount.cli.parser import Commands, wrapped
from s3mount.core.exits import Exit
from s3mount.errors import StartupError

_DESCRIPTION = """\
Change options of a running mount: log-level, ttl, negative-ttl, memory, spool-cap, spool-free, \
upload-limit, download-limit, requests-limit. All that are given are changed, or none. `none` takes a cap \
or a limit away. It lasts until the mount ends, or until its configuration is read again.

--reload does what SIGHUP does: credentials are looked for again (the file of a profile, for example), and \
the configuration that `s3mount mount --config` named is read again. What cannot be changed is named.
"""
_EXAMPLES = """\
examples:
  s3mount set ~/photos ttl=1m log-level=debug
  s3mount set ~/photos memory=256M upload-limit=none
  s3mount set ~/photos --reload
"""
_CODES = f"""\
exit codes:
  {Exit.OK:>2}  done
  {Exit.FAILURE:>2}  the mount refuses
  {Exit.MOUNTPOINT:>2}  there is no s3mount, or it does not answer
"""
_SETTING = re.compile(r"([A-Za-z][A-Za-z_-]*)=(.*)", re.DOTALL)
# Credentials may come from a program or another server.
_ANSWER_S = 120.0


def add_parser(commands: Commands) -> None:
    """Add the command to *commands*."""
    parser = commands.add_parser(
        "set",
        help="change options of a running mount",
        usage="s3mount set [DIR] NAME=VALUE... | --reload",
        description=wrapped(_DESCRIPTION) + "\n\n" + _EXAMPLES,
        epilog=_CODES,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "words",
        metavar="DIR NAME=VALUE",
        nargs="*",
        help="a mount, or a path in one; options and their values",
    )
    parser.add_argument("--reload", action="store_true", help="read credentials and the configuration again")
    parser.add_argument("--json", action="store_true", help="what has changed as one line of JSON")


def run(arguments: argparse.Namespace) -> int:
    """Ask the mount to change.

    Raises: StartupError.
    """
    from s3mount.cli.asking import mount_of

    directory, settings = _sorted_out(arguments.words)
    if bool(settings) is arguments.reload:
        cause = "there is nothing to set" if not settings else "--reload goes without NAME=VALUE"
        raise StartupError("usage", cause, "see `s3mount set --help`", Exit.USAGE)
    mount, _ = mount_of(directory)
    if arguments.reload:
        answer = mount.ask("reload", timeout_s=_ANSWER_S)
    else:
        answer = mount.ask("set", {"values": settings}, timeout_s=_ANSWER_S)
    names = ("changed", "kept", "has_new_credentials")
    if arguments.json:
        print(json.dumps({name: answer[name] for name in names if name in answer}))
    else:
        _show(answer)
    return int(Exit.OK)


def _sorted_out(words: list[str]) -> tuple[str | None, dict[str, str]]:
    """Return the directory and the settings in *words*. Raises: StartupError."""
    settings: dict[str, str] = {}
    directory = None
    for word in words:
        match = _SETTING.fullmatch(word)
        if match is not None:
            settings[match[1]] = match[2]
        elif directory is None:
            directory = word
        else:
            raise StartupError(
                f"argument {word}", "this is no NAME=VALUE", "see `s3mount set --help`", Exit.USAGE
            )
    return directory, settings


def _show(answer: dict[str, Any]) -> None:
    for one in answer["changed"]:
        print(f"s3mount: {one['name']} is {one['now']} from now on, and was {one['was']}")
    for name in answer.get("kept", ()):
        print(f"s3mount: {name} cannot be changed while it is mounted: it stays as it was")
    if answer.get("has_new_credentials"):
        print("s3mount: other credentials were found, and are used from now on")
    elif not answer["changed"] and not answer.get("kept"):
        print("s3mount: nothing has changed")
