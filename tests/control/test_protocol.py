"""What goes over a control socket."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3mount.control.protocol import (
    ControlError,
    answer_line,
    read_answer,
    read_request,
    refusal_line,
    request_line,
)

TEXT = st.binary(max_size=40).map(os.fsdecode)


@given(command=st.text(max_size=20), path=TEXT)
def test_a_request_arrives_as_it_was_made(command: str, path: str) -> None:
    """Names that are no text included; it is one line of ASCII."""
    line = request_line(command, {"path": path})
    assert line.isascii()
    assert line.index(b"\n") == len(line) - 1
    request = read_request(line)
    assert (request.command, request.text("path")) == (command, path)


@given(value=TEXT)
def test_an_answer_arrives_as_it_was_made(value: str) -> None:
    """And begins with its version."""
    line = answer_line({"value": value})
    assert line.startswith(b'{"version":1,"ok":true')
    assert read_answer(line)["value"] == value


def test_a_refusal_is_raised_with_its_reason() -> None:
    """The reason is for the user."""
    with pytest.raises(ControlError, match="no such thing"):
        read_answer(refusal_line("no such thing"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"status\n", "no line of JSON"),
        (b"[1]\n", "no JSON object"),
        (b"[" * 60_000, "no line of JSON"),
        (b'{"version": 2, "command": "status"}\n', "version 1"),
        (b'{"command": "status"}\n', "version 1"),
        (b'{"version": 1}\n', "no command"),
        (b'{"version": 1, "command": 7}\n', "no command"),
        (b"\xff\xfe\n", "no line of JSON"),
    ],
)
def test_what_is_no_request_is_refused(line: bytes, said: str) -> None:
    """With words, never with an exception of Python's own."""
    with pytest.raises(ControlError, match=said):
        read_request(line)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(line: bytes) -> None:
    """Whatever comes is a request or refused."""
    try:
        read_request(line)
    except ControlError:
        return
    assert json.loads(line)["version"] == 1


@pytest.mark.parametrize(
    ("value", "expected"), [(5, 5.0), (0.5, 0.5), (1e9, 60.0), (True, None), ("5", None), (-1, None)]
)
def test_a_duration_is_a_number_within_its_bound(value: object, expected: float | None) -> None:
    """A longer one is cut; what is no number is refused."""
    request = read_request(json.dumps({"version": 1, "command": "wait", "timeout_s": value}).encode())
    if expected is None:
        with pytest.raises(ControlError, match="no number of seconds"):
            request.seconds("timeout_s", 60.0)
    else:
        assert request.seconds("timeout_s", 60.0) == expected
