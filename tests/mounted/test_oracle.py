"""The same operations on a mount and on a local file system have the same results.

Random cases are others in each run; the seed of each is printed when it fails, and
``S3MOUNT_ORACLE_SEED=N pytest tests/mounted/test_oracle.py`` plays that one and those after it.
What is different on purpose is listed in tests/support/oracle.py.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounted.conftest import MakeMount
from tests.support.oracle import Oracle
from tests.support.oracle_agent import Step
from tests.support.oracle_steps import REMOUNT, generate
from tests.support.servers import Server

CASES = 200
#: Each step asks the server then, which takes its time.
CASES_UNCACHED = 12
AT_ONCE = 25

#: Small blocks and parts, so that small files have several.
OPTIONS = ("--attributes=exact", "--block-size=64K", "--part-size=5M", "--owners=bucket")
UNCACHED = ("--ttl=0s", "--negative-ttl=0s")

#: What random cases have found, made small, by what a user saw.
FOUND: dict[str, list[Step]] = {
    "a-time-of-1970-is-shown": [
        Step("store", {"path": "c", "seed": 1, "size": 2}),
        Step("utime", {"path": "c", "mtime_ns": 0, "follow": True}),
    ],
    "truncating-an-empty-file-touches-it": [
        Step("store", {"path": "b", "seed": 1, "size": 0}),
        Step("utime", {"path": "b", "mtime_ns": 1_400_000_000_000_000_001, "follow": True}),
        Step("store", {"path": "b", "seed": 1, "size": 0}),
    ],
    "a-name-too-long-is-too-long-in-a-known-directory": [
        Step("listdir", {"path": ""}),
        Step("stat", {"path": "x" * 300}),
    ],
    "a-removed-directory-that-is-open-stays-removed": [
        Step("mkdir", {"path": "c", "mode": 0o755}),
        Step("open", {"slot": 0, "path": "c", "flags": os.O_RDONLY, "mode": 0}),
        Step("rmdir", {"path": "c"}),
        Step("fchmod", {"slot": 0, "mode": 0o700}),
        Step("futime", {"slot": 0, "mtime_ns": 10**9}),
    ],
    "what-an-open-new-file-replaced-stays-gone": [
        Step("store", {"path": "d", "seed": 1, "size": 3}),
        Step("open", {"slot": 1, "path": "b", "flags": os.O_RDWR | os.O_CREAT, "mode": 0o644}),
        Step("rename", {"old": "b", "new": "d"}),
        Step("unlink", {"path": "d"}),
        Step("mkdir", {"path": "d", "mode": 0o755}),
    ],
}


def _first_seed() -> int:
    chosen = os.environ.get("S3MOUNT_ORACLE_SEED")
    return int(chosen) if chosen else secrets.randbelow(10**9)


def _random_cases(count: int) -> Iterator[dict[str, list[Step]]]:
    first = _first_seed()
    print(f"seeds {first} to {first + count - 1}")
    for start in range(first, first + count, AT_ONCE):
        seeds = range(start, min(start + AT_ONCE, first + count))
        yield {f"case-{seed}": generate(seed) for seed in seeds}


def _play(oracle: Oracle, cases: dict[str, list[Step]]) -> None:
    for name, difference in oracle.play(cases).items():
        pytest.fail(f"{name}: {oracle.explain(cases[name], difference)}", pytrace=False)


@pytest.fixture(params=[(), UNCACHED], ids=["cached", "uncached"])
def options(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """With what is known believed for a while, and with everything asked again at every step."""
    return (*OPTIONS, *request.param)


@pytest.fixture
def oracle(
    real_server: Server, make_mount: MakeMount, tmp_path: Path, options: tuple[str, ...]
) -> Iterator[Oracle]:
    """A mount of a fresh bucket beside a local directory."""
    local = tmp_path / "local"
    local.mkdir()
    with Oracle(make_mount(real_server, None, *options), local) as made:
        yield made


def test_what_random_operations_found_stays_right(oracle: Oracle) -> None:
    """Each difference that was found once is none any more, also after remounting."""
    tree = Step("tree", {}, looks=False)
    _play(oracle, {name: [*steps, tree, REMOUNT, tree] for name, steps in FOUND.items()})


def test_random_operations_give_what_a_local_file_system_gives(
    oracle: Oracle, options: tuple[str, ...]
) -> None:
    """Results, errnos and the whole tree are those of ext4, also after remounting with empty caches."""
    for cases in _random_cases(CASES_UNCACHED if UNCACHED[0] in options else CASES):
        _play(oracle, cases)


@pytest.mark.heavy
def test_many_random_operations_give_what_a_local_file_system_gives(
    oracle: Oracle, options: tuple[str, ...]
) -> None:
    """The same for many more."""
    for cases in _random_cases(120 if UNCACHED[0] in options else 1000):
        _play(oracle, cases)
