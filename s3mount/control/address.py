"""A Unix socket in a directory, whatever the length of that directory's path."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol


class HasOptions(Protocol):
    """A connected socket of the standard library's or of trio's."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """As of socket.socket."""


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """Give an address of *path* that fits into the 108 bytes of a socket's address while the block runs.

    Raises: OSError (there is no such directory).
    """
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def peer_user(connection: HasOptions) -> int:
    """Return the uid of the process that made *connection*. Raises: OSError."""
    peer = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)
    _, uid, _ = peer.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, peer.size))
    return int(uid)
