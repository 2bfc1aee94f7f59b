"""chmod, chown, utimens: kept in the object's metadata, where s3fs and others read it too.

S3 cannot change metadata in place. A file that is about to be uploaded carries the change along; one
that is not is copied onto itself inside the server.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from s3mount.core.attributes import Attributes, to_metadata
from s3mount.core.objects import ObjectHeaders
from s3mount.errors import NotFound, OwnerFixed, ReadOnly
from s3mount.fs.file_services import FileServices
from s3mount.fs.files import Files
from s3mount.fs.open_file import OpenFile
from s3mount.fs.open_files import OpenFiles
from s3mount.fs.ownership import Defaults, permission_bits
from s3mount.fs.publishing import stat_of
from s3mount.meta.inodes import DirectoryNode, FileNode, Node
from s3mount.meta.observations import observe_marker

#: What the AWS console and other tools give to the object that stands for a directory.
MARKER_TYPE = "application/x-directory"


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """What setattr is to change; None leaves it. Times in nanoseconds since the epoch."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime_ns: int | None = None
    atime_ns: int | None = None
    size: int | None = None

    @property
    def is_stored(self) -> bool:
        """Whether anything is to be kept in the object's metadata."""
        return any(value is not None for value in (self.mode, self.uid, self.gid, self.mtime_ns))


