"""rename(2): a copy inside the server, then a delete; free for what only the spool has."""

from __future__ import annotations

import logging

import trio

from s3mount.core.keys import Location
from s3mount.core.objects import ObjectStat, WriteCondition
from s3mount.errors import (
    AlreadyExists,
    ConditionFailed,
    DirectoryNotEmpty,
    FsError,
    InvalidArgument,
    IsADirectory,
    NotADirectory,
    NotFound,
)
from s3mount.fs.file_services import FileServices
from s3mount.fs.files import target_for_new
from s3mount.fs.jobs import Jobs
from s3mount.fs.open_file import OpenFile, condition_over
from s3mount.fs.open_files import OpenFiles
from s3mount.fs.rename_copy import Copier
from s3mount.fs.rename_tree import Place
from s3mount.fs.tree import Tree, may_be_in_store
from s3mount.meta.inodes import DirectoryNode, FileNode, Node
from s3mount.meta.observations import has_local_files

log = logging.getLogger(__name__)

UNDO_S = 30
"""How long taking a copy back may keep the caller."""

QUICKLY_COPIED = 8 * 1024 * 1024
"""Servers copy so many bytes in about the time of one request."""


class Renamer:
    """Carries out rename."""

    def __init__(self, services: FileServices, open_files: OpenFiles, tree: Tree, jobs: Jobs) -> None:
        self._services = services
        self._store = services.store
        self._namespace = services.namespace
        self._copier = Copier(services.store, services.uploader)
        self._open_files = open_files
        self._tree = tree
        self._jobs = jobs
        self._deletes_matching = services.uploader.facts.delete_if_match

    async def rename(
        self,
        parent: DirectoryNode,
        name: bytes,
        new_parent: DirectoryNode,
        new_name: bytes,
        *,
        no_replace: bool,
    ) -> None:
        """Move *name* to *new_name*, replacing a file or an empty directory there.

        Raises: NotFound, AlreadyExists (no_replace), IsADirectory, NotADirectory, DirectoryNotEmpty,
        InvalidArgument (a directory into itself), Busy, what the store raises: then the old name has
        everything it had. InProgress (a directory's rename that takes longer than its deadline goes on).
        """
        self._tree.check_writable(parent, name)
        self._tree.check_writable(new_parent, new_name)
        node = await self._namespace.existing(parent, name)
        if no_replace:
            replaced = None
            await self._check_free(node, new_parent, new_name)
        else:
            replaced = await self._find(new_parent, new_name)
        if replaced is node:
            return
        with self._namespace.changing((parent, name), (new_parent, new_name)):
            if isinstance(node, FileNode):
                if isinstance(replaced, DirectoryNode):
                    raise IsADirectory(replaced.path())
                await self._rename_file(node, new_parent, new_name, replaced, no_replace=no_replace)
                return
            assert isinstance(node, DirectoryNode)
            if replaced is not None and not isinstance(replaced, DirectoryNode):
                raise NotADirectory(replaced.path())
            await self._rename_directory(node, new_parent, new_name, replaced, no_replace=no_replace)

    async def _check_free(self, node: Node, parent: DirectoryNode, name: bytes) -> None:
        """Look whether the name to be given to *node* is free, as far as its copy will not find out.

        Raises: AlreadyExists, what the store raises.
        """
        force = True
        if isinstance(node, FileNode) and node.stat is not None:
            # The copy creates the object or fails; a directory of that name it does not see.
            force = await self._find(parent, name) is not None
            directory = target_for_new(parent, name).new_directory()
            if not force and await self._namespace.holds_keys(directory):
                raise AlreadyExists(f"{parent.path()}: {name!r} is a directory by now")
        if force and (there := await self._find(parent, name, force=True)) is not None:
            raise AlreadyExists(there.path())

    async def _find(self, parent: DirectoryNode, name: bytes, *, force: bool = False) -> Node | None:
        try:
            return await self._namespace.lookup(parent, name, force=force)
        except NotFound:
            return None

    async def _rename_file(
        self,
        node: FileNode,
        new_parent: DirectoryNode,
        new_name: bytes,
        replaced: Node | None,
        *,
        no_replace: bool,
    ) -> None:
        new_key = target_for_new(new_parent, new_name).new_file_key()
        if isinstance(replaced, FileNode):
            await self._tree.detach_readers(replaced)
        file = self._open_files.share(node)
        try:
            file.make_way()
            async with file.lock:
                if node.parent is None:
                    raise NotFound(f"{node.key!r} was removed by somebody else")
                if node.stat is not None:
                    await self._move_object(
                        file, new_key, replaces=replaced is not None, no_replace=no_replace
                    )
                else:
                    await self._move_spool(file, new_key, replaced)
                old_replaced = self._open_files.file_of(replaced) if isinstance(replaced, FileNode) else None
                self._namespace.move(node, new_parent, new_name)
            if old_replaced is not None:
                await old_replaced.drop_changes()
                await self._open_files.drop_if_idle(old_replaced)
        finally:
            await self._open_files.leave(file)

    async def _move_spool(self, file: OpenFile, new_key: str, replaced: Node | None) -> None:
        """Prepare a file that only the spool has for *new_key*. Caller holds the lock.

        Where it takes the place of an object, the bucket gets it now: the old one is gone from here on.
        """
        node, old_key, condition = file.node, file.node.key, file.condition
        may_be_stored = node.may_be_stored
        hidden = replaced if isinstance(replaced, FileNode) and may_be_in_store(replaced) else None
        if hidden is None:
            # What must hold of the old name, as of an object to be replaced there, is not asked of this one.
            file.follow_name(new_key, condition_over(None, new_key))
        elif self._services.write_back_s is None:
            await file.upload_as(new_key, hidden.stat)
        else:
            etag = None if hidden.stat is None else hidden.stat.etag
            file.follow_name(new_key, WriteCondition(if_match=etag))
        if may_be_stored:
            assert node.parent is not None
            try:
                await file.secure_name()
                await self._tree.keep_alive(node.parent, node)
                await self._store.delete(old_key)
            except FsError:
                if file.is_unsent:
                    file.keep_name(old_key, condition)
                raise
        # Whoever removes or renames the file next has to delete the object that it hides.
        node.may_be_stored |= hidden is not None

    async def _move_object(self, file: OpenFile, new_key: str, *, replaces: bool, no_replace: bool) -> None:
        """Copy the object of *file* to *new_key* and delete the old one. Caller holds the lock."""
        node, old = file.node, file.base
        assert old is not None and node.parent is not None
        condition = file.condition
        source = await self._copier.described(old)
        shown_ns = node.mtime_ns if source.etag == old.etag else source.last_modified_ns
        try:
            stat, stored = await self._copier.copy(source, new_key, shown_ns, if_none_match=no_replace)
        except ConditionFailed:
            if no_replace and await self._is_there(new_key):
                raise AlreadyExists(f"{new_key!r} is there by now") from None
            raise
        if not node.is_local:
            node.attributes = stored
        try:
            await self._tree.keep_alive(node.parent, node)
            file.follow_name(new_key, WriteCondition(if_match=stat.etag), base=stat)
            await file.secure_name()
        except FsError:
            file.keep_name(old.key, condition)
            if not replaces:
                await self._undo(stat)
            raise
        try:
            await self._delete_source(source, stat, replaces=replaces)
        except FsError:
            file.keep_name(old.key, condition)
            raise
        file.moved(stat)
        self._open_files.repoint_all(file)

    async def _delete_source(self, source: ObjectStat, copy: ObjectStat, *, replaces: bool) -> None:
        """Delete the version that was copied; where that fails, one of the two stays, whatever happened.

        A delete without an answer may have been carried out, so the copy goes only if the source is seen
        to be there still, and never if it took the place of another object. Killed between copy and
        delete, both are there: nothing is lost, and no job is needed.
        """
        # The copy has just named the version. Where DELETE cannot, a HEAD tells more than that only if the
        # copy took its time.
        names_version = self._deletes_matching or source.size > QUICKLY_COPIED
        try:
            await self._store.delete(source.key, if_match=source.etag if names_version else None)
        except FsError:
            if not await self._is_there(source.key):
                return
            if not replaces:
                await self._undo(copy)
            raise

    async def _is_there(self, key: str) -> bool:
        try:
            await self._store.head(key)
        except NotFound:
            return False
        return True

    async def _undo(self, copy: ObjectStat) -> None:
        """Delete the copy of what stays where it was; one that cannot be deleted is left and logged."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + UNDO_S):
            try:
                await self._store.delete(copy.key, if_match=copy.etag)
            except FsError as exc:
                log.warning("the copy %r of a rename that failed is left behind: %s", copy.key, exc)

    async def _rename_directory(
        self,
        node: DirectoryNode,
        new_parent: DirectoryNode,
        new_name: bytes,
        replaced: DirectoryNode | None,
        *,
        no_replace: bool,
    ) -> None:
        """Copy every object under the prefix, then delete the old ones; open files come along."""
        location = target_for_new(new_parent, new_name).new_directory()
        old_prefix, new_prefix = node.location.prefix, location.prefix
        if node.location.partial:
            raise InvalidArgument(f"{node.path()} is a part of longer names")
        if new_prefix.startswith(old_prefix):
            raise InvalidArgument(f"{node.path()} into itself")
        keeps_top = await self._find_empty(location, replaced, no_replace=no_replace)
        if node.parent is None:
            raise NotFound(f"{old_prefix!r} was removed by somebody else")
        place = Place(node, node.parent, node.name, new_parent, new_name)
        await self._jobs.rename(old_prefix, new_prefix, place, keeps_top=keeps_top)

    async def _find_empty(
        self, location: Location, replaced: DirectoryNode | None, *, no_replace: bool
    ) -> bool:
        """Ask whether an empty directory is at *location*; whatever is there counts, known here or not.

        Raises: DirectoryNotEmpty, AlreadyExists (no_replace), what the store raises.
        """
        page = await self._store.list_page(location.prefix, delimiter="", max_keys=2)
        others = [stat for stat in page.objects if stat.key != location.marker_key or stat.size]
        is_own = replaced is not None and (has_local_files(replaced) or self._namespace.holds_own(replaced))
        if others or is_own:
            raise DirectoryNotEmpty(location.prefix)
        if no_replace and page.objects:
            raise AlreadyExists(location.prefix)
        return bool(page.objects)
