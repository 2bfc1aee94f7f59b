"""What a spool has, seen from outside, with or without a mount at work there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from s3mount.core.spool_record import SENDABLE, SpoolRecord
from s3mount.data.journal_rows import read_records
from tests.crash.oracle import Kept


def directory_of(spool: Path) -> Path:
    """Return the one spool directory below the directory that ``--spool-dir`` names."""
    (found,) = spool.iterdir()
    return found


def records(spool: Path) -> list[SpoolRecord]:
    """Return the rows of all files."""
    return read_records(str(directory_of(spool)))


def is_drained(spool: Path) -> bool:
    """Whether nothing is left that a mount would send by itself."""
    return not any(record.state in SENDABLE for record in records(spool))


def kept_below(spool: Path, prefix: str) -> list[Kept]:
    """Return what *spool* has of files below *prefix*, and of those of which nobody knows the key."""
    directory = directory_of(spool)
    return [
        Kept(
            file_name=record.file_name,
            name=record.key.removeprefix(prefix),
            state=record.state.value,
            data=path.read_bytes() if (path := directory / record.file_name).exists() else b"",
            present=tuple((span.start, span.stop) for span in record.present),
            is_over_object=record.base is not None,
            cause=record.cause,
        )
        for record in records(spool)
        if record.key.startswith(prefix) or not record.key
    ]


def unlisted(spool: Path) -> list[str]:
    """Return the names of data files that no row speaks of."""
    known = {record.file_name for record in records(spool)}
    return sorted(path.name for path in directory_of(spool).glob("*.data") if path.name not in known)


def wait_until(holds: Callable[[], bool], what: str, deadline_s: float = 30.0) -> None:
    """Ask until it holds. Raises: AssertionError after *deadline_s*."""
    end = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end, f"after {deadline_s:.0f} s still not: {what}"
        time.sleep(0.02)
