"""The same random operations on a mount and on a local file system have the same results.

Each run plays other cases; the seed of each is printed when it fails, and
``S3MOUNT_ORACLE_SEED=N pytest tests/mounted/test_oracle.py`` plays that one and those after it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from tests.mounted.conftest import MakeMount
from tests.support.oracle import Oracle
from tests.support.oracle_steps import generate
from tests.support.servers import Server

CASES = 200
AT_ONCE = 25

#: Small blocks and parts, so that small files have several. Without a TTL each step asks the server, so
#: that its view and this host's own are laid over each other all the time.
OPTIONS = ("--attributes=exact", "--block-size=64K", "--part-size=5M")


def _first_seed() -> int:
    chosen = os.environ.get("S3MOUNT_ORACLE_SEED")
    return int(chosen) if chosen else secrets.randbelow(10**9)


def _play(options: tuple[str, ...], server: Server, make_mount: MakeMount, local: Path, cases: int) -> None:
    first = _first_seed()
    print(f"seeds {first} to {first + cases - 1}")
    mount = make_mount(server, None, *OPTIONS, *options, watchdog_s=240.0 + cases)
    local.mkdir()
    with Oracle(mount, local) as oracle:
        for start in range(first, first + cases, AT_ONCE):
            seeds = range(start, min(start + AT_ONCE, first + cases))
            played = {f"case-{seed}": generate(seed) for seed in seeds}
            for name, difference in oracle.play(played).items():
                pytest.fail(f"{name} on {server.name}: {oracle.explain(played[name], difference)}")


def test_random_operations_give_what_a_local_file_system_gives(
    real_server: Server, make_mount: MakeMount, tmp_path: Path
) -> None:
    """Results, errnos and the whole tree are those of ext4, also after remounting with empty caches."""
    _play((), real_server, make_mount, tmp_path / "local", CASES)


def test_random_operations_are_right_when_nothing_is_cached(
    real_server: Server, make_mount: MakeMount, tmp_path: Path
) -> None:
    """Asking the server about every name at every step changes nothing."""
    _play(("--ttl=0s", "--negative-ttl=0s"), real_server, make_mount, tmp_path / "local", CASES // 4)
