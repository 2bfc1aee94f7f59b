"""Fixtures of the tests around the command line."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3mount import runtime
from tests.cli import bare_fuse
from tests.cli.place import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place to mount at; whatever is left there goes away."""
    made = Place(tmp_path / "mnt", tmp_path / "state")
    made.mountpoint.mkdir()
    yield made
    state = made.recorded()
    if state is not None:
        if state.is_running():
            os.kill(state.pid, signal.SIGKILL)
            assert runtime.wait_for_end(state.pid, state.started, 10)
        runtime.forget(state, runtime.usable_directory())
    bare_fuse.unmount(made.mountpoint)
