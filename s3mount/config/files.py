"""Configuration files, ``/etc/s3mount/NAME.toml`` and ``~/.config/s3mount/NAME.toml``: found and judged.

What one of them says is in :mod:`s3mount.config.config_file`.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from s3mount.config.config_file import PLACES, ConfigFile, example, load
from s3mount.config.machine import config_dirs
from s3mount.config.model import ImpossibleConfig, MountConfig, make_config
from s3mount.config.mount_options import Chosen
from s3mount.core.exits import Exit
from s3mount.errors import StartupError

__all__ = [
    "PLACES",
    "ConfigFile",
    "ConfigSource",
    "Reread",
    "all_files",
    "check",
    "configure",
    "example",
    "find",
    "first_of",
    "judge",
    "load",
]

SUFFIX = ".toml"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")
# Stand in for what a file leaves to the command line, so that the rest can be judged.
_ANY_BUCKET, _ANY_DIRECTORY = "any-bucket", "/"


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
