"""What a spool directory holds that the bucket may not have: the one place that knows how to look."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from s3mount.core.spool_record import SpoolRecord, SpoolState
from s3mount.data.journal_rows import read_records


def spooled(spool: Path, bases: Callable[[str], Iterable[bytes]]) -> dict[str, list[bytes]]:
    """Return the versions that are kept of each key, as far as all their bytes are to be had.

    *bases* gives versions of the object that a file may have been opened over: what was not needed of it
    is not in the spool.
    """
    found: dict[str, list[bytes]] = {}
    for directory in (path.parent for path in spool.rglob("journal.sqlite")):
        for record in read_records(str(directory)):
            if record.state is SpoolState.DONE:
                continue
            try:
                here = (directory / record.file_name).read_bytes()
            except FileNotFoundError:
                continue  # the bucket has got it meanwhile
            if (data := _whole(record, here, bases)) is not None:
                found.setdefault(record.key, []).append(data)
    return found


def _whole(record: SpoolRecord, here: bytes, bases: Callable[[str], Iterable[bytes]]) -> bytes | None:
    data = bytearray(here[: record.size].ljust(record.size, b"\0"))
    if record.is_complete or record.base is None:
        return bytes(data)
    for old in bases(record.base.key):
        if record.base.etag.strip('"') == hashlib.md5(old, usedforsecurity=False).hexdigest():
            position = 0
            for start, stop in (*((one.start, one.stop) for one in record.present), (record.base_limit,) * 2):
                gap = slice(position, max(position, min(start, record.base_limit)))
                data[gap] = old[gap]
                position = max(position, stop)
            return bytes(data)
    return None
