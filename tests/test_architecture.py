"""The arrows between layers, and which library belongs to which layer.

``errors <- core <- store.base <- {data | meta} <- fs <- {fuse | control} <- mount <- cli``: imports point
leftwards. Imports inside functions and under TYPE_CHECKING count as well. The largest modules and functions
are printed for the reader: ``pytest -s tests/test_architecture.py``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "s3mount"

# Modules that are a layer by themselves; others belong to the layer of their directory.
OWN_LAYER = {
    "s3mount": "package",  # the version
    "s3mount.__main__": "cli",
    "s3mount.store.base": "store.base",
    "s3mount.settings": "mount",
    **{f"s3mount.{name}": "process" for name in ("logs", "runtime", "service")},
}
CONTRACT = {"errors", "core", "store.base"}
MAY_IMPORT = {
    "package": set[str](),
    "errors": set[str](),
    "core": {"errors"},
    "store.base": {"errors", "core"},
    "store": CONTRACT,
    "data": CONTRACT,
    "meta": CONTRACT,
    "fs": {*CONTRACT, "data", "meta"},
    "mounter": {"package", "errors", "core", "config"},
    "fuse": {*CONTRACT, "data", "meta", "fs"},
    "control": {*CONTRACT, "data", "meta", "fs"},
    "process": {"package", "errors", "core"},
    "config": {"package", "errors", "core"},
    "mount": {
        *(*CONTRACT, "package", "data", "meta", "fs", "fuse", "control", "store", "process", "config"),
        "mounter",
    },
    "cli": {
        *(*CONTRACT, "package", "data", "meta", "fs", "fuse", "control", "process", "config", "mount"),
        "mounter",
    },
}
LIBRARIES = {
    "store": {"boto3", "botocore", "trio", "urllib3"},
    "data": {"cachetools", "trio"},
    "meta": {"cachetools", "trio"},
    "fs": {"trio"},
    "fuse": {"pyfuse3", "trio"},
    "control": {"h11", "prometheus_client", "trio"},
    "mount": {"trio"},
    "cli": {"pyarrow", "rich", "trio"},
}
# No clock, no files, no network, no chance, no logging: what core decides follows from its arguments.
NOT_IN_CORE = {
    *("asyncio", "concurrent", "multiprocessing", "subprocess", "threading", "signal", "logging", "time"),
    *("random", "secrets", "fcntl", "glob", "io", "mmap", "os", "pathlib", "shutil", "sqlite3", "tempfile"),
    *("ftplib", "http", "select", "selectors", "socket", "socketserver", "ssl", "urllib"),
}
CALLS = {"open", "print", "input", "__import__"}


def layer_of(module: str) -> str:
    """Return the layer of a module by its dotted name."""
    return OWN_LAYER.get(module) or module.split(".")[1]


def imports_of(module: str, tree: ast.Module, modules: Mapping[str, str], is_package: bool) -> Iterator[str]:
    """Yield the dotted name of every module that *tree* imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: -node.level + is_package or None]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                yield submodule if submodule in modules else base


def violations(modules: Mapping[str, str], packages: frozenset[str] = frozenset()) -> list[str]:
    """Return what is wrong with *modules* (dotted name -> source), a line each.

    *packages* are the names that stand for an ``__init__.py``.
    """
    wrong = []
    for module, source in modules.items():
        tree, layer = ast.parse(source), layer_of(module)
        if layer not in MAY_IMPORT:
            wrong.append(f"{module} belongs to no layer")
            continue
        for imported in imports_of(module, tree, modules, module in packages):
            top = imported.partition(".")[0]
            if top == "s3mount":
                if layer_of(imported) not in {layer, *MAY_IMPORT[layer]}:
                    wrong.append(f"{module} imports {imported}")
            elif top not in sys.stdlib_module_names:
                if top not in LIBRARIES.get(layer, set()):
                    wrong.append(f"{module} imports {imported}")
            elif top == "importlib" and imported not in ("importlib.metadata", "importlib.resources"):
                wrong.append(f"{module} imports what this test cannot see, by {imported}")
            elif layer == "core" and top in NOT_IN_CORE:
                wrong.append(f"{module} imports {imported}")
        if layer == "core":
            wrong += [f"{module}:{node.lineno} {what}" for node, what in impurities(tree)]
    return wrong


