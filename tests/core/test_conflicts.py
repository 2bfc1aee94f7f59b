"""The name of the version that lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from s3mount.core.conflicts import key_beside

NOON_NS = 1_769_860_800 * 1_000_000_000


def test_the_extension_stays_last() -> None:
    """Programs go by it."""
    assert key_beside("a/b.txt", "here", NOON_NS) == "a/b (here 2026-01-31 120000).txt"
    assert key_beside("a.b/c", "here", NOON_NS) == "a.b/c (here 2026-01-31 120000)"
    assert key_beside(".profile", "here", NOON_NS) == ".profile (here 2026-01-31 120000)"


@given(st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=300))
def test_the_name_is_never_too_long(name: str) -> None:
    """255 bytes, whole characters."""
    beside = key_beside(f"d/{name}", "h" * 300, NOON_NS).removeprefix("d/")
    assert len(beside.encode()) <= 255
    assert "2026-01-31 120000" in beside
