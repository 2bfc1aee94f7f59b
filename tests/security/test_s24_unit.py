"""S-24: systemd accepts the units, and the score of the one that talks to the network is known and kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.systemd import test_unit as units


@pytest.mark.parametrize("manager", units.UNITS)
def test_s24_systemd_accepts_the_unit(tmp_path: Path, manager: str) -> None:
    """`systemd-analyze verify` finds nothing."""
    units.test_systemd_accepts_the_unit(tmp_path, manager)


def test_s24_the_units_score_is_kept(tmp_path: Path) -> None:
    """`systemd-analyze security` prints it, and it is not above 2.0."""
    units.test_the_unit_that_talks_to_the_network_is_closed(tmp_path)
