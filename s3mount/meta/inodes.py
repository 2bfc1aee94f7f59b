"""What is known of each name: nodes, and the table that gives the kernel its inode numbers.

A node is created by a lookup, by a listing, or by making something new. It lives while the kernel holds
a lookup count on it, while it is open (``pins``), or while its directory keeps it as a cached entry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NewType

from s3mount.core.attributes import Attributes
from s3mount.core.keys import Location
from s3mount.core.objects import ObjectStat

Inode = NewType("Inode", int)

ROOT_INODE = Inode(1)
RESERVED_INODES = 16
"""Numbers below are not given to anything in the bucket."""


class Node:
    """An entry, or one that was: ``parent`` is None for the root and for what was unlinked.

    ``attributes`` is what the store keeps beside the bytes, None while that is unknown. ``fresh_until``
    is on the table's clock, in seconds. ``own_until``: so long this host's own change of it holds
    against answers that contradict it.
    """

    __slots__ = (
        "atime_ns",
        "attributes",
        "ctime_ns",
        "fresh_until",
        "inode",
        "lookup_count",
        "mtime_ns",
        "name",
        "own_until",
        "parent",
        "pins",
        "seen_in",
    )

    def __init__(self, inode: Inode, parent: DirectoryNode | None, name: bytes) -> None:
        self.inode = inode
        self.parent = parent
        self.name = name
        self.lookup_count = 0
        self.pins = 0
        self.attributes: Attributes | None = None
        self.fresh_until = 0.0
        self.own_until = 0.0
        self.atime_ns: int | None = None
        self.ctime_ns: int | None = None
        self.mtime_ns = 0
        self.seen_in = 0

    @property
    def is_root(self) -> bool:
        """Whether this is the mount's root."""
        return self.inode == ROOT_INODE

    @property
    def is_linked(self) -> bool:
        """Whether a name still leads here."""
        return self.parent is not None or self.is_root

    def path(self) -> str:
        """Return the path below the mountpoint, for messages."""
        names: list[str] = []
        node: Node | None = self
        while node is not None and not node.is_root:
            names.append(node.name.decode("utf-8", "backslashreplace"))
            node = node.parent
        return "/" + "/".join(reversed(names))


class FileNode(Node):
    """A file or a symbolic link.

    ``stat`` is the object as the store last described it, None for a file that only the spool has.
    While ``is_local``, size and times are this host's, and what a listing says of the name is ignored.
    ``is_own`` says that ``stat`` was made from the answer to our own write, whose Last-Modified we
    have not seen yet. ``is_lost``: the store has given its name to another object, or to none.
    ``may_be_stored``: an upload was begun, so that the store may have an object under
    the key even where no answer said so. ``pages_etag`` is the version whose pages the kernel may hold.
    """

    __slots__ = (
        "beside_prefix",
        "is_local",
        "is_lost",
        "is_own",
        "key",
        "may_be_stored",
        "pages_etag",
        "size",
        "stat",
        "target",
    )

    def __init__(
        self,
        inode: Inode,
        parent: DirectoryNode | None,
        name: bytes,
        key: str,
        *,
        beside_prefix: bool = False,
    ) -> None:
        super().__init__(inode, parent, name)
        self.key = key
        self.stat: ObjectStat | None = None
        self.size = 0
        self.is_local = False
        self.is_lost = False
        self.is_own = False
        self.may_be_stored = False
        self.pages_etag: str | None = None
        self.target: bytes | None = None
        self.beside_prefix = beside_prefix

    @property
    def is_symlink(self) -> bool:
        """Whether the object's metadata says that its body is a link's target."""
        return self.attributes is not None and self.attributes.is_symlink

    def describe(self, stat: ObjectStat, attributes: Attributes | None) -> None:
        """Take over what the store says: a version that this host did not write."""
        self.stat = stat
        self.size = stat.size
        self.is_own = False
        self.attributes = attributes
        self.target = None
        stored = attributes.mtime_ns if attributes is not None else None
        self.mtime_ns = stat.last_modified_ns if stored is None else stored
        self.ctime_ns = stat.last_modified_ns


class DirectoryNode(Node):
    """A directory: a stretch of keys.

    ``children`` holds what is known of its entries. They are all of them while ``listed_until`` lies
    ahead. ``absent`` remembers names that are not there, each until its time, ``removed`` those that this
    host itself has taken away, which holds against answers that still have them. ``big_until``: the listing
    does not fit one page, so a lookup had better ask for the one name. ``has_marker`` is None while
    unknown. ``knows_marker``: what it stores is known, for a change of a part of it.
    ``marker_holds_bytes``: it shows as a file, too. ``changes`` numbers the names this host changed
    while a listing was under way, so that the listing's older news of them is ignored. ``ask_files`` and
    ``ask_directories``: whether its files, its sub-directories carry stored attributes that the listing
    does not show (None: not sampled yet). ``absent_until``: so long a name that the complete listing
    lacks is not asked for.
    """

    __slots__ = (
        "absent",
        "absent_until",
        "ask_directories",
        "ask_files",
        "big_until",
        "changes",
        "children",
        "has_marker",
        "hidden_names",
        "knows_marker",
        "listed_until",
        "listings",
        "location",
        "marker_holds_bytes",
        "removed",
    )

    def __init__(self, inode: Inode, parent: DirectoryNode | None, name: bytes, location: Location) -> None:
        super().__init__(inode, parent, name)
        self.location = location
        self.children: dict[bytes, Node] = {}
        self.listed_until = 0.0
        self.absent: dict[bytes, float] = {}
        self.removed: dict[bytes, float] = {}
        self.big_until = 0.0
        self.has_marker: bool | None = None
        self.knows_marker = False
        self.marker_holds_bytes = False
        self.changes: dict[bytes, int] = {}
        self.listings = 0
        self.ask_files: bool | None = None
        self.ask_directories: bool | None = None
        self.absent_until = 0.0
        self.hidden_names = 0

    @property
    def is_being_read(self) -> bool:
        """Whether it is open, or the store is being asked about its entries."""
        return bool(self.pins or self.listings)

    @property
    def depth(self) -> int:
        """How many directories below the mount's root this is: 0 is the root, or what was unlinked."""
        return 0 if self.parent is None else self.parent.depth + 1

    def forget_listing(self) -> None:
        """Say that the known entries are not all there are: what is not among them may be there."""
        self.listed_until = self.absent_until = 0.0

    def descendants(self) -> Iterator[Node]:
        """Yield every known node below this one, parents before children."""
        for child in list(self.children.values()):
            yield child
            if isinstance(child, DirectoryNode):
                yield from child.descendants()


