"""Fixtures of the crash sweeps."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.chain import Chain
from tests.support.mounting import mounts_below
from tests.support.servers import Server

MakeChain = Callable[[str], Chain]


@pytest.fixture
def make_chain(tmp_path: Path, minio: Server) -> Iterator[MakeChain]:
    """Begin a chain of deaths of a work; nothing of it stays mounted."""
    with ExitStack() as stack:

        def make(work: str) -> Chain:
            return stack.enter_context(
                Chain(minio, work, tmp_path, replay="python -m tests.crash.replay kill")
            )

        yield make
    assert mounts_below(tmp_path) == []
    shutil.rmtree(tmp_path / "spool", ignore_errors=True)
