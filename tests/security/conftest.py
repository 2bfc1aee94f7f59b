"""Fixtures of the security checklist's tests."""

from __future__ import annotations

from tests.store.conftest import Place, place

__all__ = ["Place", "place"]