def impurities(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """Yield what pure code must not do without any import: wait, open files, talk."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef):
            yield node, f"async def {node.name}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            yield node, f"calls {node.func.id}"


def read_package() -> tuple[dict[str, str], frozenset[str]]:
    """Return the sources of s3mount by module, and the names of its packages."""
    modules, packages = {}, set()
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[module] = path.read_text()
        if parts[-1] == "__init__":
            packages.add(module)
    return modules, frozenset(packages)


def test_imports_point_leftwards_and_libraries_stay_in_their_layer() -> None:
    """No module imports a layer to its right or a library that belongs to another layer."""
    modules, packages = read_package()
    assert {"s3mount.errors", "s3mount.core.keys", "s3mount.store.base"} <= modules.keys()
    assert violations(modules, packages) == []


def test_the_largest_are_printed() -> None:
    """The ten largest modules and functions, in lines, for whoever looks for what to divide next."""
    modules, _ = read_package()
    sizes = sorted(((len(source.splitlines()), name) for name, source in modules.items()), reverse=True)
    functions = sorted(
        (
            ((node.end_lineno or node.lineno) - node.lineno + 1, f"{name}.{node.name}")
            for name, source in modules.items()
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ),
        reverse=True,
    )
    for title, rows in (("modules", sizes), ("functions", functions)):
        print(f"\nlargest {title}:", *(f"{lines:6} {name}" for lines, name in rows[:10]), sep="\n")
    assert len(sizes) >= 10
    assert len(functions) >= 10


EMPTY = {
    f"s3mount.{name}": ""
    for name in (
        *("errors", "core.keys", "store.base", "store.s3", "data.reader", "meta.inodes", "fs.files"),
        *("mount", "config.model", "logs", "control.server"),
    )
}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("s3mount.errors", "from s3mount.core import keys"),
        ("s3mount.core.keys", "import s3mount.store.base"),
        ("s3mount.core.keys", "from ..store import base"),
        ("s3mount.core.keys", "from .. import logs"),
        ("s3mount.core.keys", "import trio"),
        ("s3mount.core.keys", "import os.path"),
        ("s3mount.core.keys", "from time import monotonic"),
        ("s3mount.core.keys", "async def wait(): pass"),
        ("s3mount.core.keys", "def read(): return open('/etc/passwd')"),
        ("s3mount.store.base", "from s3mount.store.s3 import S3Store"),
        ("s3mount.store.s3", "from s3mount.data import reader"),
        ("s3mount.data.reader", "from s3mount.meta.inodes import InodeTable"),
        ("s3mount.meta.inodes", "from s3mount.data.reader import ObjectReader"),
        ("s3mount.meta.inodes", "def later():\n    from s3mount.fs import files"),
        ("s3mount.data.reader", "from s3mount.store import base, s3"),
        ("s3mount.data.reader", "from botocore.exceptions import ClientError"),
        ("s3mount.fs.files", "import pyfuse3"),
        ("s3mount.fs.files", "if TYPE_CHECKING:\n    import boto3"),
        ("s3mount.fs.files", "from s3mount.config import model"),
        ("s3mount.fs.files", "from s3mount import logs"),
        ("s3mount.fs.files", "import importlib"),
        ("s3mount.fuse.operations", "import boto3"),
        ("s3mount.fuse.operations", "from s3mount import mount"),
        ("s3mount.fuse.operations", "from s3mount.control import server"),
        ("s3mount.control.server", "import pyfuse3"),
        ("s3mount.control.server", "from s3mount.store.s3 import S3Store"),
        ("s3mount.mount", "import pyfuse3"),
        ("s3mount.mount", "from s3mount.cli import parser"),
        ("s3mount.cli.mount", "from s3mount.store.s3 import S3Store"),
        ("s3mount.cli.mount", "import requests"),
        ("s3mount.utils.misc", ""),
    ],
)
def test_a_wrong_arrow_is_seen(module: str, source: str) -> None:
    """Each of these lines would make the test above fail."""
    assert violations(EMPTY) == []
    assert len(violations({**EMPTY, module: source})) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "s3mount.core.listing",
            "import re\nfrom s3mount.core.keys import Location\nfrom .keys import resolve",
        ),
        ("s3mount.store.s3", "import boto3, time\nfrom s3mount.store import base"),
        ("s3mount.fs.files", "import trio, os\nfrom s3mount.data.reader import ObjectReader"),
        ("s3mount.mount", "from s3mount.store.s3 import S3Store\nfrom s3mount import logs, config"),
        ("s3mount.cli.mount", "from s3mount import mount\nfrom importlib.metadata import version"),
    ],
)
def test_right_arrows_are_left_alone(module: str, source: str) -> None:
    """What the architecture allows is not complained about."""
    assert violations({**EMPTY, module: source}) == []


def test_relative_imports_of_a_package_are_followed() -> None:
    """One dot means the package itself in an ``__init__.py``, its package elsewhere."""
    modules = {**EMPTY, "s3mount.fs": "from . import files", "s3mount.meta": "from .. import mount"}
    assert violations(modules, frozenset({"s3mount.fs", "s3mount.meta"})) == [
        "s3mount.meta imports s3mount.mount"
    ]
