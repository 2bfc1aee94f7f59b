"""The n-th request of ordinary programs fails, in every way: nothing is lost, mixed up or misreported."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import pytest

from tests.conftest import ServerPool
from tests.sweeps.faults import FAULTS, Cell
from tests.sweeps.programs import PREPARED
from tests.sweeps.runner import Outcome, Runner

SEED = os.environ.get("S3MOUNT_SWEEP_SEED", "1")
"""Chooses the sample."""


@pytest.fixture(scope="module")
def runner(server_pool: ServerPool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """Mounts on MinIO; at the end no upload is left, and the daemons use what they used in the beginning."""
    runner = Runner(server_pool.get("minio"), tmp_path_factory.mktemp("sweep") / "sweep")
    complaints = ["the runner was not closed"]
    try:
        yield runner
    finally:
        complaints = runner.close()
    assert not complaints, "\n".join(complaints)


def chosen(program: str, fault: str, count: int) -> Cell:
    """Return the one cell of the sample with that fault."""
    number = int.from_bytes(hashlib.sha256(f"{SEED} {program} {fault}".encode()).digest()[:8], "big")
    return Cell(program, fault, bool(number & 1), 1 + (number >> 1) % count)


def complaints(outcomes: list[Outcome]) -> str:
    """Return all that was wrong, by cell."""
    return "\n".join(f"{one.cell}:\n  " + "\n  ".join(one.complaints) for one in outcomes if one.complaints)


@pytest.mark.parametrize("program", PREPARED)
def test_a_sample_of_the_sweep(runner: Runner, program: str) -> None:
    """Each fault once in each program, at a request that the seed chooses."""
    print(f"S3MOUNT_SWEEP_SEED={SEED}")
    cells = [chosen(program, fault, runner.requests_of(program)) for fault in FAULTS]
    wrong = complaints(runner.run(cells))
    assert not wrong, wrong


@pytest.mark.heavy
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "sticky"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("program", PREPARED)
def test_the_sweep(runner: Runner, program: str, fault: str, sticky: bool) -> None:
    """Every request of the program is failed, until a run makes fewer."""
    outcomes = runner.sweep(program, fault, sticky)
    wrong = complaints(outcomes)
    assert not wrong, wrong
