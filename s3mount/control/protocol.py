"""What goes over a control socket: one line of JSON each way.

::

    {"version": 1, "command": "status"}
    {"version": 1, "ok": true, ...}
    {"version": 1, "ok": false, "error": "there is no command statsu"}

What else a request and an answer have depends on the command. Whoever answers ignores what it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from s3mount.core.status import VERSION

MOST_REQUEST_BYTES: Final = 64 * 1024
"""A path has 4 KiB at most, and JSON may write each byte of it in six."""
MOST_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""What a client reads before it takes the other side for something else."""


class ControlError(Exception):
    """What was asked is not done; the message is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class Request:
    """A command and its arguments."""

    command: str
    arguments: Mapping[str, Any]

    def text(self, name: str, default: str | None = None) -> str:
        """Return the text argument *name*. Raises: ControlError."""
        value = self.arguments.get(name, default)
        if not isinstance(value, str):
            raise ControlError(f"{self.command} needs a text {name}")
        return value

    def seconds(self, name: str, most: float) -> float:
        """Return the duration *name*, *most* where none is given. Raises: ControlError."""
        value = self.arguments.get(name, most)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise ControlError(f"{self.command}: {name} is no number of seconds")
        return min(float(value), most)


def read_request(line: bytes) -> Request:
    """Return the request in *line*. Raises: ControlError."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise ControlError("the request is no line of JSON") from None
    if not isinstance(found, dict):
        raise ControlError("the request is no JSON object")
    if found.get("version") != VERSION:
        raise ControlError(f"this mount speaks version {VERSION} of the protocol")
    command = found.get("command")
    if not isinstance(command, str):
        raise ControlError("the request has no command")
    return Request(command, {name: value for name, value in found.items() if name not in _OWN})


def request_line(command: str, arguments: Mapping[str, Any]) -> bytes:
    """Return the line that asks for *command*."""
    return _line({"version": VERSION, "command": command, **arguments})


def answer_line(answer: Mapping[str, Any]) -> bytes:
    """Return the line that says *answer*."""
    return _line({"version": VERSION, "ok": True, **answer})


def refusal_line(error: str) -> bytes:
    """Return the line that says why nothing was done."""
    return _line({"version": VERSION, "ok": False, "error": error})


def read_answer(line: bytes) -> dict[str, Any]:
    """Return the answer in *line*. Raises: ControlError (a refusal, or no answer at all)."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise ControlError("the answer is no line of JSON") from None
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise ControlError(f"the mount does not speak version {VERSION} of the protocol")
    if found.get("ok") is not True:
        raise ControlError(str(found.get("error") or "refused without a reason"))
    return found


_OWN: Final = frozenset({"version", "command"})


def _line(content: Mapping[str, Any]) -> bytes:
    # JSON's escapes keep names that are no text: each such byte is a surrogate of its own.
    return json.dumps(content, separators=(",", ":")).encode("ascii") + b"\n"
