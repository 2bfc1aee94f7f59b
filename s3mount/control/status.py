"""Look at the layers of a mount and say how it is."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from s3mount.core.filestate import FileState
from s3mount.core.progress import Sending
from s3mount.core.server_facts import QUESTIONS, ServerFacts
from s3mount.core.spool_record import SpoolState
from s3mount.core.status import (
    MOST_ERRORS,
    MOST_HELD,
    MOST_UPLOADS,
    VERSION,
    CacheStatus,
    HeldFile,
    MemoryStatus,
    MountStatus,
    NamesStatus,
    RenameStatus,
    RequestStatus,
    ServerStatus,
    SpoolStatus,
    UploadsStatus,
    UploadStatus,
)
from s3mount.data.block_cache import BlockCache
from s3mount.data.budget import Budget, Use
from s3mount.data.spool import SpoolDir
from s3mount.errors import FsError
from s3mount.fs.file_services import FileServices
from s3mount.fs.jobs import Jobs
from s3mount.fs.open_file import OpenFile
from s3mount.fs.open_files import OpenFiles
from s3mount.fs.recent_errors import RecentErrors
from s3mount.fs.xattrs import sent_bytes
from s3mount.meta.namespace import Namespace
from s3mount.store.base import Breaker

WAITING_FOR_USER = frozenset({SpoolState.CONFLICT, SpoolState.PARKED})


@dataclass(frozen=True)
class Identity:
    """What does not change while a mount lives; see ``MountStatus`` for what each is."""

    program: str
    mountpoint: str
    source: str
    endpoint_url: str
    is_read_only: bool
    write_back_s: float | None
    facts: ServerFacts
    began_s: float = field(default_factory=time.monotonic)


@dataclass
class Observer:
    """Says how a mount is, from what its layers know: no request, and nothing of the disk but its free space.

    ``state`` is set by whoever begins to drain.
    """

    identity: Identity
    services: FileServices
    open_files: OpenFiles
    budget: Budget
    breaker: Breaker
    requests: Callable[[], RequestStatus]
    errors: RecentErrors
    jobs: Jobs
    sending: Callable[[], Sending] = Sending
    state: str = "serving"

    def status(self) -> MountStatus:
        """Return how the mount is at this moment."""
        identity, services = self.identity, self.services
        return MountStatus(
            version=VERSION,
            program=identity.program,
            state=self.state,
            pid=os.getpid(),
            mountpoint=identity.mountpoint,
            source=identity.source,
            endpoint_url=identity.endpoint_url,
            uptime_s=round(time.monotonic() - identity.began_s, 3),
            is_read_only=identity.is_read_only,
            write_back_s=identity.write_back_s,
            server=server_status(identity.facts, self.breaker),
            requests=self.requests(),
            cache=cache_status(services.cache),
            memory=memory_status(self.budget),
            spool=spool_status(services.spool_dir),
            uploads=uploads_status(self.open_files, services),
            renames=renames_status(self.jobs),
            names=names_status(services.namespace, self.open_files),
            errors=list(islice(self.errors, MOST_ERRORS)),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the status as objects that JSON has."""
        return self.status().as_json()

    def text(self) -> bytes:
        """Return the status as JSON, for a file."""
        return json.dumps(self.as_json(), indent=1).encode() + b"\n"


def server_status(facts: ServerFacts, breaker: Breaker) -> ServerStatus:
    """Return what is known of the server."""
    honours = {name: getattr(facts, name) for name in (*QUESTIONS, "list_has_metadata")}
    return ServerStatus(not breaker.is_open, facts.server, honours, facts.windows())


def cache_status(cache: BlockCache) -> CacheStatus:
    """Return what became of the blocks."""
    counted = cache.statistics()
    asked = counted.hits + counted.misses
    return CacheStatus(
        hits=counted.hits,
        misses=counted.misses,
        hit_rate=round(counted.hits / asked, 4) if asked else None,
        fetched_bytes=counted.fetched_bytes,
        gets=counted.gets,
        read_ahead_gets=counted.background_gets,
        dropped_hints=counted.dropped_hints,
        evicted_runs=counted.evicted_runs,
    )


