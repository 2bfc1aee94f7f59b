"""When a server counts as out of reach."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3mount.core.outage import AFTER_S, FAILURES, FIRST_PROBE_S, LONGEST_PROBE_S, Outage, probe_wait_s


def test_a_burst_of_failures_is_no_outage() -> None:
    """A server that restarts breaks a hundred connections in a second."""
    outage = Outage()
    assert not any(outage.failed(began_s=100.0, now_s=100.0 + n / 100) for n in range(100))
    assert outage.failed(began_s=110.0, now_s=110.0)


def test_one_request_that_hangs_is_no_outage() -> None:
    """It may be about one object."""
    outage = Outage()
    assert not outage.failed(began_s=0.0, now_s=30.0)
    assert not outage.failed(began_s=0.0, now_s=60.0)
    assert outage.failed(began_s=60.0, now_s=90.0)


def test_an_answer_in_between_begins_the_count_anew() -> None:
    """Also for requests that had begun before it."""
    outage = Outage()
    for now_s in (1.0, 2.0, 3.0):
        outage.failed(began_s=0.0, now_s=now_s)
    assert not outage.answered(now_s=9.0)
    for _ in range(FAILURES):
        assert not outage.failed(began_s=0.0, now_s=12.0)
    assert outage.failed(began_s=0.0, now_s=9.0 + AFTER_S)
    assert outage.since_s == 9.0


def test_an_outage_begins_and_ends_once() -> None:
    """Each is one line in the log."""
    outage = Outage()
    began = [outage.failed(began_s=0.0, now_s=now_s) for now_s in range(5, 50)]
    assert began.count(True) == 1
    assert outage.is_on
    assert [outage.answered(now_s=60.0) for _ in range(3)] == [True, False, False]
    assert not outage.is_on


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 20), st.floats(0, 60)), max_size=60))
def test_an_outage_is_three_failures_and_ten_seconds_without_an_answer(
    events: list[tuple[bool, float, float]],
) -> None:
    """Whatever the order: no more, no less."""
    outage, now_s, answered_s = Outage(), 0.0, float("-inf")
    begun: list[float] = []
    for is_answer, pause_s, took_s in events:
        now_s += pause_s
        if is_answer:
            outage.answered(now_s=now_s)
            answered_s, begun = now_s, []
        else:
            outage.failed(began_s=now_s - took_s, now_s=now_s)
            begun.append(max(now_s - took_s, answered_s))
        expected = len(begun) >= FAILURES and now_s - min(begun) >= AFTER_S
        assert outage.is_on == expected


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_probes_become_rarer_up_to_a_bound(chance: float) -> None:
    """And are spread."""
    waits = [probe_wait_s(failed, chance) for failed in range(100)]
    assert waits == sorted(waits)
    assert FIRST_PROBE_S / 2 <= waits[0] <= FIRST_PROBE_S
    assert LONGEST_PROBE_S / 2 <= waits[-1] <= LONGEST_PROBE_S
