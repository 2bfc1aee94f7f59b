"""What a spool directory holds that the bucket may not have: the one place that knows how to look."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from s3mount.core.spool_record import SpoolRecord, SpoolState
from s3mount.data.journal_rows import read_records


def spooled(spool: Path, version: Callable[[str, str], bytes | None]) -> dict[str, list[bytes]]:
    """Return the versions that are kept of each key, as far as all their bytes are to be had.

    *version* gives the bytes of a key's version by its ETag, None if nobody has them: what was not needed
    of the object that a file was opened over is not in the spool.
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
            if (data := _whole(record, here, version)) is not None:
                found.setdefault(record.key, []).append(data)
    return found


def _whole(record: SpoolRecord, here: bytes, version: Callable[[str, str], bytes | None]) -> bytes | None:
    data = bytearray(here[: record.size].ljust(record.size, b"\0"))
    if record.is_complete or record.base is None:
        return bytes(data)
    old = version(record.base.key, record.base.etag)
    if old is None:
        return None
    position = 0
    for start, stop in (*((one.start, one.stop) for one in record.present), (record.base_limit,) * 2):
        gap = slice(position, max(position, min(start, record.base_limit)))
        data[gap] = old[gap]
        position = max(position, stop)
    return bytes(data)
