"""The power goes at chosen system calls of the daemon: what was promised is there, garbage goes nowhere.

Each cut is named by a line that plays it again. ``S3MOUNT_CRASH_SEED`` chooses another sample.
"""

from __future__ import annotations

import random

import pytest

from tests.crash.chain import Point, sweep, undisturbed
from tests.crash.conftest import MakeChain
from tests.crash.power import PowerCuts
from tests.crash.syscalls import Kind
from tests.crash.test_kills import SEED
from tests.crash.works import WORKS

#: Those in which syncs come before the answers to the program, or beside.
SAMPLED = ("large", "later")


@pytest.mark.parametrize("work", SAMPLED)
def test_power_cuts_at_some_system_calls_lose_nothing(make_chain: MakeChain, work: str) -> None:
    """After a sync, and before an answer to the kernel: what was answered is there after the next boot."""
    print(f"S3MOUNT_CRASH_SEED={SEED}")
    chance = random.Random(f"{SEED} {work}")
    chain = make_chain(work, PowerCuts)
    counts = undisturbed(chain)
    for kind in (Kind.SYNC, Kind.ANSWER, Kind.SYNC):
        chain.die(Point(kind, chance.randint(1, counts[kind])))
    chain.finish()


@pytest.mark.heavy
@pytest.mark.parametrize("kind", [Kind.SYNC, Kind.ANSWER, Kind.SEND, Kind.UNLINK])
@pytest.mark.parametrize("work", WORKS)
def test_power_cuts_at_every_such_system_call_lose_nothing(
    make_chain: MakeChain, work: str, kind: Kind
) -> None:
    """After the k-th sync, and before the k-th answer, request and unlink, for every k."""
    chain = make_chain(work, PowerCuts)
    sweep(chain, kind)
    chain.finish()
