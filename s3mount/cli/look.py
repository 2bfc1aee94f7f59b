"""Look at a directory that may be a hung mount, from a process that can be left behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look at a path saw.

    Attributes:
        error: the errno of the look, 0 if it went well, None if there was no answer in time.
        device: st_dev, by which a mount differs from the directory below it.
    """

    error: int | None
    device: int = 0
    is_directory: bool = False
    is_empty: bool = False
    is_writable: bool = False


def look_at(path: str, timeout_s: float) -> Sight:
    """Look at *path*; comes back after *timeout_s* even when the look never ends."""
    answer = in_child(lambda: _look(path), timeout_s)
    return Sight(None) if answer is None else Sight(**json.loads(answer))


def in_child(work: Callable[[], str], timeout_s: float) -> str | None:
    """Return what *work* returns in a forked process; None when it fails or takes over *timeout_s*.

    A process that hangs in the kernel gets SIGKILL and is not waited for: it may never end.
    """
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns where the process has threads: what the child does takes no lock of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _report(work, write_end)
    os.close(write_end)
    try:
        text = _read_all(read_end, timeout_s)
    finally:
        os.close(read_end)
        if _gone(pid, 0.0 if text is None else 1.0) is False:
            os.kill(pid, signal.SIGKILL)
            _gone(pid, 0.2)
    return text or None


def _report(work: Callable[[], str], write_end: int) -> None:
    status = 1
    with contextlib.suppress(BaseException):
        os.write(write_end, work().encode())
        status = 0
    os._exit(status)


def _look(path: str) -> str:
    sight: dict[str, object] = {"error": 0}
    try:
        found = os.stat(path)
        sight["device"] = found.st_dev
        sight["is_directory"] = os.path.isdir(path)
        if sight["is_directory"]:
            with os.scandir(path) as entries:
                sight["is_empty"] = next(entries, None) is None
            sight["is_writable"] = os.access(path, os.W_OK | os.X_OK)
    except OSError as error:
        sight["error"] = error.errno
    return json.dumps(sight)


def _read_all(descriptor: int, timeout_s: float) -> str | None:
    deadline = time.monotonic() + timeout_s
    received = bytearray()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        data = os.read(descriptor, 65536)
        if not data:
            return received.decode()
        received += data
    return None


def _gone(pid: int, timeout_s: float) -> bool:
    """Reap *pid* if it ends within *timeout_s*."""
    deadline = time.monotonic() + timeout_s
    while True:
        done, _ = os.waitpid(pid, os.WNOHANG)
        if done:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
