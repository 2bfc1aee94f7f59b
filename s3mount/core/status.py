"""How a mount is: the shape of what ``s3mount status --json`` and ``.s3mount/status.json`` show.

Sizes are in bytes, durations in seconds, times of day in seconds since the epoch. A field may be added at any
time; one that is renamed or changes its meaning raises :data:`VERSION`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

VERSION: Final = 1
"""Of the shape, and of the control socket's protocol."""

MOST_UPLOADS: Final = 100
"""Files that are named in :class:`UploadsStatus`; the totals are of all."""
MOST_HELD: Final = 20
"""Files that are named in :class:`SpoolStatus`."""
MOST_ERRORS: Final = 10
"""Errors in a status; ``s3mount explain`` shows more."""


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """An error that a program, or an upload that no program waited for, has met; equal ones are counted.

    Args:
        at_s: when it was met last.
        count: how often.
        operation: of the file system (``write``, ``flush``, ...); ``upload`` is one in the background.
        path: below the mountpoint, beginning with a slash.
        error: the errno's name: ``EACCES``.
        message: in s3mount's own words.
        advice: what to do.
        request: the S3 operation that was refused (``PutObject``), None where no request was answered; so are
            the next five then.
        key: what it was about.
        http_status, code, said, request_id: the answer: 403, ``AccessDenied``, the server's message, and the
            id by which its log knows the request (None where it gave none).
    """

    at_s: float
    count: int
    operation: str
    path: str
    error: str
    message: str
    advice: str
    request: str | None = None
    key: str | None = None
    http_status: int | None = None
    code: str | None = None
    said: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The server.

    Args:
        is_reachable: False while nothing is answered; requests fail at once then.
        software: its Server header, None if it has none.
        honours: what it was found to honour, by the names of ``core.server_facts.ServerFacts``.
        windows: the kinds of write between whose check and act another host can come.
    """

    is_reachable: bool
    software: str | None
    honours: dict[str, bool | None]
    windows: list[str]


@dataclass(frozen=True, slots=True)
class RequestCount:
    """The requests of one S3 operation since the mount began, repetitions included.

    Args:
        operation: as S3 names it: ``GetObject``.
        made: all that have ended; the rest is of them.
        failed: the server refused, broke off or answered what cannot be true. "There is none" (404) and a
            condition that does not hold (412) are answers.
        slow_downs: of the failed: it asked for fewer requests.
        given_up: by this side: a deadline, or nobody waits any more.
        seconds: the sum of how long they took.
        sent_bytes, received_bytes: of objects' contents, in those that succeeded.
    """

    operation: str
    made: int
    failed: int
    slow_downs: int
    given_up: int
    seconds: float
    sent_bytes: int
    received_bytes: int


@dataclass(frozen=True, slots=True)
class ProcessRequests:
    """The requests that were made for the processes of one name.

    Args:
        process: as the kernel has it (``comm``), 15 bytes at most; in parentheses where there is none.
        counts: by operation.
    """

    process: str
    counts: list[RequestCount]


@dataclass(frozen=True, slots=True)
class RequestStatus:
    """Requests.

    Args:
        running: at this moment.
        limit: how many run at once; less than ``most`` while the server asks for it.
        most: the most that ever run at once.
        counts: by operation, in the order of their names.
    """

    running: int
    limit: int
    most: int
    counts: list[RequestCount]


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """Blocks of objects in memory, counted since the mount began.

    Args:
        hits, misses: blocks that readers found, and had to wait for.
        hit_rate: hits of both, from 0 to 1; None before the first read.
        fetched_bytes: from the server, ``read_ahead`` included.
        gets, read_ahead_gets: requests for blocks, and those of them that nobody waited for yet.
        dropped_hints: read-ahead that was left out for want of room.
        evicted_runs: stretches of blocks that were thrown out for others.
    """

    hits: int
    misses: int
    hit_rate: float | None
    fetched_bytes: int
    gets: int
    read_ahead_gets: int
    dropped_hints: int
    evicted_runs: int


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    """The memory that ``--memory`` bounds.

    Args:
        used_bytes: of ``cap_bytes``.
        blocks_bytes, bodies_bytes, pages_bytes: taken by readers and fetches, by what is sent, by listings.
        cached_bytes: what nobody is reading, given up as soon as somebody needs the room.
        waiting: who waits for room.
    """

    used_bytes: int
    cap_bytes: int
    blocks_bytes: int
    bodies_bytes: int
    pages_bytes: int
    cached_bytes: int
    waiting: int


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A file of the spool that waits for the user.

    Args:
        id: what ``s3mount spool`` calls it.
        state: ``conflict`` or ``parked``.
        cause: why, as a sentence.
    """

    id: int
    key: str
    state: str
    size_bytes: int
    cause: str


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """The disk that the spool takes.

    Args:
        used_bytes: by all its files.
        cap_bytes: of ``--spool-cap``; None: only ``floor_bytes`` bounds it.
        free_bytes: of the disk; None where the disk does not say.
        floor_bytes: what is left free (``--spool-free``).
        held: how many files wait for the user: ``s3mount spool list``.
        held_files: the first :data:`MOST_HELD` of them.
    """

    path: str
    used_bytes: int
    cap_bytes: int | None
    free_bytes: int | None
    floor_bytes: int
    held: int
    held_files: list[HeldFile]


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """A file of which the bucket does not have everything.

    Args:
        path: below the mountpoint, beginning with a slash.
        state: of ``core.filestate.FileState``: ``dirty`` (a program writes), ``queued`` (closed, to be sent),
            ``uploading``, ``failed`` (to be tried again), ``conflict`` (waits for the user).
        sent_bytes: parts that the server has; 0 until the end for what is sent in one request.
        is_open: whether a program has it open for writing.
        due_in_s: when it is sent; None where nothing is planned: it is open, being sent, or a conflict.
        failures: tries that failed since one succeeded.
        error: what the last one met, None where it was not a failure.
    """

    path: str
    key: str
    state: str
    size_bytes: int
    sent_bytes: int
    is_open: bool
    due_in_s: float | None
    failures: int
    error: str | None


