"""How long names are believed, and what is asked about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AttributesMode = Literal["list", "auto", "exact"]


@dataclass(slots=True)
class NamePolicy:
    """Times in seconds; they may be changed at any time, and hold for what is asked from then on.

    ``ttl_s``: entries, attributes and listings are not asked again for so long. ``negative_ttl_s``: the
    same for names that are not there. ``attributes``: whether stored attributes that a LIST does not
    show are asked for with HEAD: never, where a sample of the directory carries them, always.
    ``list_shows_attributes``: the server puts the metadata into LIST, so that none need be asked (None:
    not seen yet, the first listed object tells).
    ``max_cached_names``: entries kept beyond those that the kernel itself holds.
    """

    ttl_s: float = 5.0
    negative_ttl_s: float = 2.0
    attributes: AttributesMode = "auto"
    list_shows_attributes: bool | None = None
    max_cached_names: int = 200_000
