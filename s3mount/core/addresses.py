"""Where a mount may be asked for its metrics: on this machine, and nowhere else."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

_UNIX: Final = "unix:"
_MOST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class MetricsAddress:
    """A loopback address with a port, or the absolute path of a Unix socket; the other is empty."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """As it is written."""
        if self.path:
            return f"{_UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_metrics_address(text: str) -> MetricsAddress:
    """Return the address in ``127.0.0.1:9099``, ``[::1]:9099``, ``9099`` or ``unix:/run/my.sock``.

    Raises: ValueError (it is none, or other machines could reach it).
    """
    if text.startswith(_UNIX):
        path = text.removeprefix(_UNIX)
        if not path.startswith("/") or path.endswith("/"):
            raise ValueError(f"{text!r} is no absolute path of a socket")
        return MetricsAddress(path=path)
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= _MOST_PORT):
        raise ValueError(f"{text!r} is no address; write for example 127.0.0.1:9099 or unix:/run/my.sock")
    try:
        is_loopback = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host).is_loopback
    except ValueError:
        raise ValueError(f"{host!r} is no IP address") from None
    if not is_loopback:
        raise ValueError(f"other machines could reach {host}; only loopback addresses are permitted")
    return MetricsAddress(host="127.0.0.1" if host == "localhost" else host, port=int(port))
