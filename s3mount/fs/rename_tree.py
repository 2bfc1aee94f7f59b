"""What this host shows of a tree that is being renamed: the old name until all copies are made, then the new.

Whoever has files of it open goes on reading, first the old objects and then their copies; whoever
writes waits until the tree has changed its name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from s3mount.core.attributes import Attributes
from s3mount.core.keys import directory_path
from s3mount.core.objects import ObjectStat
from s3mount.core.rename_job import JobObject
from s3mount.data.job_journal import JobJournal, JobRecord
from s3mount.errors import NotFound
from s3mount.fs.file_services import FileServices
from s3mount.fs.open_file import OpenFile
from s3mount.fs.open_files import OpenFiles
from s3mount.fs.rename_spool import SpoolMove
from s3mount.fs.tree import Tree
from s3mount.meta.inodes import DirectoryNode, FileNode, Node
from s3mount.meta.namespace import Namespace
from s3mount.meta.observations import has_local_files


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tree stands in this host's names, and where it is to go."""

    node: DirectoryNode
    parent: DirectoryNode
    name: bytes
    new_parent: DirectoryNode
    new_name: bytes

    def nodes(self) -> Iterable[Node]:
        """Return the nodes that must not be forgotten meanwhile."""
        return (self.node, self.parent, self.new_parent)


@dataclass(frozen=True, slots=True)
class _Before:
    """A file as it was under the old name."""

    node: FileNode
    stat: ObjectStat
    is_own: bool
    pages_etag: str | None
    copy: ObjectStat


