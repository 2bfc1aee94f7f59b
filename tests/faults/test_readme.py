"""The table of faults names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parent


def test_every_test_that_is_named_exists() -> None:
    """A renamed test takes its row along."""
    there = {
        node.name
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    named = set(re.findall(r"`(test_\w+)`", (HERE / "README.md").read_text(encoding="utf-8")))
    assert len(named) > 60
    assert named - there == set()


def test_every_test_of_this_folder_is_named() -> None:
    """A test of a fault that no row speaks of is a row that is missing."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    unnamed = [
        node.name
        for path in HERE.glob("test_*.py")
        if path.name != Path(__file__).name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and node.name not in text
    ]
    assert unnamed == []


def test_nothing_is_notified_into_the_kernel() -> None:
    """No call of pyfuse3's invalidates or stores pages from outside: it can deadlock, or fail with ENOENT."""
    package = TESTS.parent / "s3mount"
    calls = re.compile(r"\b(invalidate_\w+|notify_store)\(")
    found = [path.name for path in package.rglob("*.py") if calls.search(path.read_text(encoding="utf-8"))]
    assert found == []
