"""Names in directories and keys in the bucket: one documented, reversible mapping.

A key is a path: its components are what stands between the slashes, and nearly every component is its
own name. The few that Linux cannot show are spelled with the reserved mark ``%s3=``:

``%s3=XX``      one byte of the component, two upper-case hex digits (of ``.``, ``..``, ``.s3mount``, NUL, a
                literal mark)
``%s3=empty``   the empty component, as in ``a//b``
``%s3=file``    at the end: the object ``a`` where the prefix ``a/`` exists too; the directory keeps ``a``
``%s3=more``    at the end: a pseudo-directory that holds the rest of a component too long for one name

Each component has exactly one spelling in its place, so every key has exactly one path.
docs/names.md shows examples.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from s3mount.errors import IllegalName, InvalidArgument, NameTooLong, NotFound

NAME_MAX = 255
"""Bytes in a name: what Linux and the programs on it take."""

KEY_MAX = 1024
"""Bytes in a key: what S3 takes."""

MARK = "%s3="
OWN_NAME = ".s3mount"
"""At the root of a mount it leads to files about the mount, so a component of this name is spelled."""

_EMPTY = "%s3=empty"
_FILE = "%s3=file"
_MORE = "%s3=more"
_HEAD_MAX = NAME_MAX - len(_MORE)
_SPELLED = frozenset({"", ".", "..", OWN_NAME})
_ESCAPE = re.compile("%s3=(00|25|2E)")


@dataclass(frozen=True, slots=True)
class Location:
    """A directory, by the place where the keys of its entries begin.

    ``prefix`` is ``""`` for a whole bucket, else it ends in a slash; in a ``%s3=more`` pseudo-directory
    (``partial``) it stops inside a component instead.
    """

    prefix: str
    partial: bool = False

    @property
    def marker_key(self) -> str | None:
        """The key of the object that stands for the directory itself; None where there can be none."""
        return None if self.partial else self.prefix or None

    @property
    def begun(self) -> str:
        """The part of a component that a pseudo-directory's entries continue; ``""`` elsewhere."""
        return self.prefix[self.prefix.rfind("/") + 1 :] if self.partial else ""


@dataclass(frozen=True, slots=True)
class Target:
    """What a name in a directory can stand for. Which of the two exists, the store knows.

    Where both exist, plain names stand for the directory. ``beside_prefix``: the name ends in
    ``%s3=file`` and stands for the file only while the prefix exists too. ``is_marker``: the file is
    the directory's own marker, which shows as a file only while it holds bytes.
    """

    name: bytes
    file_key: str | None
    directory: Location | None
    beside_prefix: bool = False
    is_marker: bool = False

    def new_file_key(self) -> str:
        """Return the key of a file to be created under this name.

        Raises: InvalidArgument where the name can never be a file.
        """
        if self.file_key is None:
            raise InvalidArgument(f"{self.name!r} is reserved for a directory")
        return self.file_key

    def new_directory(self) -> Location:
        """Return the location of a directory to be created under this name.

        Raises: InvalidArgument where the name can never be made a directory, NameTooLong where its
        marker's key would pass KEY_MAX.
        """
        if self.beside_prefix or (self.directory is not None and self.directory.partial):
            raise InvalidArgument(f"{self.name!r} is a reserved spelling")
        if self.directory is None:
            raise NameTooLong(f"the key of directory {self.name!r} is over {KEY_MAX} bytes")
        return self.directory


class Shown(NamedTuple):
    """How a component shows in a location: ``more`` is set where the name is a pseudo-directory."""

    name: bytes
    more: Location | None


def plain_name(component: str) -> bytes | None:
    """Return the name of a component that needs no mapping, None for one that does.

    Raises: UnicodeEncodeError for surrogates.
    """
    name = component.encode()
    if MARK in component or "\0" in component or len(name) > NAME_MAX or component in _SPELLED:
        return None
    return name


def shown_name(location: Location, component: str, *, beside_prefix: bool = False) -> Shown | None:
    """Return how a whole *component* shows in *location*.

    A pseudo-directory shows only components that begin with its part and are too long for one name;
    for others the answer is None. *beside_prefix*: the component is an object whose prefix exists too.
    """
    begun = location.begun
    if not component.startswith(begun):
        return None
    for start, stop, name in _spell(component, _FILE if beside_prefix else ""):
        if start == len(begun):
            if stop == len(component):
                return Shown(name.encode(), None)
            prefix = location.prefix[: len(location.prefix) - len(begun)] + component[:stop]
            return Shown(name.encode(), Location(prefix, partial=True))
    return None