@dataclass(frozen=True, slots=True)
class UploadsStatus:
    """What the bucket does not have yet.

    Args:
        files, size_bytes, sent_bytes: of all of them.
        open_files: of them, those that a program still has open for writing.
        listed: the first :data:`MOST_UPLOADS`: those being sent, then those that are due first.
    """

    files: int
    size_bytes: int
    sent_bytes: int
    open_files: int
    listed: list[UploadStatus]

    @property
    def left_bytes(self) -> int:
        """What is still to be sent."""
        return self.size_bytes - self.sent_bytes


@dataclass(frozen=True, slots=True)
class RenameStatus:
    """A directory that is being renamed.

    Args:
        old, new: the beginnings of the keys.
        phase: ``copying``, ``deleting`` (the new name is whole) or ``undoing`` (the old one is).
        done, total: objects of this phase; while copying, ``total`` grows with the listing.
        since_s: when it was begun.
        cause: what it failed by last, and is tried again for; empty where nothing is amiss.
    """

    old: str
    new: str
    phase: str
    done: int
    total: int
    since_s: float
    cause: str


@dataclass(frozen=True, slots=True)
class NamesStatus:
    """Names in memory.

    Args:
        known: files and directories.
        cap: of ``--max-cached-names``: more are kept only while the kernel or a program holds them.
        open_files, handles: files that are open or unsent, and open(2)s of them.
    """

    known: int
    cap: int
    open_files: int
    handles: int


@dataclass(frozen=True, slots=True)
class MountStatus:
    """All of it.

    Args:
        version: of this shape.
        program: the version of s3mount that serves the mount.
        state: ``serving``; ``draining``: it is unmounted, or about to be, and sends what is left.
        source: ``s3://bucket/prefix``.
        uptime_s: since it was mounted.
        write_back_s: of ``--write-back``; None: a close waits for its upload.
    """

    version: int
    program: str
    state: str
    pid: int
    mountpoint: str
    source: str
    endpoint_url: str
    uptime_s: float
    is_read_only: bool
    write_back_s: float | None
    server: ServerStatus
    requests: RequestStatus
    cache: CacheStatus
    memory: MemoryStatus
    spool: SpoolStatus
    uploads: UploadsStatus
    renames: list[RenameStatus]
    names: NamesStatus
    errors: list[ErrorRecord]

    def as_json(self) -> dict[str, Any]:
        """Return it as objects that JSON has."""
        return asdict(self)
