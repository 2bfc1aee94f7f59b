"""Start a helper process that cannot outlive the test run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

# The child asks the kernel to be killed with its parent, then becomes the server: this survives even
# a SIGKILL of pytest, and needs no fork hook, which Python 3.12 warns about in a threaded parent.
_LAUNCH = """
import ctypes, os, signal, sys
parent = int(sys.argv[1])
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != parent:
    sys.exit("parent is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


class StartFailed(Exception):
    """A helper process did not come up; the message ends with the end of its log."""


def free_ports(count: int) -> list[int]:
    """Return *count* different loopback ports that nothing listened on a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def running(
    command: Sequence[str],
    *,
    log_path: Path,
    ready: Callable[[], bool],
    extra_environment: Mapping[str, str] | None = None,
    deadline_s: float = 60.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run *command* until the block ends, then kill it; enter the block when *ready* says yes.

    It is killed, not asked: what it holds is thrown away, and SeaweedFS takes five seconds to stop.

    Args:
        log_path: gets standard output and standard error.
        ready: polled; False means not yet.
        deadline_s: how long the command may take to get ready.

    Raises: StartFailed.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    environment.update(extra_environment or {})
    launch = [sys.executable, "-S", "-E", "-c", _LAUNCH, str(os.getpid()), *command]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            launch,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    try:
        _wait_until(ready, process, command, log_path, deadline_s)
        yield process
    finally:
        _stop(process)


def _wait_until(
    ready: Callable[[], bool],
    process: subprocess.Popen[bytes],
    command: Sequence[str],
    log_path: Path,
    deadline_s: float,
) -> None:
    deadline = time.monotonic() + deadline_s
    while not ready():
        if process.poll() is not None:
            raise StartFailed(f"{command[0]} ended with {process.returncode}:\n{_tail(log_path)}")
        if time.monotonic() > deadline:
            raise StartFailed(f"{command[0]} not ready after {deadline_s} s:\n{_tail(log_path)}")
        time.sleep(0.05)


def _tail(log_path: Path) -> str:
    return log_path.read_bytes()[-2000:].decode(errors="replace")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and whatever it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
