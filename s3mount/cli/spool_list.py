"""``s3mount spool list``."""

from __future__ import annotations

import argparse
import datetime
import json
from typing import Any

from s3mount.cli.spool_places import Found, Place, contents, find_places, printable
from s3mount.config.units import format_size_short
from s3mount.core.exits import Exit
from s3mount.core.spool_record import UNKNOWN_KEY

_HEADINGS = ("ID", "STATE", "SIZE", "SINCE", "KEY")


def run(arguments: argparse.Namespace) -> int:
    """Show what is in the spool.

    Raises: StartupError.
    """
    places = find_places(arguments.where, arguments.spool_dir)
    listed = [(place, *contents(place)) for place in places]
    if arguments.json:
        print(json.dumps(_as_json(listed), indent=2))
        return int(Exit.OK)
    is_named = arguments.where is not None or arguments.spool_dir is not None
    for place, found, damage in listed:
        if found or damage or is_named:
            _show(place, found, damage)
    _show_total([one for _, found, _ in listed for one in found])
    return int(Exit.OK)


def _show(place: Place, found: list[Found], damage: str) -> None:
    print(f"{printable(place.path)}: {_whose(place)}")
    if damage:
        print(f"  the journal is damaged, and tells nothing of the files: {damage}")
    if not found:
        print("  nothing\n")
        return
    rows = [_HEADINGS, *(_row(one) for one in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row, one in zip(rows, [None, *found], strict=True):
        number, state, size, since, key = row
        cause = f"  ({printable(one.record.cause)})" if one is not None and one.record.cause else ""
        print(
            f"  {number:>{widths[0]}}  {state:<{widths[1]}}  {size:>{widths[2]}}  {since:<{widths[3]}}  "
            f"{key}{cause}"
        )
    print()


def _row(found: Found) -> tuple[str, ...]:
    record = found.record
    since = "-"
    if record.changed_ns:
        moment = datetime.datetime.fromtimestamp(record.changed_ns / 1e9).astimezone()
        since = f"{moment:%Y-%m-%d %H:%M:%S}"
    key = "?" if record.key == UNKNOWN_KEY else printable(record.key)
    return (found.name, record.state.value, format_size_short(record.size), since, key)


def _show_total(found: list[Found]) -> None:
    if not found:
        print("The spool is empty: the bucket has everything.")
        return
    size = sum(one.record.size for one in found)
    files = "1 file" if len(found) == 1 else f"{len(found)} files"
    print(f"{files}, {format_size_short(size)}, not in the bucket, or not known to be")


def _whose(place: Place) -> str:
    source = printable(place.source) or "nobody knows for which bucket"
    at = f" at {place.bucket.endpoint_url}" if place.bucket is not None else ""
    if place.is_mount:
        return f"{source}{at}, mounted at {printable(place.mountpoint)} (process {place.pid})"
    if place.pid is not None:
        return f"{source}{at}, a command is at work there (process {place.pid})"
    last = f", last at {printable(place.mountpoint)}" if place.mountpoint else ""
    return f"{source}{at}, not mounted{last}"


def _as_json(listed: list[tuple[Place, list[Found], str]]) -> dict[str, Any]:
    everything = [one for _, found, _ in listed for one in found]
    return {
        "spools": [
            {
                "path": place.path,
                "source": place.source or None,
                "endpoint_url": None if place.bucket is None else place.bucket.endpoint_url,
                "mountpoint": place.mountpoint or None,
                "pid": place.pid,
                "is_mounted": place.is_mount,
                "damage": damage or None,
                "files": [_file_as_json(one) for one in found],
            }
            for place, found, damage in listed
        ],
        "files": len(everything),
        "bytes": sum(one.record.size for one in everything),
    }


def _file_as_json(found: Found) -> dict[str, Any]:
    record = found.record
    moment = datetime.datetime.fromtimestamp(record.changed_ns / 1e9, datetime.UTC)
    return {
        "id": record.id or None,
        "file_name": record.file_name,
        "state": record.state.value,
        "key": None if record.key == UNKNOWN_KEY else record.key,
        "size": record.size,
        "since": moment.isoformat() if record.changed_ns else None,
        "cause": record.cause,
        "attempts": record.attempts,
        "is_open": found.is_open,
    }
