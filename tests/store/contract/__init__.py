"""The contract of an object store, as checks that every implementation passes on every server.

A check is an async function of a :class:`Subject` with an empty bucket. Where a server is known to
behave otherwise, :data:`DEVIATIONS` says so with the reason, and then the check must fail: a server
that mends its ways shows up as a failure, and the table stays true.
"""

from __future__ import annotations

from tests.store.contract import copies, deletions, keys, listings, objects, reading, uploads
from tests.store.contract.deviations import DEVIATIONS
from tests.store.contract.subject import CHECKS, Subject

__all__ = [
    "CHECKS",
    "DEVIATIONS",
    "Subject",
    "copies",
    "deletions",
    "keys",
    "listings",
    "objects",
    "reading",
    "uploads",
]
