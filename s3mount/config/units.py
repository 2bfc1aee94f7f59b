"""Sizes, times and modes as people write them: ``64M``, ``5s``, ``0644``."""

from __future__ import annotations

import re
from fractions import Fraction

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?b)?", re.IGNORECASE)
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str) -> int:
    """Return the number of bytes in *text*: ``4096``, ``64M`` and ``64MiB`` (1,024s), ``64MB`` (1,000s).

    The suffixes mean what GNU programs take them to mean.

    Raises: ValueError.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size; write for example 64M or 1GiB")
    number, letter, suffix = match.groups()
    if suffix and suffix.lower() == "ib" and not letter:
        raise ValueError(f"{text!r} is no size; write for example 64M or 1GiB")
    base = 1000 if letter and suffix and suffix.lower() == "b" else 1024
    return int(Fraction(number) * base ** _POWERS[letter.lower()])


def format_size(size: int) -> str:
    """Return *size* bytes with the largest unit that keeps it whole: ``16 MiB``."""
    for letter in "TGMK":
        unit = 1024 ** _POWERS[letter.lower()]
        if size >= unit and size % unit == 0:
            return f"{size // unit} {letter}iB"
    return f"{size} bytes"


def format_size_short(size: int) -> str:
    """Return *size* bytes in few characters, rounded down: ``1.4 MiB``."""
    if size < 1024:
        return f"{size} bytes" if size != 1 else "1 byte"
    power = min((size.bit_length() - 1) // 10, 5)
    tenths = size * 10 // 1024**power
    return f"{tenths // 10}.{tenths % 10} {'KMGTP'[power - 1]}iB"


def parse_seconds(text: str) -> float:
    """Return the seconds in *text*: ``5``, ``5s``, ``500ms``, ``1m``, ``2h``.

    Raises: ValueError.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no time; write for example 5s or 1m")
    number, unit = match.groups()
    return float(number) * _SECONDS[(unit or "s").lower()]


def format_seconds(seconds: float) -> str:
    """Return *seconds* as ``5s``, ``1m`` or ``500ms``."""
    if seconds and seconds < 1:
        return f"{seconds * 1000:g}ms"
    if seconds >= 60 and seconds % 60 == 0:
        return f"{seconds / 60:g}m"
    return f"{seconds:g}s"


def parse_mode(text: str) -> int:
    """Return permission bits written in octal: ``644``, ``0755``, ``0o022``.

    Raises: ValueError.
    """
    digits = text.strip().lower().removeprefix("0o")
    if not re.fullmatch(r"[0-7]{1,4}", digits) or int(digits, 8) > 0o777:
        raise ValueError(f"{text!r} is no mode; write octal permission bits, for example 0644")
    return int(digits, 8)


def format_mode(mode: int) -> str:
    """Return *mode* as ``0644``."""
    return f"{mode:04o}"
