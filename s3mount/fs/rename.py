"""rename(2): a copy inside the server, then a delete; free for what only the spool has."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import trio

from s3mount.core.attributes import Attributes, to_metadata
from s3mount.core.content_types import for_key
from s3mount.core.objects import ObjectStat, WriteCondition
from s3mount.errors import (
    AlreadyExists,
    FsError,
    InvalidArgument,
    IsADirectory,
    NotADirectory,
    NotFound,
    StoreError,
    collapsed,
)
from s3mount.fs.files import target_for_new
from s3mount.fs.open_file import FileServices, OpenFile, stat_of
from s3mount.fs.open_files import OpenFiles
from s3mount.fs.tree import Tree, may_be_in_store
from s3mount.meta.inodes import DirectoryNode, FileNode, Node
from s3mount.meta.observations import stored_attributes

log = logging.getLogger(__name__)

#: DeleteObjects takes no more keys in one request.
DELETE_BATCH = 1000
#: Copies of a directory's objects under way at once; the store's own limit is what counts.
COPIES_AT_ONCE = 16


class Renamer:
    """Carries out rename."""

    def __init__(self, services: FileServices, open_files: OpenFiles, tree: Tree) -> None:
        self._services = services
        self._store = services.store
        self._namespace = services.namespace
        self._table = services.namespace.table
        self._open_files = open_files
        self._tree = tree

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
        InvalidArgument (a directory into itself), what the store raises. After a failure the old name
        has everything it had.
        """
        self._tree.check_writable(parent)
        node = await self._namespace.existing(parent, name)
        replaced = await self._find(new_parent, new_name, force=no_replace)
        if replaced is node:
            return
        if no_replace and replaced is not None:
            raise AlreadyExists(replaced.path())
        with self._namespace.changing((parent, name), (new_parent, new_name)):
            if isinstance(node, FileNode):
                if isinstance(replaced, DirectoryNode):
                    raise IsADirectory(replaced.path())
                await self._rename_file(node, new_parent, new_name, replaced)
                return
            assert isinstance(node, DirectoryNode)
            if replaced is not None:
                if not isinstance(replaced, DirectoryNode):
                    raise NotADirectory(replaced.path())
                await self._tree.check_empty(replaced)
            await self._rename_directory(node, new_parent, new_name, replaces=replaced is not None)

    async def _find(self, parent: DirectoryNode, name: bytes, *, force: bool) -> Node | None:
        try:
            return await self._namespace.lookup(parent, name, force=force)
        except NotFound:
            return None

    async def _rename_file(
        self, node: FileNode, new_parent: DirectoryNode, new_name: bytes, replaced: Node | None
    ) -> None:
        new_key = target_for_new(new_parent, new_name).new_file_key()
        if isinstance(replaced, FileNode):
            await self._tree.detach_readers(replaced)
        file = self._open_files.share(node)
        try:
            file.make_way()
            async with file.lock:
                if node.stat is not None:
                    await self._move_object(file, new_key, replaces=replaced is not None)
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
        node, old_key = file.node, file.node.key
        may_be_stored = node.may_be_stored
        if isinstance(replaced, FileNode) and may_be_in_store(replaced):
            if self._services.write_back_s is None:
                await file.upload_as(new_key, replaced.stat)
            else:
                etag = None if replaced.stat is None else replaced.stat.etag
                file.follow_name(new_key, WriteCondition(if_match=etag))
        else:
            file.follow_name(new_key)
        if may_be_stored:
            assert node.parent is not None
            await self._tree.keep_alive(node.parent, node)
            await self._store.delete(old_key)

    async def _move_object(self, file: OpenFile, new_key: str, *, replaces: bool) -> None:
        """Copy the object of *file* to *new_key* and delete the old one. Caller holds the lock."""
        node, old = file.node, file.base
        assert old is not None and node.parent is not None
        stat = await self._copy(old, new_key, node)
        try:
            await self._tree.keep_alive(node.parent, node)
        except FsError:
            if not replaces:
                await self._undo([new_key])
            raise
        await self._delete_source(old.key, new_key, replaces=replaces)
        file.moved(stat)
        file.follow_name(new_key)
        self._open_files.repoint_all(file)

    async def _delete_source(self, old_key: str, new_key: str, *, replaces: bool) -> None:
        """Delete what was copied to *new_key*; where that fails, one of the two stays, whatever happened.

        A delete without an answer may have been carried out, so the copy goes only if the source is seen
        to be there still, and never if it took the place of another object.
        """
        try:
            await self._store.delete(old_key)
        except FsError:
            try:
                await self._store.head(old_key)
            except NotFound:
                return
            if not replaces:
                await self._undo([new_key])
            raise

    async def _copy(self, old: ObjectStat, new_key: str, node: FileNode | None) -> ObjectStat:
        """Copy one object, with the time that it shows: the copy's own Last-Modified is now."""
        headers = old.headers
        if headers is None:
            old = await self._store.head(old.key)
            headers = old.headers
            assert headers is not None
        stored = stored_attributes(replace(old, headers=headers)) or Attributes()
        if stored.mtime_ns is None:
            shown = old.last_modified_ns if node is None else node.mtime_ns
            stored = replace(stored, mtime_ns=shown)
            is_directory = old.key.endswith("/")
            metadata = to_metadata(headers.metadata, stored, is_directory=is_directory)
            headers = replace(headers, metadata=metadata)
        if headers.content_type in (None, for_key(old.key)):
            # Given by the old name's extension, as of a program's temporary file: the new name knows better.
            headers = replace(headers, content_type=for_key(new_key))
        if old.size == 0 and old.key.endswith("/"):
            # SeaweedFS lists a directory's marker and says of its copy that there is none.
            answer = await self._store.put(new_key, b"", headers)
        else:
            answer = await self._services.uploader.copy(old, new_key, headers)
        if node is not None and not node.is_local:
            node.attributes = stored
        return stat_of(new_key, old.size, answer, headers)

    async def _rename_directory(
        self, node: DirectoryNode, new_parent: DirectoryNode, new_name: bytes, *, replaces: bool
    ) -> None:
        """Copy every object under the prefix, then delete the old ones; open files come along."""
        location = target_for_new(new_parent, new_name).new_directory()
        old_prefix, new_prefix = node.location.prefix, location.prefix
        if node.location.partial:
            raise InvalidArgument(f"{node.path()} is a part of longer names")
        if new_prefix.startswith(old_prefix):
            raise InvalidArgument(f"{node.path()} into itself")
        assert node.parent is not None
        async with self._held(old_prefix) as files:
            copied = await self._copy_all(old_prefix, new_prefix, replaces=replaces)
            try:
                await self._tree.keep_alive(node.parent, node)
                await self._delete_all(with_markers([old.key for old, _ in copied], old_prefix))
            except FsError as exc:
                log.error(
                    "%s is whole at %s too, and could not be deleted here: %s", node.path(), new_prefix, exc
                )
                raise
            self._namespace.move(node, new_parent, new_name)
            self._follow(node, {stat.key: stat for _, stat in copied}, files)
            for file in files:
                file.follow_name(file.node.key)

    @asynccontextmanager
    async def _held(self, prefix: str) -> AsyncIterator[list[OpenFile]]:
        """Hold the locks of all open files under *prefix*, in inode order."""
        async with AsyncExitStack() as stack:
            files = self._open_files.below(prefix)
            for file in files:
                file.make_way()
                await stack.enter_async_context(file.lock)
            yield files

    async def _copy_all(
        self, old_prefix: str, new_prefix: str, *, replaces: bool
    ) -> list[tuple[ObjectStat, ObjectStat]]:
        """Copy the subtree; on any failure delete the copies made so far.

        *replaces*: an empty directory is there already, and stays then.

        Returns: (old, new) of each object.
        """
        copied: list[tuple[ObjectStat, ObjectStat]] = []
        limiter = trio.CapacityLimiter(COPIES_AT_ONCE)
        known = self._known_nodes(old_prefix)

        async def copy_one(old: ObjectStat) -> None:
            async with limiter:
                node = known.get(old.key)
                if node is not None and node.stat is not None and node.stat.etag == old.etag:
                    old = replace(old, headers=old.headers or node.stat.headers)
                else:
                    node = None
                copied.append((old, await self._copy(old, new_prefix + old.key[len(old_prefix) :], node)))

        try:
            token: str | None = None
            while True:
                page = await self._store.list_page(old_prefix, delimiter="", token=token)
                with collapsed():
                    async with trio.open_nursery() as nursery:
                        for stat in page.objects:
                            nursery.start_soon(copy_one, stat)
                if not page.truncated:
                    return copied
                token = page.next_token
        except BaseException:
            copies = with_markers([new.key for _, new in copied], new_prefix)
            await self._undo(copies - {new_prefix} if replaces else copies)
            raise

    def _known_nodes(self, prefix: str) -> dict[str, FileNode]:
        return {
            node.key: node
            for node in self._table.nodes()
            if isinstance(node, FileNode) and node.is_linked and node.key.startswith(prefix)
        }

    async def _delete_all(self, keys: Iterable[str]) -> None:
        # What is below a marker goes before it: SeaweedFS says that a marker is deleted and keeps it
        # while anything is below.
        ordered = sorted(keys, reverse=True)
        for start in range(0, len(ordered), DELETE_BATCH):
            left = await self._store.delete_many(ordered[start : start + DELETE_BATCH])
            if left:
                raise StoreError(f"{len(left)} object(s) could not be deleted, {left[0]!r} among them")

    async def _undo(self, copies: Collection[str]) -> None:
        """Delete copies of what stays where it was; one that cannot be deleted is left and logged."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 30):
            try:
                await self._delete_all(copies)
            except FsError as exc:
                log.warning(
                    "copies of a rename that failed are left behind, %r among them: %s", min(copies), exc
                )

    def _follow(self, node: DirectoryNode, new: dict[str, ObjectStat], files: list[OpenFile]) -> None:
        """Let the nodes and handles below *node* speak of the copies."""
        if node.location.prefix in new:
            node.has_marker = True
        held = {file.node.inode: file for file in files}
        for below in node.descendants():
            if not isinstance(below, FileNode) or (stat := new.get(below.key)) is None:
                continue
            file = held.get(below.inode)
            keeps_pages = below.stat is not None and below.pages_etag == below.stat.etag
            below.stat = stat
            below.is_own = True
            below.pages_etag = stat.etag if keeps_pages else None
            if file is not None:
                file.base = stat
                self._open_files.repoint_all(file)


def with_markers(keys: list[str], prefix: str) -> set[str]:
    """Return *keys* and the markers of all directories that they lie in, from *prefix* on.

    SeaweedFS goes on listing a directory whose last key was deleted, until its marker is deleted,
    though it may have none.
    """
    slashes = ((key, place) for key in keys for place, character in enumerate(key) if character == "/")
    markers = {key[: place + 1] for key, place in slashes if place + 1 >= len(prefix)}
    return markers.union(keys)