class MovingTree:
    """This host's side of one job.

    Args:
        place: None where this host has not looked at the tree yet; see :meth:`take`.
    """

    def __init__(
        self,
        record: JobRecord,
        journal: JobJournal,
        services: FileServices,
        open_files: OpenFiles,
        tree: Tree,
        place: Place | None,
    ) -> None:
        self._record = record
        self._journal = journal
        self._namespace = services.namespace
        self._table = services.namespace.table
        self._cache = services.cache
        self._open_files = open_files
        self._tree = tree
        self._place: Place | None = None
        self._copies: dict[str, tuple[ObjectStat, Attributes]] = {}
        self._before: list[_Before] = []
        self._spool = SpoolMove(services.spool_dir, open_files, record.old, record.new, self._copy_of)
        self._nodes: dict[str, FileNode] | None = None
        self.take(place)

    @property
    def is_placed(self) -> bool:
        """Whether the tree's nodes are known."""
        return self._place is not None

    def take(self, place: Place | None) -> None:
        """Say where the tree stands; its nodes stay from here on until :meth:`close`."""
        self.close()
        for node in () if place is None else place.nodes():
            node.pins += 1
        self._place = place

    def close(self) -> None:
        """Let the nodes go."""
        for node in () if self._place is None else self._place.nodes():
            self._table.unpin(node)
        self._place = None

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold the locks of all open files of the tree, in inode order: who writes or uploads waits."""
        async with AsyncExitStack() as stack:
            for file in self._open_files.below(self._record.old):
                file.make_way()
                await stack.enter_async_context(file.lock)
            yield

    def refined(self, stat: ObjectStat) -> tuple[ObjectStat, int]:
        """Return *stat* with its headers if they are known, and the time that the object shows."""
        if self._nodes is None:
            self._nodes = {node.key: node for node in self._files()}
        node = self._nodes.get(stat.key)
        if node is None or not node.is_linked or node.stat is None or node.stat.etag != stat.etag:
            return stat, stat.last_modified_ns
        if not node.is_own and node.stat.last_modified_ns != stat.last_modified_ns:
            return stat, stat.last_modified_ns  # the same bytes with other metadata
        return replace(stat, headers=stat.headers or node.stat.headers), node.mtime_ns

    def note_copy(self, source: ObjectStat, copy: ObjectStat, attributes: Attributes) -> None:
        """Take note of a copy, for :meth:`switch`, if the file is known here."""
        node = None if self._nodes is None else self._nodes.get(source.key)
        if node is not None and node.stat is not None and node.stat.etag == source.etag:
            self._copies[source.key] = (copy, attributes)

    async def keep_parent_alive(self) -> None:
        """Write the marker of the directory that the tree leaves, if nothing else is in there."""
        if self._place is not None:
            await self._tree.keep_alive(self._place.parent, self._place.node)

    def rekey(self) -> None:
        """Record what unsent files are to become. Raises: NoSpace, FsError; nothing has changed then."""
        self._spool.go()

    def rekey_back(self) -> None:
        """Undo :meth:`rekey`."""
        self._spool.go_back()

    def switch(self) -> None:
        """Show the tree, and let open files read, under the new name."""
        place = self._place
        if place is None:
            # Nobody can have looked at it but since the job was resumed: it will be found anew.
            self._forget(self._record.old)
            return
        self._note_change()
        recorded = self._recorded_copies()
        files = self._files()
        self._namespace.move(place.node, place.new_parent, place.new_name)
        for node in files:
            self._follow(node, recorded)
        for below in (place.node, *place.node.descendants()):
            self._namespace.note_fresh(below)
        self._note_change()

    @property
    def may_switch_back(self) -> bool:
        """Whether nothing that was written since :meth:`switch` is at the new name, or on its way there."""
        files = self._open_files.below(self._record.new)
        is_sending = any(file.lock.locked() for file in files)
        return not is_sending and all(one.node.stat == one.copy for one in self._before)

    def switch_back(self) -> None:
        """Undo :meth:`switch` and :meth:`rekey`."""
        self.rekey_back()
        place = self._place
        if place is None:
            return
        self._note_change()
        self._namespace.move(place.node, place.parent, place.name)
        for before in self._before:
            node = before.node
            node.stat, node.is_own, node.pages_etag = before.stat, before.is_own, before.pages_etag
            self._repoint(node)
        self._note_change()

    def settle(self, *, left_behind: bool) -> None:
        """Forget what listings have shown of a top name that the job worked on, and that is gone by now.

        *left_behind*: something of others is at the old name, and must be found.
        """
        self._forget(self._record.old)
        self._forget(self._record.new)
        if (found := self._loaded_parent(self._record.old)) is None:
            return
        parent, name = found
        if left_behind:
            parent.removed.pop(name, None)
            parent.forget_listing()
        elif name not in parent.children:
            self._namespace.note_removed(parent, name)

    def _follow(self, node: FileNode, recorded: dict[str, ObjectStat]) -> None:
        """Let *node*, which has its new key already, speak of the copy."""
        if node.stat is None:
            return
        copy, attributes = self._copies.get(node.stat.key, (None, None))
        copy = copy or recorded.get(node.stat.key)
        if copy is None:
            # It stays where it was, or was deleted or replaced by somebody else: who has it open must
            # not read on in another version.
            if not node.is_local:
                self._table.lose(node)
            return
        self._before.append(_Before(node, node.stat, node.is_own, node.pages_etag, copy))
        keeps_pages = node.pages_etag == node.stat.etag
        self._cache.carry_over(node.stat, copy)
        node.stat = copy
        node.is_own = True
        node.pages_etag = copy.etag if keeps_pages else None
        if attributes is not None and not node.is_local:
            node.attributes = attributes
        self._repoint(node)

    def _repoint(self, node: FileNode) -> None:
        file: OpenFile | None = self._open_files.file_of(node)
        if file is not None:
            file.base = node.stat
            self._open_files.repoint_all(file)

    def _recorded_copies(self) -> dict[str, ObjectStat]:
        """Return stats, by old key, of the copies of files that this host has met since the job began."""
        old = self._record.old
        stats = {node.stat.key[len(old) :]: node.stat for node in self._files() if node.stat is not None}
        missing = [name for name, stat in stats.items() if stat.key not in self._copies]
        rows = self._journal.objects(self._record.id, missing) if missing else {}
        copies = {old + name: self._copy_in(row, stats[name].etag) for name, row in rows.items()}
        return {key: copy for key, copy in copies.items() if copy is not None}

    def _copy_of(self, key: str, etag: str) -> ObjectStat | None:
        name = key[len(self._record.old) :]
        row = self._journal.objects(self._record.id, [name]).get(name)
        return None if row is None else self._copy_in(row, etag)

    def _copy_in(self, row: JobObject, etag: str) -> ObjectStat | None:
        """Return the stat of the copy that *row* speaks of; None if it is not one of the version *etag*."""
        if row.copy_etag is None or row.source.etag != etag:
            return None
        key = self._record.new + row.name
        return ObjectStat(key, row.source.size, row.copy_etag, row.source.last_modified_ns)

    def _files(self) -> list[FileNode]:
        if self._place is None:
            return []
        return [node for node in self._place.node.descendants() if isinstance(node, FileNode)]

    def _note_change(self) -> None:
        if self._place is not None:
            self._namespace.note_change(self._place.parent, self._place.name)
            self._namespace.note_change(self._place.new_parent, self._place.new_name)

    def _forget(self, prefix: str) -> None:
        """Drop what a listing made of the directory *prefix*, unless it is the tree itself."""
        found = self._loaded_parent(prefix)
        if found is None:
            return
        parent, name = found
        self._namespace.note_change(parent, name)
        child = parent.children.get(name)
        if child is None or (self._place is not None and child is self._place.node):
            return
        if isinstance(child, DirectoryNode) and not has_local_files(child):
            self._table.unlink(child)
            parent.forget_listing()

    def _loaded_parent(self, prefix: str) -> tuple[DirectoryNode, bytes] | None:
        """Return the node of the directory that *prefix* lies in, if this host has one, and its name."""
        try:
            *above, name = directory_path(self._table.root.location, prefix)
        except (ValueError, UnicodeEncodeError):
            return None  # below what is mounted here
        node: Node | None = self._table.root
        for step in above:
            node = node.children.get(step) if isinstance(node, DirectoryNode) else None
        return (node, name) if isinstance(node, DirectoryNode) else None


async def find_place(namespace: Namespace, record: JobRecord) -> Place | None:
    """Return where the tree of a job that is resumed while COPYING stands; None if it is not mounted here.

    Raises: what the store raises.
    """
    root = namespace.table.root.location
    try:
        *above, name = directory_path(root, record.old)
        *new_above, new_name = directory_path(root, record.new)
        parent = await _walk(namespace, above)
        node = await namespace.lookup(parent, name)
        new_parent = await _walk(namespace, new_above)
    except (ValueError, UnicodeEncodeError, NotFound):
        return None
    if not isinstance(node, DirectoryNode) or not node.is_linked:
        return None
    return Place(node, parent, name, new_parent, new_name)


async def _walk(namespace: Namespace, names: Iterable[bytes]) -> DirectoryNode:
    """Look a directory up. Raises: NotFound, what the store raises."""
    node = namespace.table.root
    for name in names:
        child = await namespace.lookup(node, name)
        if not isinstance(child, DirectoryNode):
            raise NotFound(f"{child.path()} is no directory")
        node = child
    return node