class AttributeWriter:
    """Carries out setattr."""

    def __init__(
        self,
        services: FileServices,
        open_files: OpenFiles,
        files: Files,
        defaults: Defaults,
        *,
        read_only: bool,
    ) -> None:
        self._services = services
        self._open_files = open_files
        self._files = files
        self._defaults = defaults
        self._read_only = read_only

    async def change(self, node: Node, change: AttributeChange, number: int | None) -> None:
        """Change *node*; *number* is the handle that the caller had, if any.

        Raises: NotPermitted (set-uid bits), OwnerFixed, ReadOnly, Busy, NotFound, StaleObject, what the
        store raises.
        """
        if self._read_only:
            raise ReadOnly(f"{node.path()}: the mount is read-only")
        if node.parent is not None:
            self._services.namespace.busy.check_change(node.parent.location, node.name)
        if not self._defaults.stores_owners:
            change = self._without_owner(node, change)
        if change.size is not None and isinstance(node, FileNode):
            await self._files.truncate(node, change.size, number)
        if change.is_stored:
            await self._store(node, change)
        if change.atime_ns is not None:
            node.atime_ns = change.atime_ns

    def _without_owner(self, node: Node, change: AttributeChange) -> AttributeChange:
        """Return the rest of *change*, where it makes nobody the owner who is not shown as such already."""
        if not self._defaults.shows(change.uid, change.gid):
            owner = f"{self._defaults.uid}:{self._defaults.gid}"
            raise OwnerFixed(f"{node.path()}: everything on this mount is {owner}'s")
        return replace(change, uid=None, gid=None)

    async def _store(self, node: Node, change: AttributeChange) -> None:
        if isinstance(node, DirectoryNode):
            await self._know_marker(node)
            wanted = self._merge(node, node.attributes or Attributes(), change)
            if wanted != node.attributes and node.is_linked:
                await self._store_directory(node, wanted)
            self._show(node, wanted)
            return
        assert isinstance(node, FileNode)
        file = self._open_files.share(node)
        try:
            file.make_way()
            async with file.lock:
                if not file.is_unsent:
                    # Whatever else is stored must come along, and may not be known yet.
                    await file.known_headers()
                wanted = self._merge(node, node.attributes or Attributes(), change)
                if wanted != (node.attributes or Attributes()):
                    await self._store_file(file, wanted)
        finally:
            await self._open_files.leave(file)

    def _merge(self, node: Node, stored: Attributes, change: AttributeChange) -> Attributes:
        """Return what is to be stored: an unchanged value that is the default anyway stays unstored."""
        shown = shown_attributes(node, self._defaults)
        is_directory = isinstance(node, DirectoryNode)
        wanted = stored
        if change.mode is not None and not stored.is_symlink:
            mode = permission_bits(change.mode, is_directory=is_directory)
            wanted = wanted if mode == shown.mode else replace(wanted, mode=mode)
        if change.uid is not None and change.uid != shown.uid:
            wanted = replace(wanted, uid=change.uid)
        if change.gid is not None and change.gid != shown.gid:
            wanted = replace(wanted, gid=change.gid)
        if change.mtime_ns is not None and change.mtime_ns != stored.mtime_ns:
            wanted = replace(wanted, mtime_ns=change.mtime_ns)
        return wanted

    async def _store_file(self, file: OpenFile, wanted: Attributes) -> None:
        node = file.node
        if file.is_unsent or not node.is_linked or file.base is None:
            self._show(node, wanted)
            if file.is_unsent:
                await file.change_attributes()
            return
        if wanted.mtime_ns is None:
            # The copy gets a new Last-Modified, and the content is as old as it was.
            wanted = replace(wanted, mtime_ns=node.mtime_ns)
        old = await file.known_headers()
        metadata = to_metadata(old.metadata, wanted, is_directory=False)
        headers = replace(old, metadata=metadata)
        await self._copy_onto_itself(file, headers)
        self._show(node, wanted)

    async def _copy_onto_itself(self, file: OpenFile, headers: ObjectHeaders) -> None:
        node, base, namespace = file.node, file.base, self._services.namespace
        assert base is not None
        parent, name = node.parent, node.name
        if parent is not None:
            namespace.note_change(parent, name, adds_or_removes=False)
        try:
            answer = await self._services.uploader.copy(base, node.key, headers)
        except NotFound:
            namespace.expire(node)
            raise
        file.moved(stat_of(node.key, base.size, answer, headers))
        self._open_files.repoint_all(file)
        if parent is not None:
            namespace.note_change(parent, name, adds_or_removes=False)

    async def _know_marker(self, node: DirectoryNode) -> None:
        """Ask for what the marker holds, unless it is known: it must come along."""
        key = node.location.marker_key
        if key is None or node.is_root or not node.is_linked or node.knows_marker:
            return
        try:
            stat = await self._services.store.head(key)
        except NotFound:
            stat = None
        observe_marker(node, stat)

    async def _store_directory(self, node: DirectoryNode, wanted: Attributes) -> None:
        """Write the marker. The root of a bucket and a pseudo-directory have none: memory has to do."""
        key = node.location.marker_key
        if key is None or node.is_root:
            return
        store = self._services.store
        old = await store.head(key) if node.marker_holds_bytes else None
        if old is not None and old.size and old.headers is not None:
            # The bytes show as a file of their own, and are not the directory's to drop.
            metadata = to_metadata(old.headers.metadata, wanted, is_directory=True)
            await self._services.uploader.copy(old, key, replace(old.headers, metadata=metadata))
        else:
            await store.put(key, b"", marker_headers(wanted))
        node.has_marker = node.knows_marker = True
        self._services.namespace.note_fresh(node)
        if node.parent is not None:
            node.parent.ask_directories = True

    def _show(self, node: Node, wanted: Attributes) -> None:
        node.attributes = wanted
        node.ctime_ns = time.time_ns()
        if wanted.mtime_ns is not None:
            node.mtime_ns = wanted.mtime_ns
        if node.parent is not None and isinstance(node, FileNode) and not wanted.is_plain:
            node.parent.ask_files = True


@dataclass(frozen=True, slots=True)
class ShownAttributes:
    """Owner and permission bits as `ls -l` shows them."""

    uid: int
    gid: int
    mode: int


def shown_attributes(node: Node, defaults: Defaults) -> ShownAttributes:
    """Return what *node* shows: what is stored and believed, and the mount's defaults for the rest."""
    stored = node.attributes or Attributes()
    default = defaults.dir_mode if isinstance(node, DirectoryNode) else defaults.file_mode
    mode = default if stored.mode is None else stored.mode
    if stored.is_symlink:
        mode = 0o777
    return ShownAttributes(
        uid=defaults.uid if stored.uid is None or not defaults.stores_owners else stored.uid,
        gid=defaults.gid if stored.gid is None or not defaults.stores_owners else stored.gid,
        mode=mode,
    )


def marker_headers(attributes: Attributes) -> ObjectHeaders:
    """Return the headers of a directory marker with *attributes*."""
    return ObjectHeaders(content_type=MARKER_TYPE, metadata=to_metadata({}, attributes, is_directory=True))
