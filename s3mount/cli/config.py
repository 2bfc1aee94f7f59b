"""``s3mount config``: configuration files, looked at without mounting."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

from s3mount.cli.mount import CONFIG_HELP, add_mount_options, add_options
from s3mount.cli.parser import Commands, Parser, wrapped
from s3mount.cli.words import plural, printable, table
from s3mount.config import files
from s3mount.config.files import ConfigFile
from s3mount.config.model import complete
from s3mount.config.mount_options import Chosen, flag_names
from s3mount.config.options import GROUPS, OPTIONS, Option
from s3mount.core.exits import Exit
from s3mount.errors import StartupError

_DESCRIPTION = """\
A configuration is a TOML file, ~/.config/s3mount/NAME.toml or /etc/s3mount/NAME.toml, with `bucket`, \
`mountpoint` and every option of `s3mount mount` under its own name. `s3mount mount --config NAME` mounts it.
"""
_CHECK = """\
Look for everything that is wrong in configurations, by file and line. Without arguments it is every .toml \
file in ~/.config/s3mount and /etc/s3mount. Nothing is asked of a server.
"""
_SHOW = """\
Show the value of every option, and where it is from: default, FILE:LINE, -o, or the command line. Give the \
options that `s3mount mount` would be given.
"""
_CODES = f"""\
exit codes:
  {Exit.OK:>2}  nothing is wrong
  {Exit.CONFIG:>2}  something is, or a file cannot be read
"""
_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Shown:
    """An option as it is shown; *value* in bytes and seconds, *text* as people write it."""

    name: str
    value: Any
    text: str
    origin: str


def add_parser(commands: Commands) -> None:
    """Add the command to *commands*."""
    parser = commands.add_parser(
        "config",
        help="check and show configuration files",
        usage="s3mount config check|show …",
        description=wrapped(_DESCRIPTION),
    )
    actions = parser.add_subparsers(
        prog="s3mount config", parser_class=Parser, metavar="ACTION", dest="action", title="actions"
    )
    parser.set_defaults(run=lambda arguments: parser.error("the action is missing"))
    check = actions.add_parser(
        "check",
        help="find what is wrong",
        usage="s3mount config check [NAME|FILE ...]",
        description=wrapped(_CHECK),
        epilog=_CODES,
    )
    check.set_defaults(run=run_check)
    check.add_argument("names", metavar="NAME|FILE", nargs="*", help="configurations [all]")
    show = actions.add_parser(
        "show",
        help="show every option's value, and where it is from",
        usage="s3mount config show [NAME|FILE] [--json] [options of mount]",
        description=wrapped(_SHOW),
        epilog=_CODES,
    )
    show.set_defaults(run=run_show, chosen=None)
    show.add_argument("config", metavar="NAME|FILE", nargs="?", help=CONFIG_HELP)
    show.add_argument("--json", action="store_true", help="one JSON object, for programs")
    add_mount_options(show)
    for title in GROUPS:
        add_options(show, title)


def run_check(arguments: argparse.Namespace) -> int:
    """Print every fault, a line each, on standard error."""
    paths, faults = [], []
    for name in arguments.names or [None]:
        try:
            paths.extend(files.all_files() if name is None else [files.find(name)])
        except StartupError as error:
            faults.append(error)
    for path in paths:
        faults.extend(files.check(path))
    for fault in faults:
        print(f"s3mount: {' '.join(printable(fault).split())}", file=sys.stderr)
    if faults:
        return int(Exit.CONFIG)
    print(f"{plural(len(paths), 'configuration')} checked: nothing is wrong")
    return int(Exit.OK)


def run_show(arguments: argparse.Namespace) -> int:
    """Print every option.

    Raises: StartupError (what would keep `s3mount mount` from taking it).
    """
    chosen: Chosen = arguments.chosen or Chosen()
    name = arguments.config or chosen.file
    file = None if name is None else files.load(files.find(name))
    files.judge(file, chosen)
    shown = list(_shown(file, chosen if file is None else chosen.over(file.chosen)))
    if arguments.json:
        print(
            json.dumps(
                {"version": 1, "file": None if file is None else str(file.path), "options": _rows(shown)}
            )
        )
    else:
        lines = table(
            [("OPTION", "VALUE", "FROM"), *((one.name, printable(one.text), one.origin) for one in shown)]
        )
        print("\n".join(lines))
    return int(Exit.OK)


def _rows(shown: list[Shown]) -> list[dict[str, Any]]:
    rows = []
    for one in shown:
        row = asdict(one)
        row["from"] = row.pop("origin")
        rows.append(row)
    return rows


def _shown(file: ConfigFile | None, chosen: Chosen) -> list[Shown]:
    found: list[Shown] = []
    if file is not None:
        for name, value in zip(files.PLACES, (file.source, file.mountpoint), strict=True):
            if value is not None:
                found.append(Shown(name, value, value, chosen.origins[name]))
    values = complete(chosen.values)
    for option in OPTIONS:
        origin = chosen.origins.get(option.name, _DEFAULT)
        found.append(_shown_option(option, values[option.field], origin))
    passed = chosen.passed
    for name in flag_names():
        if name in chosen.origins or name in passed:
            is_on = name in passed
            found.append(Shown(name, is_on, _yes_no(is_on), chosen.origins.get(name, "always")))
    return found


def _shown_option(option: Option, value: Any, origin: str) -> Shown:
    if option.is_switch:
        is_given = value is option.switch_to
        return Shown(option.name, is_given, _yes_no(is_given), origin)
    text = option.show(value) if value is not None else option.default_text or "none"
    return Shown(option.name, value, text, origin)


def _yes_no(is_on: bool) -> str:
    return "yes" if is_on else "no"
