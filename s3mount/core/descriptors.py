"""How many of the process's file descriptors go to what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OWN = 32
"""For all that is neither a connection nor a spool file: 17 are open in an idle mount, the spool's journal
and locks take a handful, and a name is looked up, a log rotated, a /proc file read now and then."""


@dataclass(frozen=True, slots=True)
class DescriptorPlan:
    """``connections``: how many of each kind may be open. ``spool_files``: how many besides."""

    connections: tuple[int, ...]
    spool_files: int

    @property
    def first_reserved(self) -> int:
        """The number from which on no descriptor is a spool file's."""
        return OWN + self.spool_files


def plan_descriptors(limit: int, wanted: Sequence[int]) -> DescriptorPlan:
    """Share *limit* descriptors out: connections get as many as are wanted, at most a half of what there is.

    Args:
        limit: RLIMIT_NOFILE.
        wanted: connections of each kind; each kind gets at least one.

    Raises: ValueError (too few for even that and as many spool files).
    """
    room = limit - OWN
    if room < 2 * len(wanted):
        raise ValueError(f"{limit} descriptors are too few, {OWN + 2 * len(wanted)} are needed")
    most = room // 2
    total = sum(wanted)
    if total > most:
        # One for each first, so that rounding down never makes a sum over the half.
        spare, rest = most - len(wanted), total - len(wanted)
        wanted = [1 + (one - 1) * spare // rest for one in wanted]
    return DescriptorPlan(tuple(wanted), room - sum(wanted))
