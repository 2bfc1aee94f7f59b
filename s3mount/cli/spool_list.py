"""``s3mount spool list``."""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from s3mount.cli.spool_places import Found, Place, contents, find_places, jobs, printable
from s3mount.config.units import format_size_short
from s3mount.core.exits import Exit
from s3mount.core.spool_record import UNKNOWN_KEY
from s3mount.data.job_journal import JobSummary

_HEADINGS = ("ID", "STATE", "SIZE", "SINCE", "KEY")
_JOB_HEADINGS = ("ID", "STATE", "DONE", "SINCE", "DIRECTORY RENAMED")


@dataclass(frozen=True, slots=True)
class _Listed:
    """A spool directory with what is in it; ``damage`` says what is wrong with its journal."""

    place: Place
    files: list[Found]
    jobs: list[JobSummary]
    damage: str

    def __bool__(self) -> bool:
        return bool(self.files or self.jobs or self.damage)


def run(arguments: argparse.Namespace) -> int:
    """Show what is in the spool.

    Raises: StartupError.
    """
    listed = [_look(place) for place in find_places(arguments.where, arguments.spool_dir)]
    if arguments.json:
        print(json.dumps(_as_json(listed), indent=2))
        return int(Exit.OK)
    is_named = arguments.where is not None or arguments.spool_dir is not None
    for one in listed:
        if one or is_named:
            _show(one)
    _show_total(listed)
    return int(Exit.OK)


def _look(place: Place) -> _Listed:
    found, damage = contents(place)
    renames, unreadable = jobs(place)
    return _Listed(place, found, renames, damage or unreadable)


def _show(listed: _Listed) -> None:
    print(f"{printable(listed.place.path)}: {_whose(listed.place)}")
    if listed.damage:
        print(f"  the journal is damaged, and tells nothing of the files: {listed.damage}")
    if listed.files:
        causes = [one.record.cause for one in listed.files]
        _show_table([_HEADINGS, *map(_row, listed.files)], ("", *causes), "><><<")
    if listed.jobs:
        causes = [job.cause for job in listed.jobs]
        _show_table([_JOB_HEADINGS, *map(_job_row, listed.jobs)], ("", *causes), "><><<")
    if not listed.files and not listed.jobs:
        print("  nothing")
    print()


def _show_table(rows: Sequence[tuple[str, ...]], causes: Sequence[str], sides: str) -> None:
    """Print *rows*, each with its cause behind it; *sides* has a < or > for each column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    for row, cause in zip(rows, causes, strict=True):
        columns = zip(row, sides, widths, strict=True)
        line = "  ".join(f"{text:{side}{width}}" for text, side, width in columns)
        print(f"  {line}" + (f"  ({printable(cause)})" if cause else ""))


def _row(found: Found) -> tuple[str, ...]:
    record = found.record
    key = "?" if record.key == UNKNOWN_KEY else printable(record.key)
    size = format_size_short(record.size)
    return (found.name, record.state.value, size, _moment(record.changed_ns), key)


def _job_row(job: JobSummary) -> tuple[str, ...]:
    names = f"{printable(job.old)} -> {printable(job.new)}"
    return (job.name, job.phase.value, f"{job.done} of {job.total}", _moment(job.since_ns), names)


def _moment(time_ns: int) -> str:
    if not time_ns:
        return "-"
    return f"{datetime.datetime.fromtimestamp(time_ns / 1e9).astimezone():%Y-%m-%d %H:%M:%S}"


def _show_total(listed: Sequence[_Listed]) -> None:
    found = [one for spool in listed for one in spool.files]
    renames = sum(len(spool.jobs) for spool in listed)
    if not found and not renames:
        print("The spool is empty: the bucket has everything.")
    if found:
        size = sum(one.record.size for one in found)
        files = "1 file" if len(found) == 1 else f"{len(found)} files"
        print(f"{files}, {format_size_short(size)}, not in the bucket, or not known to be")
    if renames:
        said = "1 rename of a directory is" if renames == 1 else f"{renames} renames of directories are"
        print(f"{said} not finished: the mount goes on with it, or the next one at this place")


def _whose(place: Place) -> str:
    source = printable(place.source) or "nobody knows for which bucket"
    at = f" at {place.bucket.endpoint_url}" if place.bucket is not None else ""
    if place.is_mount:
        return f"{source}{at}, mounted at {printable(place.mountpoint)} (process {place.pid})"
    if place.pid is not None:
        return f"{source}{at}, a command is at work there (process {place.pid})"
    last = f", last at {printable(place.mountpoint)}" if place.mountpoint else ""
    return f"{source}{at}, not mounted{last}"


def _as_json(listed: Sequence[_Listed]) -> dict[str, Any]:
    everything = [found for one in listed for found in one.files]
    return {
        "spools": [_spool_as_json(one) for one in listed],
        "files": len(everything),
        "bytes": sum(one.record.size for one in everything),
        "jobs": sum(len(one.jobs) for one in listed),
    }


def _spool_as_json(listed: _Listed) -> dict[str, Any]:
    place = listed.place
    return {
        "path": place.path,
        "source": place.source or None,
        "endpoint_url": None if place.bucket is None else place.bucket.endpoint_url,
        "mountpoint": place.mountpoint or None,
        "pid": place.pid,
        "is_mounted": place.is_mount,
        "damage": listed.damage or None,
        "files": [_file_as_json(one) for one in listed.files],
        "jobs": [_job_as_json(one) for one in listed.jobs],
    }


def _file_as_json(found: Found) -> dict[str, Any]:
    record = found.record
    return {
        "id": record.id or None,
        "file_name": record.file_name,
        "state": record.state.value,
        "key": None if record.key == UNKNOWN_KEY else record.key,
        "size": record.size,
        "since": _moment_as_json(record.changed_ns),
        "cause": record.cause,
        "attempts": record.attempts,
        "is_open": found.is_open,
    }


def _job_as_json(job: JobSummary) -> dict[str, Any]:
    return {
        "id": job.name,
        "kind": job.kind,
        "old": job.old,
        "new": job.new,
        "phase": job.phase.value,
        "done": job.done,
        "total": job.total,
        "since": _moment_as_json(job.since_ns),
        "cause": job.cause,
    }


def _moment_as_json(time_ns: int) -> str | None:
    return datetime.datetime.fromtimestamp(time_ns / 1e9, datetime.UTC).isoformat() if time_ns else None
