"""When a request is sent again, and when not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3mount.core.retries import Fault, RetryPolicy

CHANCES = st.floats(0, 1, exclude_max=True)
TIMES = st.floats(0.001, 1e6)
POLICIES = st.builds(RetryPolicy, st.integers(1, 100))


def wait(
    fault: Fault,
    failed: int,
    *,
    left_s: float = 1000.0,
    asked_s: float | None = None,
    chance: float = 0.5,
    attempts: int = 4,
) -> float | None:
    """Ask the default policy."""
    policy = RetryPolicy(attempts)
    return policy.wait_s(fault, failed=failed, left_s=left_s, asked_s=asked_s, chance=chance)


def test_a_refusal_is_final() -> None:
    """Not one repetition, however much time there is."""
    assert wait(Fault.PERMANENT, 1) is None


@pytest.mark.parametrize("attempts", [1, 2, 4])
def test_passing_failures_have_their_attempts(attempts: int) -> None:
    """The first is one of them."""
    waits = [wait(Fault.PASSING, failed, attempts=attempts) for failed in range(1, attempts + 1)]
    assert waits[-1] is None
    assert None not in waits[:-1]


def test_what_is_garbled_is_asked_for_once_more() -> None:
    """Unless nothing is to be repeated at all."""
    assert wait(Fault.GARBLED, 1) is not None
    assert wait(Fault.GARBLED, 2) is None
    assert wait(Fault.GARBLED, 1, attempts=1) is None


@given(POLICIES, st.integers(1, 10_000), TIMES, CHANCES)
def test_an_overload_is_waited_for_to_the_end(
    policy: RetryPolicy, failed: int, left_s: float, chance: float
) -> None:
    """As long as there is time for another try, and within it."""
    found = policy.wait_s(Fault.SLOW_DOWN, failed=failed, left_s=left_s, asked_s=None, chance=chance)
    assert (found is not None) == (left_s > policy.first_wait_s)
    assert found is None or 0 <= found <= left_s / 4


@given(POLICIES, st.integers(1, 99), TIMES, CHANCES, st.sampled_from(Fault), st.none() | TIMES)
def test_no_wait_reaches_the_deadline_or_is_longer_than_bounded(
    policy: RetryPolicy, failed: int, left_s: float, chance: float, fault: Fault, asked_s: float | None
) -> None:
    """Whatever Retry-After says: a server must not put a caller to sleep for a day."""
    found = policy.wait_s(fault, failed=failed, left_s=left_s, asked_s=asked_s, chance=chance)
    if found is not None:
        assert 0 <= found < left_s
        assert found <= 2 * policy.longest_wait_s or found == left_s / 2


def test_the_jitter_is_full_and_its_bound_doubles() -> None:
    """From nothing at all to the whole bound."""
    bounds = [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    for failed, bound in enumerate(bounds, 1):
        assert wait(Fault.PASSING, failed, chance=0.0, attempts=100) == 0
        assert wait(Fault.PASSING, failed, chance=0.5, attempts=100) == pytest.approx(bound / 2)


def test_retry_after_is_kept_and_spread() -> None:
    """Nobody comes earlier, and not all come at once."""
    assert wait(Fault.SLOW_DOWN, 1, asked_s=3.0, chance=0.0) == 3.0
    assert wait(Fault.SLOW_DOWN, 3, asked_s=3.0, chance=0.5) == pytest.approx(3.4)
