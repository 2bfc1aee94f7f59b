"""SIGKILL at chosen system calls of the daemon: what was promised is there, nothing is torn or left over.

Each death is named by a line that plays it again. ``S3MOUNT_CRASH_SEED`` chooses another sample.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from tests.crash.chain import sample, sweep
from tests.crash.conftest import MakeChain
from tests.crash.syscalls import Kind
from tests.crash.works import WORKS

SEED = os.environ.get("S3MOUNT_CRASH_SEED", "1")
SAMPLE = 2


@pytest.mark.parametrize("work", WORKS)
def test_kills_at_some_system_calls_lose_nothing(make_chain: MakeChain, work: str) -> None:
    """A sample of what the sweep does."""
    chance = random.Random(f"{SEED} {work}")
    print(f"S3MOUNT_CRASH_SEED={SEED}")

    def choose(counts: Counter[Kind]) -> list[tuple[Kind, int]]:
        kinds = sorted(counts)
        chosen = chance.sample(kinds, min(SAMPLE, len(kinds)))
        return [(kind, chance.randint(1, counts[kind])) for kind in chosen]

    chain = make_chain(work)
    sample(chain, choose)
    chain.finish()


@pytest.mark.heavy
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("work", WORKS)
def test_kills_at_every_system_call_lose_nothing(make_chain: MakeChain, work: str, kind: Kind) -> None:
    """The k-th write, sync, rename, unlink, request and answer, for every k."""
    chain = make_chain(work)
    sweep(chain, kind)
    chain.finish()
