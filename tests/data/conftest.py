"""Fixtures of the tests of bytes."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A spool directory that is not there yet."""
    return tmp_path / "spool"
