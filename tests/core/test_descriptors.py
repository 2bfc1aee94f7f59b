"""How few file descriptors are shared out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3mount.core.descriptors import OWN, plan_descriptors

WANTED = (8, 8, 4, 16)


@given(limit=st.integers(0, 100_000), wanted=st.lists(st.integers(1, 256), min_size=1, max_size=6))
def test_every_kind_gets_some_and_nobody_too_much(limit: int, wanted: list[int]) -> None:
    """Connections never take more than wanted or than half, spool files the rest; all fit into the limit."""
    try:
        plan = plan_descriptors(limit, wanted)
    except ValueError:
        assert limit < OWN + 2 * len(wanted)
        return
    assert all(1 <= has <= wants for has, wants in zip(plan.connections, wanted, strict=True))
    assert plan.spool_files >= sum(plan.connections) or plan.connections == tuple(wanted)
    assert plan.first_reserved + sum(plan.connections) == limit
    assert sum(plan.connections) == sum(wanted) or limit - OWN < 2 * sum(wanted)


def test_named_limits() -> None:
    """Debian's soft and hard limits change nothing about the connections; 64 leave fewer of both."""
    assert plan_descriptors(1024, WANTED).connections == WANTED
    assert plan_descriptors(1 << 20, WANTED).spool_files == (1 << 20) - OWN - 36
    few = plan_descriptors(64, WANTED)
    assert few.connections == (3, 3, 2, 6)
    assert few.spool_files == 18


def test_too_few_are_refused() -> None:
    """Not even one connection of each kind and as many files: there is no working with that."""
    assert plan_descriptors(40, WANTED).connections == (1, 1, 1, 1)
    with pytest.raises(ValueError, match="39 descriptors are too few, 40 are needed"):
        plan_descriptors(39, WANTED)
