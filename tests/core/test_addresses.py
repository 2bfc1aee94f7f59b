"""Addresses for metrics: on this machine alone."""

from __future__ import annotations

import pytest

from s3mount.core.addresses import MetricsAddress, parse_metrics_address


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("9099", MetricsAddress("127.0.0.1", 9099), "127.0.0.1:9099"),
        ("127.0.0.1:9099", MetricsAddress("127.0.0.1", 9099), "127.0.0.1:9099"),
        ("localhost:80", MetricsAddress("127.0.0.1", 80), "127.0.0.1:80"),
        ("127.9.9.9:80", MetricsAddress("127.9.9.9", 80), "127.9.9.9:80"),
        ("[::1]:9099", MetricsAddress("::1", 9099), "[::1]:9099"),
        ("unix:/run/my.sock", MetricsAddress(path="/run/my.sock"), "unix:/run/my.sock"),
    ],
)
def test_what_is_on_this_machine_is_taken(text: str, expected: MetricsAddress, shown: str) -> None:
    """A port alone is one of 127.0.0.1."""
    assert parse_metrics_address(text) == expected
    assert str(expected) == shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.0.0.0:9099", "other machines"),
        ("[::]:9099", "other machines"),
        ("192.168.1.1:80", "other machines"),
        ("example.com:80", "no IP address"),
        ("127.0.0.1", "no address"),
        ("127.0.0.1:0", "no address"),
        ("127.0.0.1:65536", "no address"),
        ("127.0.0.1:http", "no address"),
        ("", "no address"),
        ("unix:relative", "no absolute path"),
        ("unix:/run/", "no absolute path"),
    ],
)
def test_everything_else_is_refused(text: str, said: str) -> None:
    """Above all what others could reach."""
    with pytest.raises(ValueError, match=said):
        parse_metrics_address(text)
