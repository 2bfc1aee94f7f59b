"""Waiting for what another process brings about."""

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(look: Callable[[], object], want: object = True, deadline_s: float = 30.0) -> None:
    """Wait until *look* returns *want*; an OSError that it raises is what it returns."""
    deadline = time.monotonic() + deadline_s
    while (found := _result(look)) != want:
        assert time.monotonic() < deadline, f"still {found!r}, not {want!r}"
        time.sleep(0.05)


def _result(look: Callable[[], object]) -> object:
    try:
        return look()
    except OSError as exc:
        return exc
