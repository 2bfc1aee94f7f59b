"""The process of root's: mounts one place for one process, and unmounts it when that process is gone.

It parses a dozen bytes from a process that it has started or that systemd knows, and nothing from the
network. What it mounts, and where, it was told before that process gave up being root, or reads from
root's own configuration: never from that process.

One request is one packet of JSON, ``{"id": 1, "do": "tune"}``, and so is each answer: ``{"id": 1, "is":
VALUE}`` or ``{"id": 1, "failed": [...]}`` with what StartupError takes. With the answer to ``mount`` comes
the descriptor of /dev/fuse, which this process does not keep: the mount lives with the other one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from s3mount.core.exits import Exit
from s3mount.errors import StartupError
from s3mount.mounter.handed import HandedFile
from s3mount.mounter.kernel import KernelMount

log = logging.getLogger(__name__)

MOST_BYTES: Final = 4096


class Server:
    """Answers the requests that come through one connection.

    Args:
        mount: what it may mount.
        handed: files of which the other process has copies.
    """

    def __init__(
        self, connection: socket.socket, mount: KernelMount, handed: Sequence[HandedFile] = ()
    ) -> None:
        self._connection = connection
        self._mount = mount
        self._handed = handed
        self._has_mounted = False

    def run(self) -> None:
        """Answer until the other process is gone, then unmount what it has left mounted."""
        try:
            while packet := self._receive():
                self._answer(packet)
        finally:
            self._mount.unmount()

    def _receive(self) -> bytes:
        try:
            return self._connection.recv(MOST_BYTES)
        except OSError:  # the end, as said by some kernels
            return b""

    def _answer(self, packet: bytes) -> None:
        request: dict[str, Any] = {}
        descriptor: int | None = None
        try:
            request = _parsed(packet)
            name = request.get("do")
            if name == "mount":
                descriptor = self._mount_once()
                answer = None
            else:
                answer = self._do(name, request)
            said: dict[str, Any] = {"is": answer}
        except StartupError as error:
            said = {"failed": error.fields}
        except Exception as error:  # whatever the other process sends, the mount is not left behind
            said = {"failed": ["mount helper", f"{type(error).__name__}", "see its log", int(Exit.FAILURE)]}
            log.exception("the mount helper could not do what it was asked: %r", packet[:80])
        said["id"] = request.get("id")
        data = json.dumps(said).encode()
        with contextlib.suppress(OSError):  # it is gone: the next read says so
            if descriptor is None:
                self._connection.send(data)
            else:
                socket.send_fds(self._connection, [data], [descriptor])
        if descriptor is not None:
            # As long as it is open anywhere, callers wait for answers that nobody gives.
            os.close(descriptor)

    def _mount_once(self) -> int:
        if self._has_mounted:
            raise StartupError("mount helper", "it has mounted already", "report this", Exit.FAILURE)
        self._has_mounted = True
        return self._mount.mount_and_open()

    def _do(self, name: Any, request: dict[str, Any]) -> Any:
        if name == "tune":
            return self._mount.tune()
        if name == "unmount":
            return self._mount.unmount()
        if name == "can_still_write":
            return self._mount.can_still_write(int(request["pid"]), int(request["inode"]))
        if name == "answers":
            return self._mount.answers()
        if name == "refresh":
            return self._refresh()
        raise StartupError("mount helper", f"it does not know {name!r:.40}", "report this", Exit.FAILURE)

    def _refresh(self) -> None:
        for one in self._handed:
            try:
                one.refresh()
            except OSError as error:
                raise StartupError(
                    one.path, f"it cannot be read ({error.strerror})", "see that it is there", Exit.CONFIG
                ) from None


def _parsed(packet: bytes) -> dict[str, Any]:
    """Return the request. Raises: StartupError."""
    try:
        request = json.loads(packet)
    except ValueError:  # UnicodeDecodeError is one
        request = None
    if not isinstance(request, dict):
        raise StartupError("mount helper", "this is no request", "report this", Exit.FAILURE)
    return request


def outlive_signals() -> None:
    """Ignore what ends a whole group of processes: the mount goes when the other process does."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)


def fork_server(make: Callable[[socket.socket], Server], keep: Sequence[int]) -> socket.socket:
    """Start a server as a process of its own, and return the end of the connection to it.

    To be called while this process has one thread.

    Args:
        make: the server, of its end of the connection; called in the new process.
        keep: descriptors that it needs beside its standard ones.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        its.close()
        return ours
    try:
        outlive_signals()  # and no group of its own: see cli/daemon.py, of autofs
        ours.close()
        _close_all_but({its.fileno(), *keep})
        make(its).run()
    except BaseException:
        log.exception("the mount helper ended unexpectedly")
    finally:
        os._exit(0)


def _close_all_but(kept: set[int]) -> None:
    """Close what was inherited, pipes to whoever waits for this mount included."""
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in kept:
                with contextlib.suppress(OSError):
                    os.close(int(name))
