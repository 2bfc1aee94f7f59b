"""``s3mount spool push``."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import dataclass, replace

import trio

from s3mount import logs
from s3mount.cli import say_failure
from s3mount.cli.spool_fetch import fetch_from
from s3mount.cli.spool_places import Found, contents, find_places, printable, select
from s3mount.cli.spool_progress import PushProgress
from s3mount.cli.spool_store import Bucket, opened_bucket
from s3mount.cli.spool_work import Work, failed, open_work, warn_of_edges
from s3mount.config.units import format_size_short
from s3mount.core.answers import same_etag
from s3mount.core.attributes import without_checksums
from s3mount.core.content_types import for_key
from s3mount.core.exits import Exit
from s3mount.core.objects import ObjectHeaders
from s3mount.core.spool_commands import Refusal, push_condition, refuse_push, why_not_in_all
from s3mount.core.spool_record import NO_CONDITION, SENDABLE, Action, SpoolRecord, what_to_do
from s3mount.data.disk import boot_id
from s3mount.data.spool_file import SpoolFile
from s3mount.data.uploader import Uploader
from s3mount.errors import ConditionFailed, FsError, NotFound, StaleObject, StartupError

_EXPORT = "rescue what there is with export --partial"


def run(arguments: argparse.Namespace) -> int:
    """Send files to the bucket.

    Returns: Exit.OK if the bucket has all of them now, else the code of the last that failed.
    Raises: StartupError.
    """
    _check(arguments)
    logs.configure(level="warning", format="text", log_file=None)
    places = find_places(arguments.where, arguments.spool_dir)
    if arguments.all:
        chosen = [(place, found) for place in places for found in contents(place)[0]]
    else:
        chosen = select(places, arguments.ids)
    if not chosen:
        print("s3mount: the spool is empty")
    code = int(Exit.OK)
    for place in dict.fromkeys(place for place, _ in chosen):
        files = [found for at, found in chosen if at is place]
        try:
            with open_work(place) as work:
                code = trio.run(_push_all, work, files, arguments) or code
        except StartupError as error:
            if len(places) == 1:
                raise
            say_failure(error)
            code = error.exit_code
    return code


def _check(arguments: argparse.Namespace) -> None:
    if bool(arguments.ids) == arguments.all:
        raise _usage("name the files by their numbers, or give --all")
    if arguments.other_key is not None and (arguments.all or len(arguments.ids) != 1):
        raise _usage("--as is for one file")
    if arguments.other_key == "":
        raise _usage("--as needs a key")


def _usage(cause: str) -> StartupError:
    return StartupError("usage", cause, "see `s3mount spool push --help`", Exit.USAGE)


async def _push_all(work: Work, files: list[Found], arguments: argparse.Namespace) -> int:
    """Send *files* one after the other; each failure is a line. Returns: an exit code."""
    code = int(Exit.OK)
    wanted = []
    for found in files:
        try:
            wanted.append(_wanted(work, work.find(found), arguments))
        except StartupError as error:
            say_failure(error)
            code = error.exit_code
    if not wanted:
        return code
    async with opened_bucket(work.place, arguments) as bucket:
        # What another process has begun is its own to end: beside a mount its list is left alone.
        uploader = Uploader(
            bucket.store,
            part_size=bucket.config.part_size,
            concurrency=bucket.config.upload_concurrency,
            begun=work.guest.rows if work.is_alone else None,
        )
        progress = PushProgress(wanted, bucket.sending)
        async with progress.shown():
            for record in wanted:
                try:
                    await _Push(work, bucket, uploader, arguments, progress).push(record)
                except StartupError as error:
                    say_failure(error)
                    code = error.exit_code
                progress.ends(record)
        await uploader.abort_left()
    return code


def _wanted(work: Work, record: SpoolRecord, arguments: argparse.Namespace) -> SpoolRecord:
    """Return *record* if it is to be sent, before anybody is asked for anything.

    Raises: StartupError.
    """
    with work.claimed(record) as claimed:
        record = claimed.record
    if arguments.all and not _is_to_be_compared(record):
        reason = why_not_in_all(record, boot_id(), overwrite=arguments.overwrite)
        if reason is not None:
            raise failed(record, Refusal(f"it is left: {reason}", "look at it, and push it by its number"))
    refusal = refuse_push(record, overwrite=arguments.overwrite, other_key=arguments.other_key)
    if refusal is not None:
        raise failed(record, refusal)
    return record


def _is_to_be_compared(record: SpoolRecord) -> bool:
    return what_to_do(record, boot_id(), is_dead_mount=True).action is Action.COMPARE


@dataclass(frozen=True)
class _Push:
    """Sends a file."""

    work: Work
    bucket: Bucket
    uploader: Uploader
    arguments: argparse.Namespace
    progress: PushProgress

    async def push(self, record: SpoolRecord) -> None:
        """Send *record*; it is gone from the spool then.

        Cancel: what was sent is remembered. Raises: StartupError: the file stays.
        """
        with self.work.claimed(record) as claimed:
            record = claimed.record
            key = self.arguments.other_key or record.key
            try:
                file = await claimed.open()
            except FsError as error:
                raise failed(record, Refusal(str(error), _EXPORT)) from error
            self.progress.begins(record, file)
            try:
                await self._send(record, file, key)
            except FsError as error:
                raise failed(record, await self._explained(record, file, key, error)) from error
            finally:
                await file.close()
        target = f"s3://{self.bucket.config.bucket}/{printable(key)}"
        warn_of_edges(record)
        print(f"s3mount: file {record.id} is in the bucket: {target} ({format_size_short(file.size)})")

    async def _send(self, record: SpoolRecord, file: SpoolFile, key: str) -> None:
        if self.arguments.all and _is_to_be_compared(record):
            answer = await self.uploader.has(key, file)
            if answer is None:
                raise FsError(f"it is left: {what_to_do(record, boot_id(), is_dead_mount=True).cause}")
            file.sent(answer.etag)
        elif key == record.key:
            file.sent(await self._upload(record, file, key))
        else:
            file.rekey(key, NO_CONDITION, with_edits=False)
            try:
                await self._upload(record, file, key)
            except BaseException:
                file.rekey(record.key, record.condition, with_edits=False)
                raise
            file.sent()
        await file.discard()

    async def _upload(self, record: SpoolRecord, file: SpoolFile, key: str) -> str | None:
        """Return the ETag once the bucket has been seen to have the file."""
        overwrite, other_key = self.arguments.overwrite, self.arguments.other_key
        condition = push_condition(record, overwrite=overwrite, other_key=other_key)
        if record.base is not None:
            await file.fill(fetch_from(self.bucket.store, record.base))
        headers = record.headers or await self._headers(record, key)
        await self.uploader.upload(key, file, headers, condition=condition, ledger=file.ledger)
        seen = await self.uploader.has(key, file)
        if seen is None:
            raise FsError("it was stored, and somebody else has replaced it already")
        return seen.etag

    async def _headers(self, record: SpoolRecord, key: str) -> ObjectHeaders:
        """Return headers for a file that no close has given any: the old object's."""
        old = None if record.base is None else record.base.headers
        if old is None and record.base is not None:
            with suppress(NotFound):
                asked = await self.bucket.store.head(record.base.key)
                old = asked.headers if same_etag(asked.etag, record.base.etag) else None
        old = old or ObjectHeaders()
        return replace(
            old, content_type=old.content_type or for_key(key), metadata=without_checksums(old.metadata)
        )

    async def _explained(self, record: SpoolRecord, file: SpoolFile, key: str, error: FsError) -> Refusal:
        if isinstance(error, ConditionFailed) and key != record.key:
            return Refusal(f"the bucket has an object {key} already", "name another, or add --overwrite")
        if isinstance(error, ConditionFailed):
            if record.state in SENDABLE:
                with suppress(FsError):
                    await file.conflict(str(error))
            return Refusal(
                "somebody else has stored another object there",
                "compare the two (export), then push --overwrite ID, or push --as OTHER-KEY ID to keep both",
            )
        if isinstance(error, StaleObject | NotFound):
            return Refusal("bytes of it are missing, and the object that has them is gone", _EXPORT)
        return Refusal(str(error), "it stays in the spool; try again")
