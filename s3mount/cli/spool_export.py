"""``s3mount spool export``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import trio

from s3mount import logs
from s3mount.cli.spool_fetch import fetch_from
from s3mount.cli.spool_places import Found, Place, find_places, printable, select
from s3mount.cli.spool_store import opened_bucket
from s3mount.cli.spool_work import described, failed, warn_of_edges
from s3mount.config.units import format_size_short
from s3mount.core.exits import Exit
from s3mount.core.objects import ByteRange
from s3mount.core.spool_commands import Refusal, missing_ranges, with_size_on_disk
from s3mount.core.spool_record import SpoolRecord, SpoolState
from s3mount.data.journal import JournalDamaged
from s3mount.data.journal_rows import read_records
from s3mount.data.spool_loader import FETCH_BYTES
from s3mount.data.spool_recovery import facts_on_disk
from s3mount.errors import FsError, NotFound, StaleObject, StartupError

PIECE_BYTES = 1 << 20


def run(arguments: argparse.Namespace) -> int:
    """Copy a file out of the spool. It needs to write nothing there.

    Raises: StartupError; there is no target then.
    """
    logs.configure(level="warning", format="text", log_file=None)
    ((place, found),) = select(find_places(arguments.where, arguments.spool_dir), [arguments.id])
    source = _opened(place, found)
    try:
        before = os.fstat(source)
        record = _described(place, found, before.st_size)
        with _new_file(arguments.target) as target:
            _copy(record, source, target)
            lost = trio.run(_complete, place, record, target, arguments)
            _need_unchanged(place, found, before, os.fstat(source))
            os.fsync(target)
    finally:
        os.close(source)
    _sync_directory(arguments.target)
    print(
        f"s3mount: {described(found.record)} is copied to {printable(arguments.target)}, "
        "and stays in the spool"
    )
    warn_of_edges(found.record)
    for span in lost:
        print(f"s3mount: bytes {span.start}-{span.stop} of {record.size} are zeros: nobody has them")
    return int(Exit.OK)


def _opened(place: Place, found: Found) -> int:
    path = os.path.join(place.path, found.record.file_name)
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise failed(found.record, Refusal(f"{path}: {error.strerror}", "see its disk")) from error


def _described(place: Place, found: Found, size_on_disk: int) -> SpoolRecord:
    """Return the row of a file with what its data file really has.

    Raises: StartupError (a program is writing it).
    """
    record = _row(place, found)
    if record is None:
        return with_size_on_disk(replace(found.record, size=0), size_on_disk)
    if record.state is not SpoolState.WRITING:
        return with_size_on_disk(record, size_on_disk)
    if place.is_mount:
        raise failed(
            record, Refusal(f"it is being written through {place.mount}", "copy it from the mount itself")
        )
    changes = facts_on_disk(os.path.join(place.path, record.file_name), record)
    return with_size_on_disk(replace(record, **changes), size_on_disk)


def _row(place: Place, found: Found) -> SpoolRecord | None:
    with suppress(JournalDamaged):
        for record in read_records(place.path):
            if record.file_name == found.record.file_name:
                return record
    return None


def _need_unchanged(place: Place, found: Found, before: os.stat_result, after: os.stat_result) -> None:
    """Refuse a copy that a program may have written into. Raises: StartupError."""
    record = _row(place, found)
    is_changing = place.is_mount and record is not None and record.state is SpoolState.WRITING
    if is_changing or (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise failed(found.record, Refusal("a program has changed it meanwhile", "try again"))


@contextmanager
def _new_file(path: str) -> Iterator[int]:
    """Give a new file, which is gone again if the block fails. Raises: StartupError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except FileExistsError:
        raise StartupError(
            f"target {printable(path)}", "it exists already", "name a file that does not", Exit.USAGE
        ) from None
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield fd
    except BaseException as error:
        with suppress(OSError):
            os.unlink(path)
        if isinstance(error, OSError):
            raise _unwritable(path, error) from error
        raise
    finally:
        os.close(fd)


def _unwritable(path: str, error: OSError) -> StartupError:
    return StartupError(
        f"target {printable(path)}", f"it cannot be written ({error.strerror})", "name another", Exit.FAILURE
    )


def _copy(record: SpoolRecord, source: int, target: int) -> None:
    """Write what is here. Raises: OSError."""
    os.ftruncate(target, record.size)
    for span in record.present:
        for piece in _pieces(span, PIECE_BYTES):
            data = os.pread(source, piece.size, piece.start)
            _write(target, data, piece.start)


def _write(target: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(target, view, offset)
        view, offset = view[written:], offset + written


async def _complete(
    place: Place, record: SpoolRecord, target: int, arguments: argparse.Namespace
) -> Sequence[ByteRange]:
    """Write what only the object underneath has; return the bytes that nobody has.

    Raises: StartupError; OSError.
    """
    missing = missing_ranges(record)
    if not missing:
        return ()
    if record.base is None:
        return _given_up(record, missing, "nobody knows which object has them", arguments)
    try:
        async with opened_bucket(place, arguments) as bucket:
            fetch = fetch_from(bucket.store, record.base)
            for span in missing:
                for piece in _pieces(span, FETCH_BYTES):
                    _write(target, memoryview(await fetch(piece)), piece.start)
    except (StaleObject, NotFound):
        return _given_up(record, missing, "the object that has them is gone", arguments)
    except (FsError, StartupError) as error:
        if isinstance(error, StartupError) and not arguments.partial:
            raise
        return _given_up(record, missing, str(error), arguments)
    return ()


def _given_up(
    record: SpoolRecord, missing: Sequence[ByteRange], why: str, arguments: argparse.Namespace
) -> Sequence[ByteRange]:
    if arguments.partial:
        return missing
    size = format_size_short(sum(span.size for span in missing))
    raise failed(
        record, Refusal(f"{size} of it are not here, and {why}", "--partial writes zeros in their place")
    )


def _pieces(span: ByteRange, size: int) -> Iterator[ByteRange]:
    for start in range(span.start, span.stop, size):
        yield ByteRange(start, min(start + size, span.stop))


def _sync_directory(path: str) -> None:
    with suppress(OSError):
        fd = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
