"""Configuration files: ``/etc/s3mount/NAME.toml`` and ``~/.config/s3mount/NAME.toml``.

The keys are the options of the table, the values go through its parsers: what is true of ``--ttl`` is true
of ``ttl = "1m"``. Every fault of a file is found, each with its line.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3mount.config.machine import config_dirs
from s3mount.config.model import ImpossibleConfig, MountConfig, make_config, parse_source
from s3mount.config.mount_options import Chosen, flag_names
from s3mount.config.options import BY_NAME, Option, unknown_option
from s3mount.config.statements import Statement, SyntaxFault, statements
from s3mount.core.exits import Exit
from s3mount.errors import StartupError

SUFFIX = ".toml"
MOST_BYTES = 256 * 1024
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")
# Stand in for what a file leaves to the command line, so that the rest can be judged.
_ANY_BUCKET, _ANY_DIRECTORY = "any-bucket", "/"
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


@dataclass(frozen=True, slots=True)
class Reread:
    """A configuration that was read again.

    Attributes:
        said: the names of the options that it or the command line sets.
        moved: ``bucket`` and ``mountpoint``, where the file has another one.
    """

    config: MountConfig
    said: frozenset[str]
    moved: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """A mount's file and command line, which can be read again while it is mounted."""

    file: ConfigFile
    chosen: Chosen
    config: MountConfig

    @property
    def said(self) -> frozenset[str]:
        """The names of the options that the file or the command line set."""
        return frozenset(self.chosen.over(self.file.chosen).origins)

    def read_again(self) -> Reread:
        """Read the file once more; the command line still overrules it.

        Raises: StartupError (it cannot be read, or has faults).
        """
        file = load(self.file.path)
        config = configure(file, self.chosen, self.config.source, self.config.mountpoint)
        before, now = (self.file.source, self.file.mountpoint), (file.source, file.mountpoint)
        moved = [
            name
            for name, was, is_now in zip(PLACES, before, now, strict=True)
            if was != is_now and name not in self.chosen.origins
        ]
        return Reread(config, frozenset(self.chosen.over(file.chosen).origins), tuple(moved))


def find(name: str) -> Path:
    """Return the file that ``--config NAME`` means; what has a slash or ends in .toml is a path.

    Raises: StartupError (there is none).
    """
    if "/" in name or name.endswith(SUFFIX):
        return Path(os.path.abspath(os.path.expanduser(name)))
    if not _NAME.fullmatch(name):
        raise StartupError(
            f"configuration {name!r}",
            "this is no name of a configuration",
            "write NAME for ~/.config/s3mount/NAME.toml or /etc/s3mount/NAME.toml, or a path",
            Exit.CONFIG,
        )
    candidates = [directory / f"{name}{SUFFIX}" for directory in config_dirs()]
    for candidate in candidates:
        if os.path.lexists(candidate):
            return candidate
    known = {path.stem for path in all_files()}
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    raise StartupError(
        f"configuration {name}",
        f"there is no {' and no '.join(map(str, candidates))}",
        f"did you mean {near[0]}?" if near else "write one, or give the path of another file",
        Exit.CONFIG,
    )


def all_files() -> list[Path]:
    """Return every configuration of this user and of the machine, a user's own first."""
    found: list[Path] = []
    for directory in config_dirs():
        try:
            found.extend(sorted(directory.glob(f"*{SUFFIX}")))
        except OSError:
            continue
    return found


def load(path: Path) -> ConfigFile:
    """Read *path*; what is wrong in it is among its ``faults``.

    Raises: StartupError (it cannot be read, or others can change it).
    """
    text = _read(path)
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


def check(path: Path) -> list[StartupError]:
    """Return every fault of the file, those of options that do not fit each other included."""
    try:
        file = load(path)
    except StartupError as fault:
        return [fault]
    try:
        make_config(
            file.source or _ANY_BUCKET,
            file.mountpoint or _ANY_DIRECTORY,
            file.chosen.values,
            tuple(file.chosen.passed),
        )
    except ImpossibleConfig as impossible:
        return [*file.faults, *map(file.located, impossible.faults)]
    except StartupError as fault:
        return [*file.faults, file.located(fault)]
    return file.faults


def judge(file: ConfigFile | None, chosen: Chosen) -> None:
    """Find out whether *file* and, over it, the command line could be mounted, wherever that may be.

    Raises: StartupError.
    """
    source = file.source if file is not None else None
    directory = file.mountpoint if file is not None else None
    configure(file, chosen, source or _ANY_BUCKET, directory or _ANY_DIRECTORY)


def configure(file: ConfigFile | None, chosen: Chosen, source: str, mountpoint: str) -> MountConfig:
    """Return the mount that *file* and, over it, the command line describe.

    Raises: StartupError: the first of the file's faults, or what does not fit.
    """
    if file is not None and file.faults:
        raise first_of(file)
    both = chosen if file is None else chosen.over(file.chosen)
    try:
        return make_config(source, mountpoint, both.values, tuple(both.passed))
    except StartupError as fault:
        raise fault if file is None else _told_over(file, both, fault) from None


def _told_over(file: ConfigFile, both: Chosen, fault: StartupError) -> StartupError:
    """Return *fault* with the file's line, unless the command line has overruled that line."""
    return ConfigFile(file.path, chosen=both, lines=file.lines).located(fault)


def first_of(file: ConfigFile) -> StartupError:
    """Return the first fault of *file*, saying how many more there are."""
    first, others = file.faults[0], len(file.faults) - 1
    if not others:
        return first
    advice = f"{first.advice}; `s3mount config check` shows {others} more"
    return StartupError(first.thing, first.cause, advice, first.exit_code)


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


def _read(path: Path) -> str:
    """Return the file's text. Raises: StartupError."""
    thing = f"configuration {path}"
    try:
        with open(path, "rb") as opened:
            _refuse_unsafe(thing, os.fstat(opened.fileno()), f"chmod go-w {path}", f"chown root {path}")
            _refuse_unsafe_directory(path)
            content = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise StartupError(
            thing, f"it cannot be read ({error.strerror})", "see that it is there and yours", Exit.CONFIG
        ) from None
    if len(content) > MOST_BYTES:
        raise StartupError(thing, "it is too large for a configuration", "name another", Exit.CONFIG)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise StartupError(thing, "it is no UTF-8", "save it as UTF-8", Exit.CONFIG) from None


def _refuse_unsafe_directory(path: Path) -> None:
    directory = path.resolve().parent
    found = directory.stat()
    if not found.st_mode & stat.S_ISVTX:
        _refuse_unsafe(f"configuration directory {directory}", found, f"chmod go-w {directory}", "")


def _refuse_unsafe(thing: str, found: os.stat_result, mode_advice: str, owner_advice: str) -> None:
    """Refuse what other users can change: it says which keys are sent to which server.

    An ordinary user's own group may: it is theirs alone where umask is 0002. root's may not, but for group 0.
    """
    is_root = os.geteuid() == 0
    others = stat.S_IWOTH | (stat.S_IWGRP if is_root and found.st_gid != 0 else 0)
    if found.st_mode & others:
        raise StartupError(thing, "other users can write to it", mode_advice, Exit.CONFIG)
    if owner_advice and found.st_uid not in (0, os.geteuid()):
        raise StartupError(thing, "it belongs to another user", owner_advice, Exit.CONFIG)
