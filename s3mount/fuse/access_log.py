"""One line of JSON for each operation that the kernel asks for, where ``--access-log`` asks for it."""

from __future__ import annotations

import datetime
import errno
import json
import logging
from typing import Any

_READS_AND_WRITES = frozenset(("read", "write"))


class AccessLog:
    """Writes lines.

    Args:
        logger: takes them as they are, and rotates its file.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def note(
        self,
        operation: str,
        path: str,
        *,
        pid: int | None,
        uid: int | None,
        size: int | None,
        seconds: float,
        number: int,
    ) -> None:
        """Write a line.

        Args:
            pid, uid: who asked; None where the kernel does not say (a handle's operations have no uid).
            size: bytes read or written; None for other operations.
            number: the errno, 0 where it went well.
        """
        now = datetime.datetime.now(datetime.UTC)
        line = {
            "time": f"{now:%Y-%m-%dT%H:%M:%S.%f}Z",
            "operation": operation,
            "path": path,
            "pid": pid,
            "uid": uid,
            "process": None if pid is None else _name_of(pid),
            "bytes": size,
            "ms": round(seconds * 1000, 3),
            "errno": errno.errorcode.get(number, str(number)) if number else None,
        }
        self._logger.info("%s", json.dumps(line))


def moved_bytes(operation: str, arguments: tuple[Any, ...], result: Any) -> int | None:
    """Return how many bytes an operation has read or written, None for one that does neither."""
    if operation not in _READS_AND_WRITES or result is None:
        return None
    return int(result) if operation == "write" else len(result)


def _name_of(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="backslashreplace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return None
