"""The examples of docs/semantics.md, run as they stand on a mount on each real server.

A ``console`` block begins in an empty bucket that is mounted at the current directory. Its commands
(``$ …``, going on after ``> ``) run in one shell, and the lines after each are what it prints, errors
included; ``…`` stands for anything within a line. What follows the word ``console`` are options of the
mount.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ServerPool
from tests.mounted.conftest import REAL_SERVERS
from tests.support.bucket import Bucket
from tests.support.mounting import Mount

DOCUMENT = Path(__file__).parents[2] / "docs" / "semantics.md"
AWS = Path(__file__).parents[1] / "support" / "aws_cli.py"
ANYTHING = "…"
BLOCK_S = 60.0


@dataclass(frozen=True)
class Step:
    """A command and what it is said to print."""

    command: str
    expected: list[str]


@dataclass(frozen=True)
class Example:
    """One console block: where it begins, the mount's options, its steps."""

    line: int
    options: tuple[str, ...]
    steps: tuple[Step, ...]


def examples(text: str) -> list[Example]:
    """Return the console blocks of a Markdown document."""
    found: list[Example] = []
    steps: list[Step] | None = None
    options: tuple[str, ...] = ()
    start = 0
    for number, line in enumerate(text.splitlines(), 1):
        if steps is None:
            if line.startswith("```console"):
                steps, start, options = [], number, tuple(line.split()[1:])
        elif line == "```":
            found.append(Example(start, options, tuple(steps)))
            steps = None
        elif line.startswith("$ "):
            steps.append(Step(line[2:], []))
        elif line.startswith("> "):
            steps[-1] = Step(f"{steps[-1].command}\n{line[2:]}", [])
        else:
            assert steps, f"line {number}: output without a command"
            steps[-1].expected.append(line)
    return found


EXAMPLES = examples(DOCUMENT.read_text(encoding="utf-8"))


class Mounts:
    """Mounts of one empty bucket on each server, by options, each started when first needed."""

    def __init__(self, pool: ServerPool, base: Path, stack: ExitStack) -> None:
        self._pool, self._base, self._stack = pool, base, stack
        self._running: dict[tuple[str, tuple[str, ...]], Mount] = {}

    def get(self, server: str, options: tuple[str, ...]) -> Mount:
        """Return the mount with exactly *options*."""
        if (server, options) not in self._running:
            base = self._base / f"{server}{len(self._running)}"
            base.mkdir()
            real = self._pool.get(server)
            mount = Mount(real, real.fresh_bucket(), base, options)
            self._running[server, options] = self._stack.enter_context(mount)
        return self._running[server, options]


@pytest.fixture(scope="module")
def mounts(server_pool: ServerPool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounts]:
    """The mounts of this module."""
    with ExitStack() as stack:
        yield Mounts(server_pool, tmp_path_factory.mktemp("semantics"), stack)


@pytest.mark.parametrize("server", REAL_SERVERS)
@pytest.mark.parametrize("example", EXAMPLES, ids=[f"line{example.line}" for example in EXAMPLES])
def test_example_prints_what_the_document_says(
    mounts: Mounts, server: str, example: Example, tmp_path: Path
) -> None:
    """Every line that the document shows is printed, and no other."""
    mount = mounts.get(server, example.options)
    bucket = Bucket(mount.server, mount.bucket)
    try:
        printed = run(mount, example, tmp_path)
    finally:
        subprocess.run(["rm", "-rf", *map(str, mount.path.iterdir())], check=True, timeout=BLOCK_S)
    assert bucket.keys() == []
    mount.check_log()
    for step, lines in zip(example.steps, printed, strict=True):
        assert matches(step.expected, lines), f"$ {step.command}\n" + "\n".join(lines)


def run(mount: Mount, example: Example, tmp_path: Path) -> list[list[str]]:
    """Run the commands of *example* in one shell; return the lines that each printed."""
    bin_path = tmp_path / "bin"
    bin_path.mkdir()
    (bin_path / "aws").symlink_to(AWS)
    end = "<end of a step>"
    script = "".join(f"{step.command}\necho; echo '{end}'\n" for step in example.steps)
    environment = {
        "PATH": f"{bin_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "BUCKET": mount.bucket,
        "AWS_ENDPOINT_URL": mount.server.endpoint_url,
        "PYTHONDONTWRITEBYTECODE": "1",
        **mount.server.environment(),
    }
    done = subprocess.run(
        ["bash", "--norc"],
        input=script.encode(),
        cwd=mount.path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=BLOCK_S,
    )
    text = done.stdout.decode(errors="backslashreplace")
    outputs = text.split(f"\n{end}\n")
    assert len(outputs) == len(example.steps) + 1, text
    return [output.splitlines() for output in outputs[:-1]]


def matches(expected: list[str], printed: list[str]) -> bool:
    """Whether *printed* is what is expected; ``…`` in a line matches anything."""
    while printed and not printed[-1]:
        printed.pop()
    if len(expected) != len(printed):
        return False
    patterns = (".*".join(map(re.escape, line.split(ANYTHING))) for line in expected)
    return all(re.fullmatch(pattern, line) for pattern, line in zip(patterns, printed, strict=True))


def test_the_document_has_examples() -> None:
    """A change of the document's form must not make its test empty."""
    assert len(EXAMPLES) > 12
    assert all(example.steps for example in EXAMPLES)


def test_matching_tells_lines_apart() -> None:
    """The comparison fails on a line that is missing, too much or different."""
    assert matches(["a…c"], ["abbc", ""])
    assert not matches(["a"], [])
    assert not matches([], ["a"])
    assert not matches(["a.c"], ["abc"])
