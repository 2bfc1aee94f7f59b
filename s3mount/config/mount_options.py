"""``-o name,name=value,…``: the same options, and those that mount(8) passes to everything."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from s3mount.config.options import BY_NAME, Option, unknown_option
from s3mount.core.exits import Exit
from s3mount.errors import StartupError

COMMAND_LINE, MOUNT_OPTION = "command line", "-o"
"""Origins of a value."""
# Handed on to the kernel.
_PASSED = frozenset({"noexec", "noatime", "nodiratime", "nosuid", "nodev"})
_ALWAYS = frozenset({"nosuid", "nodev"})
# The opposite of a passed one.
_UNDO = {"exec": "noexec", "atime": "noatime", "diratime": "nodiratime"}
# For mount(8), systemd and whoever reads fstab; nothing for the mount itself.
_IGNORED = frozenset(
    {"_netdev", "async", "auto", "defaults", "fail", "group", "loud", "nofail", "noauto", "nogroup"}
    | {"noiversion", "nomand", "noowner", "nouser", "nousers", "owner", "relatime", "silent", "user", "users"}
    | {"nolazytime", "norelatime", "nostrictatime", "symfollow"}
)
_IGNORED_PREFIXES = ("x-", "X-", "comment=", "user=", "uhelper=", "helper=")
_PRIVILEGES = "refused, since whoever can write to the bucket could then gain privileges here"
_AT_CLOSE = "every close already waits for the bucket, and a write alone is not an object"
_NO_ATIME = "times of access are not kept"
_NO_LABELS = "the files of a bucket have no security labels"
# What mount(8) knows and this file system cannot give: taken in silence it would be believed.
_REFUSED = {
    "suid": (_PRIVILEGES, "leave it out"),
    "dev": (_PRIVILEGES, "leave it out"),
    "remount": ("options are changed otherwise", "s3mount set changes some; umount, and mount again"),
    "sync": (_AT_CLOSE, "leave it out"),
    "dirsync": (_AT_CLOSE, "leave it out"),
    "strictatime": (_NO_ATIME, "leave it out"),
    "lazytime": (_NO_ATIME, "leave it out"),
    "iversion": ("files have no version counter", "leave it out"),
    "mand": ("there are no mandatory locks", "leave it out"),
    "nosymfollow": ("FUSE cannot have links that lead nowhere", "leave it out"),
    "context": (_NO_LABELS, "leave it out"),
    "fscontext": (_NO_LABELS, "leave it out"),
    "defcontext": (_NO_LABELS, "leave it out"),
    "rootcontext": (_NO_LABELS, "leave it out"),
    "loop": ("a bucket is no image file", "leave it out"),
    "offset": ("a bucket is no image file", "leave it out"),
    "sizelimit": ("a bucket is no image file", "leave it out"),
}
_ALIASES = {"ro": ("read-only", True), "rw": ("read-only", False)}
_WORDS = {
    "yes": True,
    "true": True,
    "on": True,
    "1": True,
    "no": False,
    "false": False,
    "off": False,
    "0": False,
}


@dataclass(slots=True)
class Chosen:
    """What the user chose: values by field of ``MountConfig``, later ones over earlier ones.

    Attributes:
        flags: those of mount(2), and whether they are on.
        origins: from where the values are, by name of the option or flag.
        file: the configuration that ``--config`` or ``-o config=`` names.
    """

    values: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, bool] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    file: str | None = None

    @property
    def passed(self) -> list[str]:
        """The flags to hand on to the kernel."""
        flags = {"nosuid": True, "nodev": True} | self.flags
        return [name for name, is_on in flags.items() if is_on]

    def over(self, base: Chosen) -> Chosen:
        """Return *base*, overruled by this."""
        return Chosen(
            values=base.values | self.values,
            flags=base.flags | self.flags,
            origins=base.origins | self.origins,
            file=self.file or base.file,
        )

    def add(self, text: str) -> None:
        """Take in one ``-o`` argument.

        Raises: StartupError (an unknown name, a value that cannot be, or an option that is refused).
        """
        for item in split_items(text):
            self._add_item(item)

    def set(self, option: Option, text: str | None, written: str, *, origin: str = COMMAND_LINE) -> None:
        """Set *option* to *text*, None for a switch without a value; *written* names it in errors.

        Raises: StartupError.
        """
        self.values[option.field] = _value(option, text, written)
        self.origins[option.name] = origin

    def reset(self, option: Option, *, origin: str) -> None:
        """Set *option* to its default, for a reader who wants to see it said."""
        self.values[option.field] = option.default_value()
        self.origins[option.name] = origin

    def set_flag(
        self, name: str, is_on: bool, origin: str, refuse: Callable[[str, str], StartupError]
    ) -> None:
        """Set one of :func:`flag_names`. Raises: what *refuse* makes of a cause and an advice."""
        if name in _ALIASES:
            target, chosen = _ALIASES[name]
            self.values[BY_NAME[target].field] = chosen is is_on
            self.origins[target] = origin
        elif not is_on and name in _ALWAYS:
            raise refuse(_PRIVILEGES, "leave it out")
        else:
            self.flags[name] = is_on
            self.origins[name] = origin

    def _add_item(self, item: str) -> None:
        name, equals, text = item.partition("=")
        value = text if equals else None
        if item in _PASSED:
            self._set_flag(item, True)
        elif item in _UNDO:
            self._set_flag(_UNDO[item], False)
        elif name in _REFUSED:
            raise StartupError(f"option -o {name}", *_REFUSED[name], Exit.USAGE)
        elif name in _ALIASES and value is None:
            target, chosen = _ALIASES[name]
            self.values[BY_NAME[target].field] = chosen
            self.origins[target] = MOUNT_OPTION
        elif name == "config":
            if not value:
                raise StartupError(
                    "option -o config", "its value is missing", "write config=NAME", Exit.USAGE
                )
            self.file = value
        elif (option := BY_NAME.get(name.replace("_", "-"))) is not None:
            self.set(option, value, f"-o {name}", origin=MOUNT_OPTION)
        elif item not in _IGNORED and not item.startswith(_IGNORED_PREFIXES):
            raise unknown_option(name, _all_names())

    def _set_flag(self, name: str, is_on: bool) -> None:
        self.flags.pop(name, None)  # the last one written is the last one handed on
        self.flags[name] = is_on
        self.origins[name] = MOUNT_OPTION


def flag_names() -> list[str]:
    """Return what a configuration file may have beside the options of the table, as true or false."""
    return sorted(_PASSED | _ALIASES.keys())


def split_items(text: str) -> Iterable[str]:
    r"""Yield the comma-separated items of *text*; ``\,`` is a comma within a value."""
    for item in re.split(r"(?<!\\),", text):
        if stripped := item.replace("\\,", ",").strip():
            yield stripped


def _value(option: Option, text: str | None, written: str) -> Any:
    if option.parse is None:
        if text is None:
            return option.switch_to
        if text.lower() not in _WORDS:
            raise StartupError(
                f"option {written}", f"{text!r} is neither yes nor no", "leave the value out", Exit.USAGE
            )
        return option.switch_to == _WORDS[text.lower()]
    text = option.bare if text is None else text
    if text is None:
        raise StartupError(
            f"option {written}",
            "its value is missing",
            f"write {written}={option.metavar}",
            Exit.USAGE,
        )
    try:
        return option.parse(text)
    except ValueError as error:
        raise StartupError(
            f"option {written}", str(error), "`s3mount mount --help` explains it", Exit.USAGE
        ) from None


def _all_names() -> list[str]:
    """Every name that ``-o`` knows, as fstab usually spells it."""
    names = [name.replace("-", "_") for name in BY_NAME]
    return [*names, "config", *_ALIASES, *sorted(_PASSED | _IGNORED | _UNDO.keys())]
