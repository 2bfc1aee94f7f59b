"""Names of the processes for which requests are made."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

ITSELF: Final = "(s3mount)"
"""What no process waits for: uploads in the background, probes, what goes on after a caller was answered."""
UNSEEN: Final = "(unseen)"
"""A process of another namespace, or the kernel itself."""
ENDED: Final = "(ended)"
_MOST: Final = 1024


class ProcessNames:
    """Finds the name of a process, and remembers it for when the process has ended."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, str] = OrderedDict()

    def name(self, pid: int | None) -> str:
        """Return the name of process *pid*; None is s3mount itself."""
        if pid is None:
            return ITSELF
        if pid == 0:
            return UNSEEN
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="backslashreplace") as file:
                found = file.read().rstrip("\n")
        except OSError:
            return self._known.get(pid, ENDED)
        self._known[pid] = found
        self._known.move_to_end(pid)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return found
