"""What an earlier mount has left in the spool becomes part of the tree again, and is sent."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from s3mount.core.keys import Location, file_path, resolve
from s3mount.core.spool_record import Action, SpoolRecord
from s3mount.data.spool_recovery import Leftover
from s3mount.errors import AlreadyExists, FsError
from s3mount.fs.file_services import FileServices
from s3mount.fs.open_files import OpenFiles
from s3mount.meta.inodes import DirectoryNode, FileNode, InodeTable

log = logging.getLogger(__name__)


class Recovery:
    """Takes leftovers over. Nothing is sent here: the queue does that."""

    def __init__(self, services: FileServices, open_files: OpenFiles) -> None:
        self._services = services
        self._open_files = open_files
        self._root = services.namespace.table.root.location

    async def adopt(self, leftovers: Sequence[Leftover]) -> None:
        """Show what can be finished under its names, as this host's files, and queue it. Asks no server."""
        to_send = [one.record for one in leftovers if one.decision.action is Action.SEND]
        keys = {record.key for record in to_send}
        taken = 0
        for record in to_send:
            is_beside = any(key.startswith(f"{record.key}/") for key in keys)
            taken += await self._adopt_one(record, is_beside)
        waiting = len(leftovers) - taken - sum(one.decision.action is Action.COMPARE for one in leftovers)
        if taken:
            log.info("%d file(s) that an earlier mount could not send are sent now", taken)
        if waiting:
            log.warning(
                "%d file(s) of an earlier mount wait for you in %s (s3mount spool list shows them)",
                waiting,
                self._services.spool_dir.path,
            )

    async def compare(self, leftovers: Sequence[Leftover]) -> None:
        """Look whether the bucket has what the spool may have damaged; what it has not, waits for the user.

        Raises: nothing of its own; without an answer the next mount looks again.
        """
        for one in leftovers:
            if one.decision.action is Action.COMPARE:
                try:
                    await self._compare_one(one.record, one.decision.cause)
                except FsError as exc:
                    log.warning("%s of the spool is compared with the bucket later: %s", one.record.key, exc)

    async def settle(self, leftovers: Sequence[Leftover]) -> None:
        """Compare, then abort the uploads in parts that earlier mounts began and nobody goes on with.

        Raises: nothing of its own; what cannot be aborted now is so later.
        """
        await self.compare(leftovers)
        try:
            await self._services.uploader.abort_left()
        except FsError as exc:
            log.debug("uploads of earlier mounts are aborted later: %s", exc)

    async def _adopt_one(self, record: SpoolRecord, is_beside: bool) -> bool:
        try:
            node = plant(self._services.namespace.table, self._root, record.key, beside_prefix=is_beside)
        except (FsError, ValueError) as exc:
            log.warning("%s of the spool has no place among this mount's files: %s", record.key, exc)
            return False
        try:
            spool = await self._services.spool_dir.reopen(record)
        except FsError as exc:
            log.warning("%s of the spool cannot be sent: %s", record.key, exc)
            self._services.namespace.table.unlink(node)
            return False
        file = self._open_files.adopt(node, spool, record)
        self._services.queue.put(file, at_once=True)
        return True

    async def _compare_one(self, record: SpoolRecord, cause: str) -> None:
        spool = await self._services.spool_dir.reopen(record)
        try:
            there = await self._services.uploader.has(record.key, spool) if spool.is_complete else None
            if there is None:
                await spool.park(cause)
                log.warning(
                    "%s of the spool waits for you: %s (s3mount spool list)",
                    record.key,
                    cause,
                )
                await spool.close()
                return
        except BaseException:
            await spool.close()
            raise
        log.info("%s of the spool is in the bucket already", record.key)
        spool.sent(there.etag)
        await spool.discard()


def plant(table: InodeTable, root: Location, key: str, *, beside_prefix: bool) -> FileNode:
    """Make the node of a file that only this host has, and of the directories that lead to it.

    Raises: ValueError (the key is not of this mount), AlreadyExists (the name is another one's), FsError.
    """
    *directories, last = file_path(root, key, beside_prefix=beside_prefix)
    parent = table.root
    for name in directories:
        child = parent.children.get(name)
        if child is None:
            location = resolve(parent.location, name).directory
            if location is None:
                raise AlreadyExists(f"{name!r} cannot be a directory")
            child = table.new_directory(parent, name, location)
        if not isinstance(child, DirectoryNode):
            raise AlreadyExists(child.path())
        parent = child
    if last in parent.children:
        raise AlreadyExists(parent.children[last].path())
    return table.new_file(parent, last, key, beside_prefix=beside_prefix)
