"""A place that another user can reach."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.public_python import PublicPython, public_python


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can go through, unlike those of pytest."""
    if os.geteuid() != 0:
        pytest.skip("needs to be root")
    place = Path(tempfile.mkdtemp(prefix="s3mount-run-as-", dir="/tmp"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="session")
def python() -> Iterator[PublicPython]:
    """This Python where every user can read it."""
    if os.geteuid() != 0:
        pytest.skip("needs to be root")
    with public_python() as python:
        yield python
