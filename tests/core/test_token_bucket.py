"""A token bucket: the rate holds over any time, and nobody waits longer than it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3mount.core.token_bucket import BURST_S, TokenBucket

RATES = st.floats(1.0, 1e9)
STEPS = st.lists(st.tuples(st.floats(0.0, 30.0), st.floats(0.0, 20.0)), min_size=1, max_size=30)


@given(RATES, STEPS)
def test_in_any_time_all_but_the_last_is_within_the_rate_and_one_bucket(
    rate: float, steps: list[tuple[float, float]]
) -> None:
    """Whatever comes when, and however large it is: each goes as soon as it may."""
    bucket = TokenBucket(rate)
    now, went = 0.0, []
    for pause_s, seconds_worth in steps:
        amount = rate * seconds_worth
        now += pause_s
        now += bucket.wait_s(amount, now)
        assert bucket.wait_s(amount, now) == 0
        bucket.take(amount, now)
        went.append((now, amount))
    for first in range(len(went)):
        for last in range(first, len(went)):
            span_s = went[last][0] - went[first][0]
            before_the_last = sum(amount for _, amount in went[first:last])
            assert before_the_last <= (rate * (span_s + BURST_S)) * (1 + 1e-5) + 1e-3


@given(RATES, STEPS)
def test_nobody_waits_longer_than_what_went_before_takes(
    rate: float, steps: list[tuple[float, float]]
) -> None:
    """A limit is no punishment: the wait is at most the debt and a bucket."""
    bucket = TokenBucket(rate)
    now, debt_s = 0.0, 0.0
    for pause_s, seconds_worth in steps:
        now += pause_s
        debt_s = max(0.0, debt_s - pause_s)
        wait_s = bucket.wait_s(rate * seconds_worth, now)
        assert wait_s <= debt_s + BURST_S + 1e-3
        now += wait_s
        bucket.take(rate * seconds_worth, now)
        debt_s = max(0.0, debt_s - wait_s) + seconds_worth


def test_without_a_rate_nothing_waits() -> None:
    """However much it is."""
    bucket = TokenBucket(None)
    bucket.take(1e12, 0.0)
    assert bucket.wait_s(1e12, 0.0) == 0.0


def test_a_new_rate_keeps_the_time_of_a_debt_and_no_rate_forgives_it() -> None:
    """Who waits for five seconds does so at any rate."""
    bucket = TokenBucket(10.0)
    bucket.take(60.0, 0.0)
    assert bucket.wait_s(0.0, 0.0) == pytest.approx(5.0)
    bucket.set_rate(100.0, 0.0)
    assert bucket.wait_s(0.0, 0.0) == pytest.approx(5.0)
    bucket.set_rate(None, 1.0)
    assert bucket.wait_s(1e9, 1.0) == 0.0
    bucket.set_rate(10.0, 1.0)
    assert bucket.wait_s(0.0, 1.0) == 0.0
