"""System calls of a running daemon that fail as the kernel would let them fail."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Injected:
    """What strace has injected so far."""

    def __init__(self, log: Path) -> None:
        self._log = log

    @property
    def count(self) -> int:
        """How many system calls have failed by its doing."""
        return self._log.read_text(errors="replace").count("(INJECTED)")


@contextmanager
def failing_calls(
    pid: int, log: Path, *, calls: str, fault: str, path: Path | None = None
) -> Iterator[Injected]:
    """While the block runs, system calls of the process, all its threads, fail.

    Args:
        log: a file to be written.
        calls: their names with commas between, for example ``fsync,fdatasync``.
        fault: in strace's words, for example ``error=EIO:when=2``.
        path: only those that are about this file, or a descriptor of it.

    Other calls run at full speed: strace lets the kernel filter them.
    """
    program = shutil.which("strace")
    if program is None:
        pytest.skip("no strace")
    which = [] if path is None else ["-P", str(path)]
    command = [program, "-f", "-p", str(pid), "-o", str(log), "-e", f"trace={calls}", *which]
    command += ["-e", f"inject={calls}:{fault}"]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        _wait_until_traced(pid, tracer)
        yield Injected(log)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=20)


def _wait_until_traced(pid: int, tracer: subprocess.Popen[bytes]) -> None:
    """Return when every thread of the process is being traced. Raises: AssertionError."""
    deadline = time.monotonic() + 20
    while True:
        threads = os.listdir(f"/proc/{pid}/task")
        statuses = [Path(f"/proc/{pid}/task/{thread}/status").read_text() for thread in threads]
        if all(f"TracerPid:\t{tracer.pid}\n" in status for status in statuses):
            return
        assert tracer.poll() is None, tracer.communicate()[1].decode(errors="replace")
        assert time.monotonic() < deadline, "strace does not come to trace"
        time.sleep(0.01)
