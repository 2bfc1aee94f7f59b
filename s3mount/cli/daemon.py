"""Serve a mount in the background; the command returns when the mount answers.

The background process tells its parent through a pipe, in lines of JSON: first ``{"pid": …}``, then
``{"ready": true}`` or ``{"failed": […]}`` with what StartupError takes. The end of the pipe without
either means that it died.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import select
import signal
import sys
import time
from typing import Any, NoReturn

from s3mount import logs, runtime
from s3mount.cli.look import Sight, look_at
from s3mount.cli.mount_table import AUTOFS_TYPE, mounted_at
from s3mount.cli.serving import serve_mount
from s3mount.config import MountConfig
from s3mount.config.files import ConfigSource
from s3mount.core.exits import Exit
from s3mount.errors import StartupError

log = logging.getLogger(__name__)

# Beyond what serve() allows itself for its questions to the store.
_GRACE_S = 30.0
_STOP_S = 10.0
_ANSWER_S = 15.0


def start(config: MountConfig, log_file: str, before: Sight, source: ConfigSource | None = None) -> None:
    """Start serving *config* in the background and return when the mount answers.

    Args:
        log_file: of the background process; its standard output and error go there too.
        before: how the mountpoint looked before.
        source: where *config* is from, to be read again.

    Raises: StartupError.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        _become_daemon(config, log_file, write_end, source)
    os.close(write_end)
    os.waitpid(child, 0)
    word = _Word(read_end, log_file)
    try:
        word.wait(config.operation_timeout_s + _GRACE_S)
        _check_answers(config.mountpoint, before, log_file)
    except BaseException:
        word.stop_process()
        raise
    finally:
        os.close(read_end)


class _Word:
    """What the background process has said."""

    def __init__(self, read_end: int, log_file: str) -> None:
        self._read_end = read_end
        self._log_file = log_file
        self._unread = b""
        self._pid: int | None = None
        self._started: int | None = None

    def wait(self, timeout_s: float) -> None:
        """Return when the process says that it is ready.

        Raises: StartupError as it was raised there, or because the process died or says nothing.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            message = self._next(deadline)
            if message is None:
                raise StartupError(
                    "mount",
                    "the background process ended before the mount was up",
                    f"see {self._log_file}",
                    Exit.FAILURE,
                )
            if "pid" in message:
                self._pid = int(message["pid"])
                self._started = runtime.process_started(self._pid)
            elif "failed" in message:
                raise StartupError(*message["failed"])
            else:
                return

    def stop_process(self) -> None:
        """End the background process if it is still there."""
        if self._pid is None or self._started is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if runtime.process_started(self._pid) != self._started:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)
            runtime.wait_for_end(self._pid, self._started, _STOP_S)

    def _next(self, deadline: float) -> dict[str, Any] | None:
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        while b"\n" not in self._unread:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise StartupError(
                    "mount", "it is not up in time", f"see {self._log_file}", Exit.STORE_UNREACHABLE
                )
            data = os.read(self._read_end, 65536)
            if not data:
                return None
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


def _check_answers(mountpoint: str, before: Sight, log_file: str) -> None:
    """See for ourselves that something else than before is there now.

    A refusal is an answer too: with --uid of another user it is the right one.
    """
    after = look_at(mountpoint, _ANSWER_S)
    if after.error is None or after.device in (0, before.device):
        raise StartupError(
            f"mountpoint {mountpoint}",
            "it was mounted but does not answer",
            f"see {log_file}",
            Exit.FUSE,
        )


def _become_daemon(
    config: MountConfig, log_file: str, write_end: int, source: ConfigSource | None
) -> NoReturn:
    """Run the mount as a process of its own: no terminal, no parent, no inherited files."""
    exit_code = int(Exit.FAILURE)
    try:
        below = mounted_at(config.mountpoint)
        # autofs lets its own process group alone get past it, and all others wait for the mount: who makes it
        # must stay in that group. It is systemd's, which has no terminal.
        if below is None or below.fs_type != AUTOFS_TYPE:
            os.setsid()
        # The second fork: a session leader could get a terminal again by opening one.
        if os.fork():
            os._exit(0)
        os.chdir("/")
        os.umask(0o077)
        _detach_files(log_file, write_end)
        exit_code = _run(config, log_file, write_end, source)
    except BaseException:
        log.exception("unexpected end")
    finally:
        logging.shutdown()
        os._exit(exit_code)


def _run(config: MountConfig, log_file: str, write_end: int, source: ConfigSource | None) -> int:
    def tell(message: dict[str, Any]) -> None:
        # A parent that was interrupted does not listen any more.
        with contextlib.suppress(BrokenPipeError):
            os.write(write_end, json.dumps(message).encode() + b"\n")

    def ready() -> None:
        tell({"ready": True})
        os.close(write_end)

    tell({"pid": os.getpid()})
    try:
        return serve_mount(config, log_file=log_file, on_ready=ready, source=source)
    except StartupError as error:
        log.error("%s", error)
        tell({"failed": error.fields})
        return error.exit_code
    except Exception as error:
        log.exception("the mount ended unexpectedly")
        with contextlib.suppress(OSError):  # the pipe is closed once the mount was up
            tell(
                {"failed": ["mount", f"it ended unexpectedly ({type(error).__name__})", f"see {log_file}", 1]}
            )
        return int(Exit.FAILURE)


def _detach_files(log_file: str, write_end: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    # For what does not go through logging: crashes of C code, and faulthandler.
    output = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # A pipe or lock that the caller holds open must not stay open with the mount.
    highest = os.sysconf("SC_OPEN_MAX")
    keep = {write_end} | logs.descriptors()
    for first, last in _gaps(keep, highest):
        os.closerange(first, last)
    faulthandler.enable(file=2)


def _gaps(keep: set[int], highest: int) -> list[tuple[int, int]]:
    edges = sorted(number for number in keep if number > 2)
    return list(zip([3, *(number + 1 for number in edges)], [*edges, highest], strict=True))
