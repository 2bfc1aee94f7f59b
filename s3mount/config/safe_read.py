"""Reading a configuration that nobody else can have changed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from s3mount.core.exits import Exit
from s3mount.errors import StartupError

MOST_BYTES = 256 * 1024


def read_safe(path: Path) -> str:
    """Return the file's text.

    Raises: StartupError (it cannot be read, or others can change it).
    """
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
