"""System calls that Python's standard library does not have."""

from __future__ import annotations

import ctypes
import os
from typing import Final

_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8
# prctl(2), of linux/prctl.h.
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38


def mount(source: str, target: str, fs_type: str, flags: int, data: str) -> None:
    """mount(2). Raises: OSError."""
    arguments = (os.fsencode(text) for text in (source, target, fs_type))
    _call("mount", *arguments, ctypes.c_ulong(flags), os.fsencode(data))


def umount(target: str, *, lazy: bool) -> None:
    """umount2(2), never through a symbolic link. Raises: OSError."""
    _call("umount2", os.fsencode(target), _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0))


def prctl(option: int, argument: int) -> None:
    """prctl(2). Raises: OSError."""
    zero = ctypes.c_ulong(0)
    _call("prctl", option, ctypes.c_ulong(argument), zero, zero, zero)


def _call(name: str, *arguments: object) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
