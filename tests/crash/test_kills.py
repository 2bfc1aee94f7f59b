"""SIGKILL at chosen system calls of the daemon: what was promised is there, nothing is torn or left over.

Each death is named by a line that plays it again. ``S3MOUNT_CRASH_SEED`` chooses another sample.
"""

from __future__ import annotations

import os
import random
from fractions import Fraction

import pytest

from tests.crash.chain import Point, sweep, sweep_recovery, undisturbed
from tests.crash.conftest import MakeChain
from tests.crash.syscalls import Kind
from tests.crash.works import WORKS

SEED = os.environ.get("S3MOUNT_CRASH_SEED", "1")
SAMPLE = 2

#: Works that leave something to be finished if they are cut off at that share of their calls of a kind.
UNFINISHED = [
    ("large", Kind.SEND, Fraction(1, 2)),
    ("later", Kind.ANSWER, Fraction(3, 4)),
]


@pytest.mark.parametrize("work", WORKS)
def test_kills_at_some_system_calls_lose_nothing(make_chain: MakeChain, work: str) -> None:
    """A sample of what the sweep does."""
    print(f"S3MOUNT_CRASH_SEED={SEED}")
    chance = random.Random(f"{SEED} {work}")
    chain = make_chain(work)
    counts = undisturbed(chain)
    for kind in chance.sample(sorted(counts), SAMPLE):
        chain.die(Point(kind, chance.randint(1, counts[kind])))
    chain.finish()


@pytest.mark.heavy
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("work", WORKS)
def test_kills_at_every_system_call_lose_nothing(make_chain: MakeChain, work: str, kind: Kind) -> None:
    """The k-th write, sync, rename, unlink, request and answer, for every k."""
    chain = make_chain(work)
    sweep(chain, kind)
    chain.finish()


@pytest.mark.parametrize(("work", "kind", "share"), UNFINISHED)
def test_a_kill_of_the_mount_that_finishes_the_work_of_one_that_was_killed_loses_nothing(
    make_chain: MakeChain, work: str, kind: Kind, share: Fraction
) -> None:
    """Each of three mounts dies; the fourth finishes it all."""
    print(f"S3MOUNT_CRASH_SEED={SEED}")
    chance = random.Random(f"{SEED} {work}")
    chain = make_chain(work)
    assert chain.die(Point(kind, int(undisturbed(chain)[kind] * share))) is None
    for again in (Kind.SEND, Kind.WRITE):
        chain.die_again(Point(again, chance.randint(1, 12)))
    chain.finish()


@pytest.mark.heavy
@pytest.mark.parametrize("again", [Kind.WRITE, Kind.SYNC, Kind.SEND, Kind.UNLINK])
@pytest.mark.parametrize(("work", "kind", "share"), UNFINISHED)
def test_kills_at_every_system_call_of_a_recovery_lose_nothing(
    make_chain: MakeChain, work: str, kind: Kind, share: Fraction, again: Kind
) -> None:
    """The same for every k of the mount that recovers."""
    chain = make_chain(work)
    sweep_recovery(chain, Point(kind, int(undisturbed(chain)[kind] * share)), again)
    chain.finish()