def resolve(location: Location, name: bytes) -> Target:
    """Return what *name* in *location* can stand for.

    Raises:
        NameTooLong: the name is over NAME_MAX or the file's key over KEY_MAX bytes.
        IllegalName: the name is not UTF-8.
        NotFound: the name is not the spelling of anything, so nothing is created under it either.
    """
    if len(name) > NAME_MAX:
        raise NameTooLong(f"name of {len(name)} bytes")
    try:
        text = name.decode()
    except UnicodeDecodeError as exc:
        raise IllegalName(f"name {name!r} is not UTF-8") from exc
    if "/" in text:
        raise NotFound(f"{name!r} is not a name")
    if not location.partial and plain_name(text) is not None:
        return _target(location, name, text, beside_prefix=False)
    if text.endswith(_MORE):
        return _resolve_more(location, name, text)
    beside_prefix = text.endswith(_FILE)
    rest = _unescape(text.removesuffix(_FILE))
    if shown_name(location, location.begun + rest, beside_prefix=beside_prefix) != (name, None):
        raise NotFound(f"{name!r} is not the spelling of a key")
    return _target(location, name, rest, beside_prefix=beside_prefix)


def file_path(root: Location, key: str, *, beside_prefix: bool = False) -> tuple[bytes, ...]:
    """Return the names that lead from *root* to the object *key*, shown as a file.

    Raises: ValueError where *key* is not below *root*, UnicodeEncodeError for surrogates.
    """
    return _path(root, key, _FILE if beside_prefix else "")


def directory_path(root: Location, prefix: str) -> tuple[bytes, ...]:
    """Return the names that lead from *root* to the directory *prefix*, a key ending in a slash.

    Raises: ValueError where *prefix* is not below *root*, UnicodeEncodeError for surrogates.
    """
    return () if prefix == root.prefix else _path(root, prefix.removesuffix("/"), "")


def mount_prefix(text: str) -> str:
    """Return the key prefix of a mount of ``BUCKET/text``: *text* with a slash at its end, or ``""``.

    Taken literally: a leading or double slash is part of the keys.

    Raises: IllegalName, NameTooLong.
    """
    prefix = text if text == "" or text.endswith("/") else text + "/"
    try:
        size = len(prefix.encode())
    except UnicodeEncodeError as exc:
        raise IllegalName(f"prefix {text!r} is not UTF-8") from exc
    if size > KEY_MAX:
        raise NameTooLong(f"prefix of {size} bytes")
    return prefix


def _path(root: Location, key: str, suffix: str) -> tuple[bytes, ...]:
    if root.partial or not key.startswith(root.prefix):
        raise ValueError(f"{key!r} is not below {root.prefix!r}")
    *directories, last = key[len(root.prefix) :].split("/")
    names = [name for component in directories for _, _, name in _spell(component, "")]
    names += [name for _, _, name in _spell(last, suffix)]
    return tuple(name.encode() for name in names)


def _target(location: Location, name: bytes, rest: str, *, beside_prefix: bool) -> Target:
    key = location.prefix + rest
    if _is_over(key, KEY_MAX):
        raise NameTooLong(f"the key of {name!r} is over {KEY_MAX} bytes")
    prefix = key + "/"
    directory = None if beside_prefix or _is_over(prefix, KEY_MAX) else Location(prefix)
    return Target(name, key or None, directory, beside_prefix, is_marker=rest == "")


def _resolve_more(location: Location, name: bytes, text: str) -> Target:
    head = _unescape(text.removesuffix(_MORE))
    # A head is one only if some component is cut just there, and NUL is the character that takes most room.
    shown = shown_name(location, location.begun + head + "\0" + "x" * NAME_MAX)
    if shown is None or shown.name != name:
        raise NotFound(f"{name!r} is not the spelling of a key")
    if _is_over(location.prefix + head, KEY_MAX):
        raise NameTooLong(f"the keys below {name!r} are over {KEY_MAX} bytes")
    return Target(name, None, shown.more)


def _is_over(key: str, limit: int) -> bool:
    # A character takes at most four bytes, so short keys need not be encoded to be known short.
    return len(key) * 4 > limit and len(key.encode()) > limit


def _spell(component: str, suffix: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, stop, name) for each name that it takes to show *component* with *suffix*."""
    start = 0
    while len((name := _escape(component[start:]) + suffix).encode()) > NAME_MAX:
        stop = start + _head_size(component[start:])
        yield start, stop, _escape(component[start:stop]) + _MORE
        start = stop
    yield start, len(component), name


def _head_size(text: str) -> int:
    """Return how many characters of *text*, too long for one name, go into a ``%s3=more`` name."""

    def shown_size(size: int) -> int:
        return len(_escape(text[:size]).encode())

    # Longer than two characters, the spelling of a beginning only grows with it: dots are out of play.
    return bisect_right(range(len(text) + 1), _HEAD_MAX, lo=3, key=shown_size) - 1


def _escape(text: str) -> str:
    if text == "":
        return _EMPTY
    if text in (".", "..", OWN_NAME):
        return f"{MARK}2E{text[1:]}"
    return text.replace(MARK, f"{MARK}25s3=").replace("\0", f"{MARK}00")


def _unescape(name: str) -> str:
    """Undo :func:`_escape`. Other names give a text whose spelling they are not."""
    return "" if name == _EMPTY else _ESCAPE.sub(lambda match: chr(int(match[1], 16)), name)