class InodeTable:
    """All nodes by inode number.

    Numbers are a hash of the key, so that they stay the same over a forget and over a remount (git and
    rsync compare them); one that is taken gives way to the next free number.

    INVARIANT: every linked node is its parent's child under its name, and is in the table.
    """

    def __init__(self, root_location: Location) -> None:
        self.root = DirectoryNode(ROOT_INODE, None, b"", root_location)
        self.root.fresh_until = float("inf")
        self.root.lookup_count = 1
        self._nodes: dict[Inode, Node] = {ROOT_INODE: self.root}

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, inode: int) -> Node | None:
        """Return the node, None for a number that was never given out or was forgotten."""
        return self._nodes.get(Inode(inode))

    def nodes(self) -> list[Node]:
        """Return every node."""
        return list(self._nodes.values())

    def new_file(
        self, parent: DirectoryNode, name: bytes, key: str, *, beside_prefix: bool = False
    ) -> FileNode:
        """Add a file entry under *name*, unlinking what stood there."""
        node = FileNode(self._free_number(f"f{key}"), parent, name, key, beside_prefix=beside_prefix)
        self._link(node)
        return node

    def new_directory(self, parent: DirectoryNode, name: bytes, location: Location) -> DirectoryNode:
        """Add a directory entry under *name*, unlinking what stood there."""
        node = DirectoryNode(self._free_number(f"d{location.prefix}"), parent, name, location)
        self._link(node)
        return node

    def unlink(self, node: Node) -> None:
        """Take *node* out of its directory; it lives on for whoever holds it."""
        if node.parent is None:
            return
        if node.parent.children.get(node.name) is node:
            del node.parent.children[node.name]
        node.parent = None
        self._drop_if_unused(node)

    def lose(self, node: Node) -> None:
        """Unlink *node*, whose name the store, and not this host, has taken away.

        Who has it open must learn of it: what was written to it from now on would go nowhere.
        """
        if isinstance(node, FileNode):
            node.is_lost = True
        self.unlink(node)

    def move(self, node: Node, parent: DirectoryNode, name: bytes) -> None:
        """Give *node* another place, unlinking what stood there. Keys below are the caller's."""
        old = node.parent
        if old is not None and old.children.get(node.name) is node:
            del old.children[node.name]
        node.parent, node.name = parent, name
        self._displace(parent, name)
        parent.children[name] = node
        parent.removed.pop(name, None)

    def forget(self, inode: int, count: int) -> None:
        """Take back *count* lookups; a node that nothing holds any more is dropped."""
        node = self._nodes.get(Inode(inode))
        if node is None:
            return
        node.lookup_count = max(0, node.lookup_count - count)
        if node.lookup_count == 0 and not node.is_root:
            if node.parent is not None and node.parent.is_being_read:
                # Whoever reads it is about to name this entry.
                return
            if node.parent is not None and self._is_droppable(node):
                node.parent.forget_listing()
                self.unlink(node)
            else:
                self._drop_if_unused(node)

    def unpin(self, node: Node) -> None:
        """Undo one pin."""
        node.pins -= 1
        self._drop_if_unused(node)

    def drop_cached(self, directory: DirectoryNode) -> int:
        """Drop the entries of *directory* that nobody holds; return how many."""
        idle = [child for child in directory.children.values() if self._is_droppable(child)]
        if idle:
            directory.forget_listing()
        for child in idle:
            self.unlink(child)
        return len(idle)

    def _link(self, node: Node) -> None:
        assert node.parent is not None
        self._displace(node.parent, node.name)
        node.parent.children[node.name] = node
        node.parent.absent.pop(node.name, None)
        node.parent.removed.pop(node.name, None)
        self._nodes[node.inode] = node

    def _displace(self, parent: DirectoryNode, name: bytes) -> None:
        if (old := parent.children.get(name)) is not None:
            self.unlink(old)

    def _is_droppable(self, node: Node) -> bool:
        """Whether nothing but its directory's cache holds *node*."""
        if node.lookup_count or node.pins:
            return False
        if isinstance(node, DirectoryNode):
            return not node.children
        return not (isinstance(node, FileNode) and node.is_local)

    def _drop_if_unused(self, node: Node) -> None:
        if node.parent is None and not node.is_root and not node.lookup_count and not node.pins:
            self._nodes.pop(node.inode, None)
            if isinstance(node, DirectoryNode):
                for child in list(node.children.values()):
                    # What is still to be uploaded goes to its key whatever became of the directory.
                    if not (isinstance(child, FileNode) and child.is_local):
                        self.lose(child)

    def _free_number(self, identity: str) -> Inode:
        digest = hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        # 63 bits: programs that keep inode numbers in a signed 64-bit integer must not see a minus.
        number = int.from_bytes(digest, "big") >> 1
        while number < RESERVED_INODES or number in self._nodes:
            number += 1
        return Inode(number)
