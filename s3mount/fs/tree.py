"""mkdir, rmdir, symlink, unlink, readdir: what they do to keys."""

from __future__ import annotations

import logging
from dataclasses import replace

from s3mount.core.attributes import Attributes, to_metadata
from s3mount.core.link_targets import LinkRules
from s3mount.core.objects import ByteRange, ObjectHeaders
from s3mount.errors import (
    AlreadyExists,
    BadAnswer,
    DirectoryNotEmpty,
    FsError,
    InvalidArgument,
    IsADirectory,
    LinkNotFollowed,
    LinkNotStored,
    NameTooLong,
    NotADirectory,
    ReadOnly,
)
from s3mount.fs.attributes import marker_headers
from s3mount.fs.file_services import FileServices
from s3mount.fs.files import target_for_new
from s3mount.fs.open_files import OpenFiles
from s3mount.fs.ownership import Caller, Defaults, new_attributes
from s3mount.fs.publishing import stat_of
from s3mount.meta.inodes import DirectoryNode, FileNode, Node
from s3mount.meta.observations import has_local_files

log = logging.getLogger(__name__)

#: What Linux allows for a link's target (PATH_MAX less the NUL).
MAX_TARGET = 4095
#: An open file that is unlinked is brought here first, so that its readers can go on; one larger than
#: this is not waited for, and they get ESTALE for what is not cached.
MAX_KEPT_BYTES = 1024 * 1024 * 1024


