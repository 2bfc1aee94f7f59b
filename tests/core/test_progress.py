"""Whether a drain gets on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from s3mount.core.progress import Progress


def test_what_changes_moves_and_what_does_not_moves_only_for_the_patience() -> None:
    """A change after a stall is a movement again."""
    progress = Progress(10.0)
    assert progress.moves(1, 100.0)
    assert progress.moves(1, 109.9)
    assert not progress.moves(1, 110.0)
    assert not progress.moves(1, 200.0)
    assert progress.moves(2, 201.0)
    assert progress.moves(2, 210.9)


def test_what_is_held_back_on_this_side_does_not_stall() -> None:
    """However long; the patience begins when it is held back no more."""
    progress = Progress(10.0)
    assert all(progress.moves(1, 100.0 + 20 * turn, is_held_back=True) for turn in range(10))
    assert progress.moves(1, 289.9)
    assert not progress.moves(1, 290.0)


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 50)), min_size=1))
def test_it_moves_exactly_where_the_last_change_is_recent(steps: list[tuple[int, float]]) -> None:
    """Compared with the whole history."""
    progress, now, history = Progress(20.0), 0.0, []
    for mark, wait in steps:
        now += wait
        history.append((mark, now))
        since = now
        for old, at in reversed(history):
            if old != mark:
                break
            since = at
        assert progress.moves(mark, now) == (now - since < 20.0)
