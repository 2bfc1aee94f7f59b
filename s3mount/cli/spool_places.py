"""Where spools are: the directories, whose they are, and what is in them, without changing anything."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from s3mount import runtime
from s3mount.cli.mount_table import mounted_at, resolve
from s3mount.config.machine import STATE, state_dir
from s3mount.config.model import parse_source
from s3mount.core.exits import Exit
from s3mount.core.spool_commands import shown
from s3mount.core.spool_record import DAMAGED, DATA_SUFFIX, NO_KEY, UNKNOWN_KEY, SpoolRecord, SpoolState
from s3mount.data.disk import boot_id
from s3mount.data.job_journal import JobSummary, list_jobs
from s3mount.data.journal import JOURNAL_NAME, JournalDamaged
from s3mount.data.journal_rows import read_records
from s3mount.data.spool_bucket import SpoolBucket, read_bucket
from s3mount.data.spool_holder import HOLDER_NAME, holder_of, locked_inodes
from s3mount.errors import StartupError

_OWN_NAME = re.compile(r"\d{6,}-[0-9a-f]{12}\.data")
_JOB_NAME = re.compile(r"r\d+")
T = TypeVar("T")
NO_ID = 0
"""Of a file that has no row: it is named by its file's name."""


@dataclass(frozen=True, slots=True)
class Place:
    """One spool directory.

    ``source`` and ``mountpoint`` are of the mount that works, or last worked, there; empty where nobody
    knows. ``pid`` is of the process that works there now, ``is_mount`` whether that is a mount.
    """

    path: str
    source: str
    mountpoint: str
    bucket: SpoolBucket | None
    pid: int | None
    is_mount: bool

    @property
    def mount(self) -> str:
        """The mount that works there, in words; empty if there is none."""
        return f"the mount at {self.mountpoint} (process {self.pid})" if self.is_mount else ""


@dataclass(frozen=True, slots=True)
class Found:
    """A file in a spool: its row as the user is to see it, and whether a process has it open."""

    record: SpoolRecord
    is_open: bool

    @property
    def name(self) -> str:
        """What commands call it."""
        return str(self.record.id or self.record.file_name)


def find_places(where: str | None, spool_dir: str | None) -> list[Place]:
    """Return the spool directories that are meant, in the order of their paths.

    Args:
        where: a mountpoint, a bucket or a spool directory.
        spool_dir: what ``--spool-dir`` of a mount was, or one mount's folder in it.

    Raises: StartupError (there is none).
    """
    if spool_dir is not None:
        root = os.path.abspath(os.path.expanduser(spool_dir))
        places = [place_of(path) for path in _below(root)]
        if not places:
            raise StartupError(
                f"spool directory {root}", "there is no spool in it", "see `s3mount spool list`", Exit.USAGE
            )
    else:
        places = [place_of(path) for path in known_directories()]
    return places if where is None else _meant(where, places)


def known_directories() -> list[str]:
    """Return the spool directories of this user that can be found without being named."""
    found = set(_below(str(state_dir() / "spool")))
    if os.geteuid() == 0:  # those of mounts of root's that run as another user
        found.update(path for place in STATE.parent.glob("s3mount-*/spool") for path in _below(str(place)))
    for directory in runtime.directories(os.geteuid()):
        found.update(state.spool_dir for state in runtime.recorded(directory))
    return sorted(path for path in found if _is_spool(path))


def place_of(path: str) -> Place:
    """Return the spool directory *path* with what can be known of it."""
    try:
        bucket = read_bucket(path)
    except JournalDamaged:
        bucket = None
    holder = holder_of(path)
    if holder is not None and not holder.mountpoint:
        holder = None  # a command was there last
    pid = locked_inodes().get(_inode(path))
    source = bucket.source if bucket is not None else holder.source if holder is not None else ""
    mountpoint = bucket.mountpoint if bucket is not None else holder.mountpoint if holder is not None else ""
    is_mount = pid is not None and holder is not None
    return Place(path, source, mountpoint, bucket, pid, is_mount)


def contents(place: Place) -> tuple[list[Found], str]:
    """Return what is in *place*, the oldest first, and what is wrong with its journal, empty for nothing."""
    damage = ""
    try:
        records = read_records(place.path)
    except JournalDamaged as error:
        records, damage = [], str(error)
    known = {record.file_name for record in records}
    cause = DAMAGED if damage else NO_KEY
    for name in sorted(_data_files(place.path)):
        if name not in known:
            records.append(SpoolRecord(NO_ID, name, UNKNOWN_KEY, SpoolState.PARKED, cause=cause))
    locked = locked_inodes()
    boot = boot_id()
    found = []
    for record in records:
        facts = _facts(os.path.join(place.path, record.file_name))
        seen = shown(record, boot, has_mount=place.is_mount)
        if facts is None:
            seen = replace(seen, cause=seen.cause or "its file is gone")
        elif record.state is SpoolState.WRITING or record.size != facts.st_size:
            seen = replace(seen, size=facts.st_size)
        found.append(Found(seen, facts is not None and facts.st_ino in locked))
    return found, damage


