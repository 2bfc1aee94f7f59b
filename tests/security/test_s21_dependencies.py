"""S-21: nothing that came from elsewhere is ever run, and every library has a floor."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import s3mount

SOURCE = Path(s3mount.__file__).parent
MODULES = {"pickle", "marshal", "shelve", "dill", "yaml", "code", "runpy"}
CALLS = {"eval", "exec", "compile", "__import__"}


def runs_data(tree: ast.AST) -> list[str]:
    """Return what in *tree* makes code of data."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names if one.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            found.append(str(node.module))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            found.append(node.func.id)
        elif isinstance(node, ast.keyword) and node.arg == "shell":
            found.append("shell=")
    return found


def test_s21_no_module_makes_code_of_data() -> None:
    """No pickle, no eval, no YAML, no shell."""
    assert runs_data(ast.parse("import pickle\neval('1')\nrun('x', shell=True)")) == [
        *("pickle", "eval", "shell=")
    ]
    paths = list(SOURCE.rglob("*.py"))
    assert len(paths) > 100
    found = {str(path): found for path in paths if (found := runs_data(ast.parse(path.read_bytes())))}
    assert found == {}


def test_s21_each_dependency_has_a_floor() -> None:
    """The oldest version that has been tried; without one pip may choose any that is known to be broken."""
    project = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = project["dependencies"]
    assert wanted
    assert [one for one in wanted if not re.search(r">=\d", one)] == []
