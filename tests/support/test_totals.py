"""Totals add up over processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import totals


def test_processes_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ten processes count at once is all there, zeros too, in the order of the summary."""
    path = tmp_path / "totals"
    monkeypatch.setenv(totals.VARIABLE, str(path))
    script = "from tests.support import totals\nfor _ in range(100): totals.count('histories checked')"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    running = [subprocess.Popen([sys.executable, "-c", script], env=environment) for _ in range(10)]
    totals.count("something else", 3)
    totals.count("lost bytes", 0)
    totals.count("faults injected", 2)
    assert [process.wait() for process in running] == [0] * 10
    assert (
        totals.summary(path) == "faults injected 2, histories checked 1,000, lost bytes 0, something else 3"
    )


def test_nothing_counted_says_nothing(tmp_path: Path) -> None:
    """A run without a sweep has no summary."""
    assert totals.summary(tmp_path / "none") == ""
