"""What one configuration file says.

The keys are the options of the table, the values go through its parsers: what is true of ``--ttl`` is true
of ``ttl = "1m"``. Every fault of a file is found, each with its line.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3mount.config.model import parse_source
from s3mount.config.mount_options import Chosen, flag_names
from s3mount.config.options import BY_NAME, Option, unknown_option
from s3mount.config.safe_read import read_safe
from s3mount.config.statements import Statement, SyntaxFault, statements
from s3mount.core.exits import Exit
from s3mount.errors import StartupError

PLACES = ("bucket", "mountpoint")


@dataclass(slots=True)
class ConfigFile:
    """What a file says.

    Attributes:
        source: ``bucket`` of the file: BUCKET or BUCKET/PREFIX.
        mountpoint: absolute.
        lines: of each option and place that it sets, by name.
        faults: all of them; *chosen* has what is right.
    """

    path: Path
    source: str | None = None
    mountpoint: str | None = None
    chosen: Chosen = field(default_factory=Chosen)
    lines: dict[str, int] = field(default_factory=dict)
    faults: list[StartupError] = field(default_factory=list)

    def where(self, name: str) -> str:
        """Return ``FILE:LINE`` of an option."""
        return f"{self.path}:{self.lines[name]}"

    def located(self, fault: StartupError) -> StartupError:
        """Return *fault*, found in the whole configuration, with the line of the option that it names."""
        word = fault.thing.removeprefix("--").partition(" ")[0]
        name = "bucket" if word == "prefix" else word
        if name not in self.lines or self.chosen.origins.get(name, "") != self.where(name):
            return fault
        thing = f"{self.where(name)}: {fault.thing.removeprefix('--')}"
        return StartupError(thing, fault.cause, fault.advice, Exit.CONFIG)


def load(path: Path) -> ConfigFile:
    """Read *path*; what is wrong in it is among its ``faults``.

    Raises: StartupError (it cannot be read, or others can change it).
    """
    text = read_safe(path)
    file = ConfigFile(path)
    for found in statements(text):
        if isinstance(found, SyntaxFault):
            file.faults.append(_fault(file, found.line, "", found.cause, 'write for example ttl = "1m"'))
            continue
        try:
            _take(file, found)
        except StartupError as fault:
            file.faults.append(fault)
    return file


def _take(file: ConfigFile, statement: Statement) -> None:
    name = statement.key.replace("_", "-")
    if name in file.lines:
        cause = f"it is in line {file.lines[name]} already"
        raise _fault(file, statement.line, statement.key, cause, "leave one out")
    option = BY_NAME.get(name)
    if option is None and name not in (*PLACES, *flag_names()):
        raise _unknown(file, statement)
    file.lines[name] = statement.line

    def refuse(cause: str, advice: str) -> StartupError:
        return _fault(file, statement.line, statement.key, cause, advice)

    origin = file.where(name)
    if name in PLACES:
        _take_place(file, name, statement.value, refuse)
        file.chosen.origins[name] = origin
    elif option is None:
        file.chosen.set_flag(name, _switch(statement.value, refuse), origin, refuse)
    else:
        _take_option(file.chosen, option, statement.value, origin, refuse)


Refuse = Callable[[str, str], StartupError]


def _take_place(file: ConfigFile, name: str, value: Any, refuse: Refuse) -> None:
    if not isinstance(value, str) or not value:
        raise refuse("it is no text", f"write for example {example(name)}")
    if name == "bucket":
        try:
            parse_source(value)
        except StartupError as fault:
            raise refuse(fault.cause, fault.advice) from None
        file.source = value
        return
    _refuse_relative(value, refuse)
    file.mountpoint = os.path.expanduser(value)


def _take_option(chosen: Chosen, option: Option, value: Any, origin: str, refuse: Refuse) -> None:
    if option.is_switch:
        chosen.set(option, "yes" if _switch(value, refuse) else "no", option.name, origin=origin)
        return
    if option.bare is not None and isinstance(value, bool):
        if value:
            chosen.set(option, None, option.name, origin=origin)
        else:
            chosen.reset(option, origin=origin)
        return
    text = _text(option, value, refuse)
    if option.is_path:
        _refuse_relative(text, refuse)
    try:
        chosen.set(option, text, option.name, origin=origin)
    except StartupError as fault:
        raise refuse(fault.cause, f"write for example {example(option.name, option)}") from None


def _switch(value: Any, refuse: Refuse) -> bool:
    if not isinstance(value, bool):
        raise refuse("it is neither true nor false", "write true or false, without quotes")
    return value


def _text(option: Option, value: Any, refuse: Refuse) -> str:
    """Return what *value* is as an option's text: numbers only where one writes them without a unit."""
    if isinstance(value, str):
        return value
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if is_number and option.metavar in ("SIZE", "TIME", "N", "USER", "GROUP"):
        return str(value)
    if isinstance(value, float) and option.metavar == "TIME":
        return repr(value)
    raise refuse("its value is of the wrong kind", f"write for example {example(option.name, option)}")


def _refuse_relative(text: str, refuse: Refuse) -> None:
    # Where the command was started from differs each time.
    if not text.startswith(("/", "~")):
        raise refuse(f"{text!r} is no absolute path", "begin it with / or ~/")


_EXAMPLES = {"SIZE": '"64M"', "TIME": '"5s"', "N": "8", "MODE": '"0644"', "USER": "1000", "GROUP": "1000"}


def example(name: str, option: Option | None = None) -> str:
    """Return a line as it could stand in a file; without *option* one of :data:`PLACES`."""
    if option is None:
        return 'bucket = "photos/2024"' if name == "bucket" else 'mountpoint = "/srv/photos"'
    if option.metavar in _EXAMPLES:
        return f"{name} = {_EXAMPLES[option.metavar]}"
    default = option.default_value()
    return f'{name} = "{default if isinstance(default, str) else "…"}"'


def _unknown(file: ConfigFile, statement: Statement) -> StartupError:
    style = "_" if "_" in statement.key else "-"
    known = [name.replace("-", style) for name in (*BY_NAME, *PLACES, *flag_names())]
    error = unknown_option(statement.key, known, in_file=True)
    return _fault(file, statement.line, statement.key, error.cause, error.advice)


def _fault(file: ConfigFile, line: int, key: str, cause: str, advice: str) -> StartupError:
    # A key may be anything that stands in quotes.
    shown = key if key.isprintable() else repr(key)
    thing = f"{file.path}:{line}: {shown}" if key else f"{file.path}:{line}"
    return StartupError(thing, cause, advice, Exit.CONFIG)
