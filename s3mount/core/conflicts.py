"""What is a conflict with another writer, and where this host's version goes then."""

from __future__ import annotations

from datetime import UTC, datetime

from s3mount.core.answers import same_etag
from s3mount.core.keys import KEY_MAX, NAME_MAX
from s3mount.core.objects import ObjectStat, WriteCondition


def may_replace(condition: WriteCondition, there: ObjectStat | None) -> bool:
    """Return whether a write under *condition* may take the place of *there*, None if there is nothing."""
    if condition.if_match is not None:
        return there is not None and same_etag(there.etag, condition.if_match)
    return there is None or not condition.if_none_match


def key_beside(key: str, host: str, time_ns: int) -> str:
    """Return the key for a version of *key* that *host* wrote at *time_ns*.

    Like ``dir/a (host 2026-01-31 120000).txt``.
    The extension stays last, so that programs still know the file. Name and key stay within what Linux
    and S3 take: the name is shortened where need be.
    """
    directory, slash, name = key.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    if not stem:
        stem, dot, extension = name, "", ""
    stamp = f"{datetime.fromtimestamp(time_ns // 1_000_000_000, UTC):%Y-%m-%d %H%M%S}"
    tail = f" ({host.replace('/', '-')[:64]} {stamp})"
    if len((dot + extension).encode()) > 32:
        stem, dot, extension = name, "", ""
    tail += dot + extension
    room = min(NAME_MAX, KEY_MAX - len((directory + slash).encode())) - len(tail.encode())
    kept = stem.encode()[: max(room, 0)].decode("utf-8", "ignore")
    return f"{directory}{slash}{kept}{tail}"
