"""Fixtures of the crash sweeps."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.crash.chain import Chain
from tests.support.mounting import mounts_below
from tests.support.servers import Server


class MakeChain(Protocol):
    """Begins a chain of deaths of a work."""

    def __call__(self, work: str, kind: type[Chain] = Chain) -> Chain:
        """Begin it."""


@pytest.fixture(scope="session", autouse=True)
def needs() -> None:
    """Fail where something is missing without which these tests would show nothing."""
    assert os.geteuid() == 0, "the crash tests need root: they mount file systems and watch other processes"
    missing = [tool for tool in ("mkfs.ext4", "losetup", "unshare", "mount") if shutil.which(tool) is None]
    assert not missing, f"the crash tests need {missing}"
    assert os.access("/dev/fuse", os.R_OK | os.W_OK), "the crash tests need /dev/fuse"


@pytest.fixture
def make_chain(tmp_path: Path, minio: Server) -> Iterator[MakeChain]:
    """Nothing of a chain stays mounted, nor its spools: they are large."""
    with ExitStack() as stack:

        def make(work: str, kind: type[Chain] = Chain) -> Chain:
            return stack.enter_context(kind(minio, work, tmp_path))

        yield make
    assert mounts_below(tmp_path) == []
    shutil.rmtree(tmp_path / "spool", ignore_errors=True)
