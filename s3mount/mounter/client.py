"""The unprivileged side: asks the process of root's."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Mapping
from typing import Any, Final

from s3mount.core.exits import Exit
from s3mount.errors import StartupError
from s3mount.mounter.server import MOST_BYTES

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 10.0
"""For an answer. Nothing that is asked for waits: neither for the mount nor for the network."""


class Helper:
    """A ``Mounter`` that has it done at the other end of *connection*, a socket of packets."""

    def __init__(self, connection: socket.socket, handed: Mapping[str, str] | None = None) -> None:
        """*handed*: of files of root's, the names that this process reads them under."""
        connection.settimeout(TIMEOUT_S)
        self._connection = connection
        self._handed = handed or {}
        self._lock = threading.Lock()
        self._last_id = 0
        self._is_lost = False

    def serve(self, name: str) -> None:
        """Let it mount what root's configuration *name* says. Raises: StartupError."""
        self._ask("serve", mount=name)

    def mount(self) -> str:
        """As ``Mounter``."""
        descriptors = self._ask("mount")[1]
        if len(descriptors) != 1:
            raise _failed("it has sent no /dev/fuse")
        os.set_inheritable(descriptors[0], False)
        return f"/dev/fd/{descriptors[0]}"

    def tune(self) -> None:
        """As ``Mounter``."""
        self._try("tune", None)

    def unmount(self) -> None:
        """As ``Mounter``."""
        self._try("unmount", None)

    def can_still_write(self, pid: int, inode: int) -> bool:
        """As ``Mounter``; False where nobody answers, so that every close uploads."""
        return bool(self._try("can_still_write", False, pid=pid, inode=inode))

    def answers(self) -> bool | None:
        """As ``Mounter``; True where nobody can be asked: a lost helper is no hung mount."""
        found = self._try("answers", True)
        return found if found is None else bool(found)

    def name_of(self, path: str) -> str:
        """As ``Mounter``."""
        return self._handed.get(path, path)

    def refresh(self) -> None:
        """As ``Mounter``. Raises: StartupError (a file cannot be read)."""
        self._ask("refresh")

    def _try(self, what: str, otherwise: Any, **more: Any) -> Any:
        if self._is_lost:
            return otherwise
        try:
            return self._ask(what, **more)[0]
        except StartupError as error:
            self._is_lost = True
            log.warning("the mount helper is lost, so this mount is not unmounted by itself: %s", error)
            return otherwise

    def _ask(self, what: str, **more: Any) -> tuple[Any, list[int]]:
        with self._lock:
            self._last_id += 1
            packet = json.dumps({"id": self._last_id, "do": what, **more}).encode()
            try:
                self._connection.send(packet)
                while True:
                    data, descriptors, _, _ = socket.recv_fds(self._connection, MOST_BYTES, 1)
                    if not data:
                        raise _failed("it is gone")
                    said = json.loads(data)
                    # An answer that came too late for whoever waited for it.
                    if said.get("id") == self._last_id:
                        break
            except OSError as error:
                raise _failed(str(error)) from None
        if "failed" in said:
            thing, cause, advice, code = said["failed"]
            raise StartupError(thing, cause, advice, Exit(code))
        return said["is"], descriptors


def connected(path: str) -> Helper:
    """Return a helper that systemd starts for whoever connects to the socket *path*.

    Raises: StartupError.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise StartupError(
            f"mount helper {path}",
            f"it does not answer ({error.strerror})",
            "start it: systemctl enable --now s3mount-mounter.socket",
            Exit.FUSE,
        ) from None
    return Helper(connection)


def _failed(cause: str) -> StartupError:
    return StartupError("mount helper", cause, "see its log", Exit.FUSE)