def memory_status(budget: Budget) -> MemoryStatus:
    """Return who has the memory."""
    taken = {use: budget.taken_bytes(use) for use in Use}
    return MemoryStatus(
        used_bytes=budget.used_bytes,
        cap_bytes=budget.total_bytes,
        blocks_bytes=taken[Use.BLOCKS],
        bodies_bytes=taken[Use.BODIES],
        pages_bytes=taken[Use.PAGES],
        cached_bytes=budget.used_bytes - sum(taken.values()),
        waiting=sum(budget.waiting(use) for use in Use),
    )


def spool_status(spool: SpoolDir) -> SpoolStatus:
    """Return what the spool takes, and what in it waits for the user."""
    free_bytes = None
    with suppress(OSError):
        free_bytes = spool.space.free_bytes()
    held = held_files(spool)
    return SpoolStatus(
        path=spool.path,
        used_bytes=spool.used_bytes,
        cap_bytes=spool.space.cap_bytes,
        free_bytes=free_bytes,
        floor_bytes=spool.space.free_floor_bytes,
        held=len(held),
        held_files=held[:MOST_HELD],
    )


def held_files(spool: SpoolDir) -> list[HeldFile]:
    """Return what in the spool waits for the user, the oldest first."""
    try:
        records = spool.records()
    except FsError:  # the journal's disk: whatever is wrong with it shows where it matters
        return []
    return [
        HeldFile(record.id, record.key, record.state.value, record.size, record.cause)
        for record in records
        if record.state in WAITING_FOR_USER
    ]


def uploads_status(open_files: OpenFiles, services: FileServices) -> UploadsStatus:
    """Return what the bucket does not have."""
    found = [upload_status(file, open_files, services) for file in open_files.unsent()]
    return UploadsStatus(
        files=len(found),
        size_bytes=sum(one.size_bytes for one in found),
        sent_bytes=sum(one.sent_bytes for one in found),
        open_files=sum(one.is_open for one in found),
        listed=sorted(found, key=_urgency)[:MOST_UPLOADS],
    )


def upload_status(file: OpenFile, open_files: OpenFiles, services: FileServices) -> UploadStatus:
    """Return how far *file* is on its way to the bucket."""
    return UploadStatus(
        path=file.node.path(),
        key=file.node.key,
        state=file.state.value,
        size_bytes=file.node.size,
        sent_bytes=sent_bytes(file),
        is_open=open_files.has_writer(file),
        due_in_s=services.queue.due_in_s(file),
        failures=file.failures,
        error=_error_of(file),
    )


def renames_status(jobs: Jobs) -> list[RenameStatus]:
    """Return the directories that are being renamed."""
    try:
        found = jobs.summaries()
    except FsError:
        return []
    return [
        RenameStatus(one.old, one.new, one.phase.value, one.done, one.total, one.since_ns / 1e9, one.cause)
        for one in found
    ]


def names_status(namespace: Namespace, open_files: OpenFiles) -> NamesStatus:
    """Return how many names are known."""
    return NamesStatus(
        known=len(namespace.table),
        cap=namespace.policy.max_cached_names,
        open_files=len(open_files),
        handles=open_files.handle_count,
    )


def _error_of(file: OpenFile) -> str | None:
    if file.spool is None:
        return None
    if file.spool.poison is not None:
        return str(file.spool.poison)
    return file.spool.record.cause or None


def _urgency(upload: UploadStatus) -> tuple[bool, bool, float, str]:
    is_sending = upload.state == FileState.UPLOADING.value
    due_in_s = float("inf") if upload.due_in_s is None else upload.due_in_s
    return not is_sending, upload.is_open, due_in_s, upload.path
