"""Ask a mount for a sign of life from a process that may wait for it for ever."""

from __future__ import annotations

import errno
import subprocess
import sys

# Any answer will do. A process that waits for a mount cannot be killed: it is none that serves one.
_ASK = f"""
import os, sys
try:
    os.statvfs(sys.argv[1])
except OSError as error:
    sys.exit(error.errno in {(errno.ENOTCONN, errno.ECONNABORTED)})
"""


class Asker:
    """Asks the mount at *mountpoint*, once at a time: what hangs does not pile up."""

    def __init__(self, mountpoint: str) -> None:
        self._mountpoint = mountpoint
        self._child: subprocess.Popen[bytes] | None = None

    def answers(self) -> bool | None:
        """Whether it answered since the last look; None while nobody knows. Never waits."""
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _ASK, self._mountpoint],
                stdin=subprocess.DEVNULL,
                cwd="/",
            )
        code = self._child.poll()
        if code is None:
            return None
        self._child = None
        return code == 0
