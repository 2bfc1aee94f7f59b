"""POSIX attributes <-> the user metadata of an object, under the names that s3fs made common.

``mode``   decimal, file type included: 33188 is a file of 0644, 41471 a symlink, 16877 a directory of 0755
``uid``, ``gid``   decimal
``mtime``  seconds since the epoch with exactly nine fraction digits: s3fs takes the digits after the dot
           as an integer of nanoseconds, rclone the whole as a number, and nine digits satisfy both

Other tools' names for the same facts are read too (s3cmd, gsutil, rclone's octal modes). Values come
from whoever can write to the bucket: each is judged by itself and ignored if it is absurd.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction

ID_MAX = 2**32 - 2
"""The largest uid and gid; the next number means "leave it" to chown(2)."""

MTIME_MIN_NS = -(2**63)
MTIME_MAX_NS = 2**63 - 1
"""What 64 bits of nanoseconds hold: 1677 to 2262."""

_S3CMD = "s3cmd-attrs"
_GOOG = "goog-reserved-posix-"
_FACTS = ("mode", "uid", "gid", "mtime")
_TYPES = (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
_MODE_MAX = 0o177777
_INTEGER = re.compile(r"[0-9]{1,20}")
_OCTAL = re.compile(r"[0-7]{1,20}")
_SECONDS = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,2})?")


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is stored with an object; None is what is not, so the mount's default applies.

    ``mode`` holds permission bits only: up to 0o777, and for directories the sticky bit 0o1000.
    """

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime_ns: int | None = None
    is_symlink: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether nothing is stored."""
        return self == _PLAIN


_PLAIN = Attributes()


def from_metadata(metadata: Mapping[str, str]) -> Attributes:
    """Return the attributes that *metadata* (lower-case names) holds.

    Never raises. Set-uid and set-gid bits are dropped, and a mode of a device, fifo or socket is
    ignored as a whole.
    """
    if not metadata:
        return _PLAIN
    s3cmd = _s3cmd_parts(metadata)
    mode = _first(
        _mode(metadata.get("mode", "")),
        _mode(s3cmd.get("mode", "")),
        _octal_mode(metadata.get(_GOOG + "mode", "")),
    )
    uid, gid = (
        _first(_id(metadata.get(name, "")), _id(s3cmd.get(name, "")), _id(metadata.get(_GOOG + name, "")))
        for name in ("uid", "gid")
    )
    mtime_ns = _first(
        _mtime_ns(metadata.get("mtime", "")),
        _mtime_ns(s3cmd.get("mtime", "")),
        _mtime_ns(metadata.get(_GOOG + "mtime", "")),
    )
    if mode is not None and stat.S_ISLNK(mode):
        return Attributes(0o777, uid, gid, mtime_ns, is_symlink=True)
    if mode is not None:
        mode &= 0o1777 if stat.S_ISDIR(mode) else 0o777
    return Attributes(mode, uid, gid, mtime_ns)


def to_metadata(metadata: Mapping[str, str], attributes: Attributes, *, is_directory: bool) -> dict[str, str]:
    """Return *metadata* with *attributes* in place of those it held, and all else as it was.

    :func:`from_metadata` of the result gives *attributes* again, save that a symlink's mode is 0o777,
    only directories keep the sticky bit and an mtime beyond 64 bits of nanoseconds becomes the nearest.
    Other tools' copies of the facts are taken out; values that are no attributes (a ``mode`` of
    ``dark``) stay unless they are in the way.
    """
    kept = {
        name: value for name, value in metadata.items() if name != _S3CMD and not _states_a_fact(name, value)
    }
    if _S3CMD in metadata:
        kept |= _s3cmd_without(metadata[_S3CMD], _FACTS)
    return kept | _stored(attributes, is_directory)


def without_checksums(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return *metadata* for an object whose bytes have changed: without checksums of the old ones.

    rclone and s3cmd keep an MD5 there and would take a stale one for damage.
    """
    kept = {name: value for name, value in metadata.items() if name not in ("md5chksum", _S3CMD)}
    if _S3CMD in metadata:
        kept |= _s3cmd_without(metadata[_S3CMD], ("md5",))
    return kept


def _stored(attributes: Attributes, is_directory: bool) -> dict[str, str]:
    stored = {}
    if attributes.is_symlink:
        stored["mode"] = str(stat.S_IFLNK | 0o777)
    elif attributes.mode is not None and is_directory:
        stored["mode"] = str(stat.S_IFDIR | (attributes.mode & 0o1777))
    elif attributes.mode is not None:
        stored["mode"] = str(stat.S_IFREG | (attributes.mode & 0o777))
    if attributes.uid is not None:
        stored["uid"] = str(attributes.uid)
    if attributes.gid is not None:
        stored["gid"] = str(attributes.gid)
    if attributes.mtime_ns is not None:
        mtime_ns = min(max(attributes.mtime_ns, MTIME_MIN_NS), MTIME_MAX_NS)
        # A negative time is written as the number it is, as rclone reads it. s3fs would want the
        # fraction to count upwards; both agree again from 1970 on.
        seconds, fraction = divmod(abs(mtime_ns), 10**9)
        stored["mtime"] = f"{'-' if mtime_ns < 0 else ''}{seconds}.{fraction:09d}"
    return stored


def _states_a_fact(name: str, value: str) -> bool:
    if name == _GOOG + "mode":
        return _octal_mode(value) is not None
    match name.removeprefix(_GOOG):
        case "mode":
            return _mode(value) is not None
        case "uid" | "gid":
            return _id(value) is not None
        case "mtime":
            return _mtime_ns(value) is not None
    return False


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _s3cmd_parts(metadata: Mapping[str, str]) -> dict[str, str]:
    parts = (part.partition(":") for part in metadata.get(_S3CMD, "").split("/"))
    return {name: value for name, _, value in parts}


def _s3cmd_without(value: str, names: Collection[str]) -> dict[str, str]:
    rest = [part for part in value.split("/") if part.partition(":")[0] not in names]
    return {_S3CMD: "/".join(rest)} if any(rest) else {}


def _mode(text: str) -> int | None:
    """Read a decimal mode, or an octal one: rclone's, told by its file type, or with a leading zero."""
    if not _INTEGER.fullmatch(text):
        return None
    if text == "0" or text[0] != "0":
        number = _possible_mode(int(text))
        if number is not None:
            return number
    octal = _octal_mode(text)
    return octal if octal is not None and (text[0] == "0" or stat.S_IFMT(octal)) else None


def _octal_mode(text: str) -> int | None:
    return _possible_mode(int(text, 8)) if _OCTAL.fullmatch(text) else None


def _possible_mode(number: int) -> int | None:
    return number if number <= _MODE_MAX and stat.S_IFMT(number) in _TYPES else None


def _id(text: str) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) and int(text) <= ID_MAX else None


def _mtime_ns(text: str) -> int | None:
    if not _SECONDS.fullmatch(text):
        return None
    nanoseconds = int(Fraction(text) * 10**9 // 1)
    return nanoseconds if MTIME_MIN_NS <= nanoseconds <= MTIME_MAX_NS else None
