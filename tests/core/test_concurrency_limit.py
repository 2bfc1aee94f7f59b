"""Requests at once: halved at a SlowDown, one more a round."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from s3mount.core.concurrency_limit import ConcurrencyLimit


def test_it_is_halved_once_for_all_that_were_on_their_way() -> None:
    """Thirty requests that are refused together are one piece of news."""
    limit = ConcurrencyLimit(40)
    assert [limit.slow_down(0) for _ in range(30)] == [True] + [False] * 29
    assert limit.limit == 20
    assert limit.slow_down(1)
    assert limit.limit == 10


def test_the_floor_is_one() -> None:
    """Or nobody would find out that the storm is over."""
    limit = ConcurrencyLimit(5)
    for epoch in range(10):
        limit.slow_down(epoch)
    assert limit.limit == 1


def test_it_grows_by_one_a_round_up_to_where_it_was() -> None:
    """A round is as many answers as there are requests at once."""
    limit = ConcurrencyLimit(4)
    limit.slow_down(0)
    limit.slow_down(1)
    grown = [limit.answered() for _ in range(1 + 2 + 3 + 5)]
    assert grown == [True, False, True, False, False, True, False, False, False, False, False]
    assert limit.limit == 4


@given(st.integers(1, 100), st.lists(st.booleans(), max_size=300))
def test_it_stays_between_one_and_the_ceiling(ceiling: int, storm: list[bool]) -> None:
    """Whatever comes."""
    limit = ConcurrencyLimit(ceiling)
    for slow in storm:
        if slow:
            limit.slow_down(limit.epoch)
        else:
            limit.answered()
        assert 1 <= limit.limit <= ceiling
