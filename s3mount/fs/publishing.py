"""How an open file gets into the bucket, and what becomes of it where it does not.

It is stored, loses against somebody else's object, or is kept to be sent again. Whatever happens, the
journal is told before the program is.
"""

from __future__ import annotations

import logging
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from s3mount.core.conflicts import key_beside
from s3mount.core.filestate import FileEvent, advance
from s3mount.core.objects import ByteRange, ObjectHeaders, ObjectStat, WriteAnswer, WriteCondition
from s3mount.core.spool_record import SpoolState
from s3mount.data.spool import SpoolFile
from s3mount.errors import ConditionFailed, FsError, StaleObject
from s3mount.fs.file_services import FileServices

if TYPE_CHECKING:
    from s3mount.fs.open_file import OpenFile

log = logging.getLogger(__name__)


class Publication:
    """Publishes one open file; what is known of it is the file's own."""

    def __init__(self, services: FileServices, file: OpenFile) -> None:
        self._services = services
        self._file = file

    async def publish(self, spool: SpoolFile, key: str, condition: WriteCondition) -> None:
        """Put the file into the bucket under *key*, and note how that ended. Caller holds the file's lock.

        Raises: as :meth:`s3mount.fs.open_file.OpenFile.upload`.
        """
        if spool.poison is not None:
            await self._park(spool, spool.poison)
            raise spool.poison
        node, services = self._file.node, self._services
        self._file.state = advance(self._file.state, FileEvent.BEGIN)
        parent, name = node.parent, node.name
        try:
            await spool.fill(self._file.fetch_base)
            headers = await self._file.pending_headers(key)
            if spool.is_edited:
                # From here on there is one version only: a crash must not leave two that were being sent.
                await spool.make_durable(SpoolState.QUEUED, key=key, headers=headers, condition=condition)
            if parent is not None:
                services.namespace.note_change(parent, name, adds_or_removes=False)
            node.may_be_stored = True
            answer = await self._sent(key, spool, headers, condition)
        except (ConditionFailed, StaleObject) as exc:
            await self._lose(spool, key, exc)
            return
        except BaseException as exc:
            self._file.state = advance(self._file.state, FileEvent.REFUSED)
            await self._keep_for_later(spool, exc)
            raise
        spool.sent(answer.etag)
        self._file.state = advance(self._file.state, FileEvent.SENT)
        if self._file.failures:
            log.info("%s is in the bucket now, after %d failed tries", node.path(), self._file.failures)
            self._file.failures = 0
        stat = stat_of(key, spool.size, answer, headers)
        self._file.published(stat)
        if parent is not None:
            services.namespace.note_change(parent, name, adds_or_removes=False)
        if stat.size <= services.cache.block_size:
            # The kernel drops its pages of a file that was written: its time has changed.
            with suppress(FsError):
                services.cache.keep(stat, await spool.read(ByteRange(0, stat.size), self._file.fetch_base))

    async def _sent(
        self, key: str, spool: SpoolFile, headers: ObjectHeaders, condition: WriteCondition
    ) -> WriteAnswer:
        """Send the file.

        Raises: ConditionFailed (somebody else's object is there), what the store raises.
        """
        try:
            return await self._send(key, spool, headers, condition)
        except ConditionFailed:
            if self._services.on_conflict != "overwrite":
                raise
        log.warning("%s was changed elsewhere, and is overwritten", self._file.node.path())
        return await self._send(key, spool, headers, WriteCondition())

    async def _send(
        self, key: str, spool: SpoolFile, headers: ObjectHeaders, condition: WriteCondition
    ) -> WriteAnswer:
        await spool.begin_upload(key, headers, condition)
        return await self._services.uploader.upload(
            key, spool, headers, condition=condition, ledger=spool.ledger
        )

    async def _lose(self, spool: SpoolFile, key: str, reason: FsError) -> None:
        """Leave the name to somebody else's object. What was written here stays, where the option says.

        Raises: ConditionFailed, unless both are in the bucket now.
        """
        node = self._file.node
        beside = await self._store_beside(spool, key) if self._services.on_conflict == "keep-both" else None
        if beside is None:
            self._file.state = advance(self._file.state, FileEvent.CONFLICT)
            with trio.CancelScope(shield=True):
                try:
                    await spool.conflict(str(reason))
                except FsError as exc:
                    self.not_noted(spool, exc)
            log.error(
                "%s was changed elsewhere (%s); what was written here is in %s",
                node.path(),
                reason,
                spool.path,
            )
        else:
            spool.sent()
            self._file.state = advance(self._file.state, FileEvent.SENT)
            log.warning("%s was changed elsewhere; this host's version is %s", node.path(), beside)
        self._file.is_displaced = True
        node.is_local = False
        namespace = self._services.namespace
        if (parent := node.parent) is not None:
            namespace.note_change(parent, node.name)
            namespace.expire(node)
            namespace.table.unlink(node)
            namespace.note_change(parent, node.name)
        if beside is None:
            raise ConditionFailed(f"{key} was changed elsewhere; {self._file.kept_at()}") from reason

    async def _store_beside(self, spool: SpoolFile, key: str) -> str | None:
        """Upload under a name beside *key*; return that key, None where it cannot be done."""
        beside = key_beside(key, socket.gethostname(), time.time_ns())
        try:
            await spool.fill(self._file.fetch_base)
            headers = await self._file.pending_headers(key)
            await self._services.uploader.upload(
                beside, spool, headers, condition=WriteCondition(if_none_match=True)
            )
        except FsError as exc:
            log.warning("%s cannot be stored beside the other version (%s)", self._file.node.path(), exc)
            return None
        return beside

    async def keep(self, spool: SpoolFile, failure: BaseException | None = None) -> None:
        """Make file and row safe from a power cut: it is to be sent, or, poisoned, waits for the user.

        Raises: NoSpace; FsError.
        """
        if spool.poison is None:
            key = self._file.node.key
            try:
                await spool.make_durable(
                    SpoolState.QUEUED,
                    key=key,
                    headers=await self._file.pending_headers(key),
                    condition=self._file.write_condition(),
                    cause="" if failure is None else str(failure),
                    is_failure=isinstance(failure, Exception),
                )
            except FsError:
                if spool.poison is None:
                    raise
        if spool.poison is not None:
            await self._park(spool, spool.poison)

    async def _keep_for_later(self, spool: SpoolFile, failure: BaseException) -> None:
        """Let the spool file, the only copy of what was written, outlive this process, and be sent again."""
        is_cancelled = not isinstance(failure, Exception)
        path = self._file.node.path()
        if not is_cancelled:
            self._file.failures += 1
            if not self._file.is_in_background:
                log.error("upload of %s failed (%s); its bytes are in %s", path, failure, spool.path)
            elif self._file.failures == 1:
                log.warning("%s is not in the bucket yet (%s); it is tried again", path, failure)
            else:
                log.debug("%s is not in the bucket yet (%s)", path, failure)
        with trio.CancelScope(shield=True):
            try:
                await self.keep(spool, failure)
            except FsError as exc:
                self.not_noted(spool, exc)
        if spool.poison is None and (not self._file.is_in_background or not is_cancelled):
            self._services.queue.put(self._file, is_failure=not is_cancelled)

    async def _park(self, spool: SpoolFile, cause: FsError) -> None:
        with trio.CancelScope(shield=True):
            try:
                await spool.park(str(cause))
            except FsError as exc:
                self.not_noted(spool, exc)

    def not_noted(self, spool: SpoolFile, failure: FsError) -> None:
        """Log that *failure* kept the journal from saying what the file is."""
        log.error(
            "%s: its bytes are in %s, and what they are could not be noted: %s",
            self._file.node.path(),
            spool.path,
            failure,
        )


def stat_of(key: str, size: int, answer: WriteAnswer, headers: ObjectHeaders | None) -> ObjectStat:
    """Return the stat of what was just written, without asking for it."""
    assert answer.etag is not None
    server_time = time.time_ns() if answer.server_time_ns is None else answer.server_time_ns
    return ObjectStat(
        key=key,
        size=size,
        etag=answer.etag,
        last_modified_ns=server_time - server_time % 1_000_000_000,
        headers=headers,
        storage_class=None if headers is None else headers.storage_class,
    )