class Tree:
    """Operations on names."""

    def __init__(
        self,
        services: FileServices,
        open_files: OpenFiles,
        defaults: Defaults,
        link_rules: LinkRules,
        *,
        read_only: bool,
    ) -> None:
        self._store = services.store
        self._namespace = services.namespace
        self._table = services.namespace.table
        self._open_files = open_files
        self._defaults = defaults
        self._link_rules = link_rules
        self._read_only = read_only

    def check_writable(self, parent: DirectoryNode, name: bytes) -> None:
        """Raise ReadOnly if nothing may be changed here, Busy if *name* is part of a rename under way."""
        if self._read_only:
            raise ReadOnly(f"{parent.path()}: the mount is read-only")
        self._namespace.busy.check_change(parent.location, name)

    async def mkdir(self, parent: DirectoryNode, name: bytes, mode: int, caller: Caller) -> DirectoryNode:
        """Make a directory: one PUT of its marker, which keeps it alive while it is empty."""
        self.check_writable(parent, name)
        location = target_for_new(parent, name).new_directory()
        if name in parent.children:
            raise AlreadyExists(f"{parent.path()}: {name!r} is there")
        attributes = new_attributes(self._defaults, caller, mode, is_directory=True)
        assert location.marker_key is not None
        with self._namespace.changing((parent, name)):
            answer = await self._store.put(location.marker_key, b"", marker_headers(attributes))
            node = self._table.new_directory(parent, name, location)
        node.attributes = attributes
        node.has_marker = node.knows_marker = True
        node.mtime_ns = stat_of(location.marker_key, 0, answer, None).last_modified_ns
        self._namespace.note_fresh(node)
        self._namespace.note_empty(node)
        if not attributes.is_plain:
            parent.ask_directories = True
        return node

    async def rmdir(self, parent: DirectoryNode, name: bytes) -> None:
        """Remove an empty directory: the store is asked, whatever is cached.

        Raises: DirectoryNotEmpty, NotADirectory, NotFound.
        """
        self.check_writable(parent, name)
        node = await self._namespace.existing(parent, name)
        if not isinstance(node, DirectoryNode):
            raise NotADirectory(node.path())
        await self.check_empty(node)
        await self.keep_alive(parent, node)
        with self._namespace.changing((parent, name)):
            if node.location.marker_key is not None:
                await self._store.delete(node.location.marker_key)
            self._table.unlink(node)
            self._namespace.note_removed(parent, name)

    async def check_empty(self, node: DirectoryNode) -> None:
        """Raise DirectoryNotEmpty if the store or this host has anything in *node*."""
        is_own = has_local_files(node) or self._namespace.holds_own(node)
        if is_own or await self._namespace.holds_keys(node.location, beside_marker=True):
            raise DirectoryNotEmpty(node.path())

    async def symlink(self, parent: DirectoryNode, name: bytes, target: bytes, caller: Caller) -> FileNode:
        """Make a symbolic link: an object whose body is the target, marked in its mode as s3fs does.

        Raises: LinkNotStored (nobody could follow it here), NameTooLong, AlreadyExists, what the store
        raises.
        """
        self.check_writable(parent, name)
        if len(target) > MAX_TARGET:
            raise NameTooLong(f"link target of {len(target)} bytes")
        if not self._link_rules.permits(target, parent.depth):
            raise LinkNotStored(f"{parent.path()}: {name!r} {self._refusal(target)}")
        key = target_for_new(parent, name).new_file_key()
        if name in parent.children:
            raise AlreadyExists(f"{parent.path()}: {name!r} is there")
        attributes = new_attributes(self._defaults, caller, 0o777, is_directory=False)
        attributes = replace(attributes, mode=0o777, is_symlink=True)
        metadata = to_metadata({}, attributes, is_directory=False)
        headers = ObjectHeaders(metadata=metadata)
        with self._namespace.changing((parent, name)):
            answer = await self._store.put(key, target, headers)
            node = self._table.new_file(parent, name, key)
        node.describe(stat_of(key, len(target), answer, headers), attributes)
        node.is_own = True
        node.target = target
        self._namespace.note_fresh(node)
        parent.ask_files = True
        return node

    async def readlink(self, node: FileNode) -> bytes:
        """Return a link's target.

        Raises: LinkNotFollowed, StaleObject, BadAnswer for what cannot be a target.
        """
        if self._link_rules.links == "none":
            raise LinkNotFollowed(f"{node.path()} is a link, and --links=none lets nobody follow one")
        target = await self._target(node)
        # Each time: since the last time it may have been moved to where the same text leads out.
        depth = 0 if node.parent is None else node.parent.depth
        if not self._link_rules.permits(target, depth):
            raise LinkNotFollowed(f"{node.path()} {self._refusal(target)}")
        return target

    def _refusal(self, target: bytes) -> str:
        if self._link_rules.links == "none":
            return "would be a link, and --links=none lets nobody follow one"
        return f"would lead to {target!r}, which is or may be outside of the mount"

    async def _target(self, node: FileNode) -> bytes:
        if node.target is None:
            stat = node.stat
            assert stat is not None
            if not 0 < stat.size <= MAX_TARGET:
                raise BadAnswer(f"{node.path()}: a link target of {stat.size} bytes")
            buffer = bytearray(stat.size)
            await self._store.get_into(
                stat.key, ByteRange(0, stat.size), memoryview(buffer), if_match=stat.etag, is_whole=True
            )
            if 0 in buffer:
                raise BadAnswer(f"{node.path()}: a link target with a NUL in it")
            node.target = bytes(buffer)
        return node.target

    async def unlink(self, parent: DirectoryNode, name: bytes) -> None:
        """Remove a file. Whoever has it open keeps its bytes; the directory stays.

        Raises: IsADirectory, NotFound, what the store raises.
        """
        self.check_writable(parent, name)
        node = await self._namespace.existing(parent, name)
        if not isinstance(node, FileNode):
            raise IsADirectory(node.path())
        await self.detach_readers(node)
        await self.keep_alive(parent, node)
        with self._namespace.changing((parent, name)):
            await self.remove_object(node)

    async def remove_object(self, node: FileNode) -> None:
        """Delete the object of *node*, if the store has one, and take its name away."""
        file = self._open_files.file_of(node)
        if file is None:
            await self._delete(node)
            self._take_away(node)
            return
        file.make_way()
        async with file.lock:
            await self._delete(node)
            self._take_away(node)
        await file.drop_changes()
        await self._open_files.drop_if_idle(file)

    def _take_away(self, node: FileNode) -> None:
        parent, name = node.parent, node.name
        self._table.unlink(node)
        if parent is not None:
            self._namespace.note_removed(parent, name)

    async def _delete(self, node: FileNode) -> None:
        if not may_be_in_store(node):
            return
        parent = node.parent
        if parent is not None and node.key == parent.location.marker_key:
            # The bytes of a marker show as a file; without them it still stands for the directory.
            await self._store.put(node.key, b"", marker_headers(parent.attributes or Attributes()))
        else:
            await self._store.delete(node.key)

    async def detach_readers(self, node: FileNode) -> None:
        """Bring the bytes of an open file here, since its object is about to go."""
        file = self._open_files.file_of(node)
        if file is None or not file.handles or file.base is None:
            return
        if file.base.size > MAX_KEPT_BYTES:
            log.info("%s is open and too large to keep; its readers get ESTALE", node.path())
            return
        try:
            await file.keep_content()
        except FsError as exc:
            log.info("%s is open and could not be kept (%s); its readers get ESTALE", node.path(), exc)

    async def keep_alive(self, parent: DirectoryNode, leaving: Node) -> None:
        """Write the marker of *parent* if *leaving* is the last key under it, before that goes.

        A directory that exists only because a key has its name in front would vanish with it. So does a
        pseudo-directory, which is no more than a part of names; the directory it stands in stays.
        """
        key_leaving = leaving.key if isinstance(leaving, FileNode) else _prefix(leaving)
        is_direct = not parent.location.partial
        while parent.location.partial and parent.parent is not None:
            parent = parent.parent
        key = parent.location.marker_key
        if key is None or parent.is_root or parent.has_marker or not may_be_in_store(leaving):
            return
        if is_direct and self._namespace.is_listed(parent):
            others = (child for child in parent.children.values() if child is not leaving)
            if any(_is_in_store(child) for child in others):
                return
        page = await self._store.list_page(parent.location.prefix, max_keys=3)
        keys = {stat.key for stat in page.objects} | set(page.prefixes)
        parent.has_marker = key in keys
        if parent.has_marker or keys - {key_leaving}:
            return
        try:
            await self._store.put(key, b"", marker_headers(parent.attributes or Attributes()))
        except (NameTooLong, InvalidArgument) as exc:
            # SeaweedFS takes keys below names that it takes no marker for.
            log.info("%s vanishes with its last entry: %s", parent.path(), exc)
            return
        parent.has_marker = True


def may_be_in_store(node: Node) -> bool:
    """Whether there may be an object to delete: of an upload that failed nobody knows how far it came."""
    return _is_in_store(node) or (isinstance(node, FileNode) and node.may_be_stored)


def _is_in_store(node: Node) -> bool:
    return not isinstance(node, FileNode) or node.stat is not None


def _prefix(node: Node) -> str:
    assert isinstance(node, DirectoryNode)
    return node.location.prefix
