"""What a service manager and its journal are told: each time a datagram of ``NAME=value`` lines."""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

JOURNAL: Final = "/run/systemd/journal/socket"


@dataclass(frozen=True, slots=True)
class Manager:
    """The service manager that has started this process and wants to be told of it.

    Args:
        address: of its datagram socket; an abstract one begins with NUL.
        watchdog_s: it ends this process where no ``WATCHDOG=1`` comes for so long; None: it does not.
    """

    address: str
    watchdog_s: float | None = None

    def tell(self, **fields: object) -> bool:
        """Say *fields*; return whether it was taken. Never waits: a manager that hangs hangs no mount."""
        text = "\n".join(f"{name}={_one_line(value)}" for name, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.sendto(
                    text.encode(errors="surrogateescape"),
                    socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL,
                    self.address,
                )
        except OSError:
            return False
        return True


def manager(environment: Mapping[str, str] = os.environ) -> Manager | None:
    """Return the manager that *environment* names, None where nobody wants to be told."""
    path = environment.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return None
    address = f"\0{path[1:]}" if path.startswith("@") else path
    return Manager(address, _watchdog_s(environment))


def logs_to_journal(descriptor: int, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the open file *descriptor* leads to systemd's journal, by ``$JOURNAL_STREAM``: device:inode.

    The variable alone says nothing: whoever sends the output elsewhere inherits it.
    """
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def journal_address(descriptor: int) -> str | None:
    """Return where the journal takes entries with fields, if the open file *descriptor* leads to it."""
    try:
        is_stream = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return None
    return JOURNAL if is_stream and logs_to_journal(descriptor) and os.path.exists(JOURNAL) else None


def journal_entry(fields: Mapping[str, str]) -> bytes:
    """Return one entry as systemd's journal takes it: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/."""
    parts = []
    for name, value in fields.items():
        data = value.encode(errors="surrogateescape")
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    # A variable that was meant for a parent, which did not take it away.
    if environment.get("WATCHDOG_PID") not in (None, str(os.getpid())):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) else None


def _one_line(value: object) -> str:
    """Return *value* without what would begin a field of its own: a bucket's owner chooses names."""
    return "".join(one if one.isprintable() else " " for one in str(value))