def select(places: list[Place], names: list[str]) -> list[tuple[Place, Found]]:
    """Return the files called *names*.

    Raises: StartupError (there is none, or more than one of that name).
    """
    everything = [(place, found) for place in places for found in contents(place)[0]]
    return [_only_one(_of_name(everything, name), "file", name) for name in dict.fromkeys(names)]


def select_jobs(places: list[Place], names: list[str]) -> list[tuple[Place, JobSummary]]:
    """Return the renames of directories called *names*. Raises: as :func:`select`."""
    everything = [(place, job) for place in places for job in jobs(place)[0]]
    return [
        _only_one([(place, job) for place, job in everything if job.name == name], "rename", name)
        for name in dict.fromkeys(names)
    ]


def is_job_name(name: str) -> bool:
    """Whether *name* is what the rename of a directory is called."""
    return _JOB_NAME.fullmatch(name) is not None


def jobs(place: Place) -> tuple[list[JobSummary], str]:
    """Return the renames of directories in *place*, the oldest first, and what is wrong with its journal."""
    try:
        return list_jobs(place.path), ""
    except JournalDamaged as error:
        return [], str(error)


def printable(text: str) -> str:
    """Return *text* so that no terminal takes a part of it for a command."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode() for one in text
    )


def _of_name(everything: list[tuple[Place, Found]], name: str) -> list[tuple[Place, Found]]:
    return [(place, found) for place, found in everything if name in (found.name, found.record.file_name)]


def _only_one(matches: list[tuple[Place, T]], kind: str, name: str) -> tuple[Place, T]:
    """Return the only one of *matches*. Raises: StartupError."""
    if not matches:
        raise StartupError(
            f"{kind} {printable(name)}",
            "there is none of this number in the spool",
            "`s3mount spool list` shows them",
            Exit.USAGE,
        )
    if len(matches) > 1:
        where = ", ".join(place.mountpoint or place.path for place, _ in matches)
        raise StartupError(
            f"{kind} {printable(name)}",
            f"there is one of this number in several spools: {where}",
            "say which with --of",
            Exit.USAGE,
        )
    return matches[0]


def _meant(where: str, places: list[Place]) -> list[Place]:
    path = resolve(os.path.expanduser(where))
    meant = [place for place in places if place.mountpoint == path]
    if (
        not meant
        and (state := runtime.find(path, os.geteuid())) is not None
        and _is_spool(state[0].spool_dir)
    ):
        meant = [place_of(state[0].spool_dir)]
    # What is mounted there is not to be looked into: it may hang.
    if not meant and mounted_at(path) is None:
        meant = [place_of(found) for found in _below(path)]
    if not meant:
        meant = [place for place in places if _is_of_bucket(place, where)]
    if not meant:
        raise StartupError(
            f"spool of {printable(where)}",
            "there is none that is known",
            "name a mountpoint, a bucket or a spool directory; `s3mount spool list` shows all",
            Exit.USAGE,
        )
    return meant


def _is_of_bucket(place: Place, where: str) -> bool:
    try:
        bucket, prefix = parse_source(where)
    except StartupError:
        return False
    source = f"s3://{bucket}/{prefix}"
    return place.source == source or (not prefix and place.source.startswith(source))


def _below(root: str) -> Iterator[str]:
    """Yield *root* if it is a spool directory, else those right in it."""
    if _is_spool(root):
        yield root
        return
    try:
        with os.scandir(root) as entries:
            paths = sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return
    yield from (path for path in paths if _is_spool(path))


def _is_spool(path: str) -> bool:
    """Whether s3mount has worked in *path*; other programs have files that end in .data as well."""
    if any(os.path.lexists(Path(path, name)) for name in (JOURNAL_NAME, HOLDER_NAME)):
        return True
    return any(_OWN_NAME.fullmatch(name) for name in _data_files(path))


def _data_files(path: str) -> list[str]:
    try:
        return [name for name in os.listdir(path) if name.endswith(DATA_SUFFIX)]
    except OSError:
        return []


def _facts(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _inode(path: str) -> int:
    facts = _facts(path)
    return -1 if facts is None else facts.st_ino
