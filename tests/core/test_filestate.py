"""The table of what may happen to an open file's bytes."""

from __future__ import annotations

import itertools

import pytest

from s3mount.core.filestate import FileEvent, FileState, advance


def test_bytes_that_were_refused_are_never_taken_for_clean() -> None:
    """From FAILED only a successful upload, or nobody wanting the bytes, leads to CLEAN."""
    assert advance(FileState.FAILED, FileEvent.BEGIN) is FileState.UPLOADING
    assert advance(FileState.UPLOADING, FileEvent.REFUSED) is FileState.FAILED
    assert advance(FileState.FAILED, FileEvent.DROP) is FileState.CLEAN
    assert advance(FileState.FAILED, FileEvent.CHANGE) is FileState.DIRTY


def test_what_cannot_happen_raises() -> None:
    """An upload is not begun twice, a clean file is not uploaded, nothing changes under an upload."""
    for state, event in (
        (FileState.UPLOADING, FileEvent.BEGIN),
        (FileState.UPLOADING, FileEvent.CHANGE),
        (FileState.CLEAN, FileEvent.BEGIN),
        (FileState.CLEAN, FileEvent.SENT),
    ):
        with pytest.raises(ValueError, match=f"{event.value} while {state.value}"):
            advance(state, event)


def test_only_sent_and_drop_lead_to_clean() -> None:
    """No other event may make unsent bytes look sent."""
    for state, event in itertools.product(FileState, FileEvent):
        try:
            after = advance(state, event)
        except ValueError:
            continue
        if after is FileState.CLEAN:
            assert event in (FileEvent.SENT, FileEvent.DROP)
