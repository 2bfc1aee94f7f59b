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


def test_nothing_but_a_wanted_refresh_is_notified_into_the_kernel() -> None:
    """Pages stored from outside can deadlock, and an ENOENT can end a mount: only attributes and names are
    invalidated, where a user asks for that, and whether the kernel still has them does not matter.
    """
    package = TESTS.parent / "s3mount"
    calls = re.compile(r"\b((?:invalidate_(?:inode|entry\w*)|notify_store)\(.*)")
    texts = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    found = {path.relative_to(package).as_posix(): calls.findall(text) for path, text in texts.items()}
    assert {name: lines for name, lines in found.items() if lines} == {
        "fuse/invalidation.py": [
            "invalidate_entry_async(node.parent.inode, node.name, ignore_enoent=True)",
            "invalidate_inode(pyfuse3.InodeT(inode), attr_only=True)",
        ]
    }
    asks = [path.name for path, text in texts.items() if "forget_attributes" in text]
    assert sorted(asks) == ["invalidation.py", "mount.py"]
