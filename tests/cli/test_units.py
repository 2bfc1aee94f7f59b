"""Sizes, times and modes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3mount.config.units import (
    format_mode,
    format_seconds,
    format_size,
    parse_mode,
    parse_seconds,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096b", 4096),
        ("64k", 64 * 1024),
        ("64M", 64 * 1024**2),
        ("64MiB", 64 * 1024**2),
        ("64 MiB", 64 * 1024**2),
        ("64MB", 64_000_000),
        ("1GiB", 1024**3),
        ("1.5g", 3 * 1024**3 // 2),
        ("2T", 2 * 1024**4),
    ],
)
def test_sizes_mean_what_gnu_programs_take_them_to_mean(text: str, size: int) -> None:
    """M and MiB are powers of 1,024, MB of 1,000; no suffix means bytes."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1X", "1 2", "1iB", "0x10", "1e3", "NaN", "1MiBs"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """Nothing is guessed from a size that is not one."""
    with pytest.raises(ValueError, match="no size"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=1 << 60))
def test_a_formatted_size_reads_back_as_itself(size: int) -> None:
    """What the help shows can be typed in again."""
    assert parse_size(format_size(size).replace(" bytes", "")) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5.0), ("5s", 5.0), ("0.5", 0.5), ("500ms", 0.5), ("1m", 60.0), ("2h", 7200.0), ("1d", 86400.0)],
)
def test_times_are_seconds_unless_they_say_otherwise(text: str, seconds: float) -> None:
    """ms, s, m, h and d are understood."""
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1y", "inf", "5 s s"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Nothing is guessed from a time that is not one."""
    with pytest.raises(ValueError, match="no time"):
        parse_seconds(text)


@pytest.mark.parametrize(("seconds", "text"), [(5.0, "5s"), (60.0, "1m"), (0.5, "500ms"), (90.0, "90s")])
def test_times_are_shown_with_their_unit(seconds: float, text: str) -> None:
    """What the help shows can be typed in again."""
    assert format_seconds(seconds) == text
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(("text", "mode"), [("644", 0o644), ("0755", 0o755), ("0o022", 0o022), ("0", 0)])
def test_modes_are_octal(text: str, mode: int) -> None:
    """With or without leading zeros, as chmod takes them."""
    assert parse_mode(text) == mode
    assert parse_mode(format_mode(mode)) == mode


@pytest.mark.parametrize("text", ["", "888", "rwx", "4755", "-1", "0x1"])
def test_what_is_no_mode_is_refused(text: str) -> None:
    """Set-uid bits among them: a bucket hands out no privileges."""
    with pytest.raises(ValueError, match="no mode"):
        parse_mode(text)
