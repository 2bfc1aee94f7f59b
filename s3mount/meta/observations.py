"""What the store says of a name, laid over what is known of it.

Sync: between two awaits the tree is consistent.
"""

from __future__ import annotations

from dataclasses import replace

from s3mount.core.attributes import Attributes, from_metadata
from s3mount.core.keys import Location
from s3mount.core.objects import ObjectStat
from s3mount.meta.inodes import DirectoryNode, FileNode, InodeTable, Node


def stored_attributes(stat: ObjectStat) -> Attributes | None:
    """Return the attributes that *stat* carries, None where it came without its metadata."""
    return None if stat.headers is None else from_metadata(stat.headers.metadata)


def observe_file(
    table: InodeTable, parent: DirectoryNode, name: bytes, stat: ObjectStat, *, beside_prefix: bool = False
) -> FileNode:
    """Say that *name* is an object; return its node.

    A file that this host is changing keeps its node and what this host knows. One that is open, and
    whose object has been replaced, loses its name to a new node: whoever has the old one open goes on
    with the old version or gets ESTALE, and never pages of the new one.
    """
    child = parent.children.get(name)
    if not isinstance(child, FileNode):
        if child is not None:
            table.lose(child)
        child = table.new_file(parent, name, stat.key, beside_prefix=beside_prefix)
        child.describe(stat, stored_attributes(stat))
    elif child.is_local:
        pass
    elif _is_same_version(child, stat):
        assert child.stat is not None
        stored = stored_attributes(stat)
        if stored is not None and stored != child.attributes:
            # A chmod elsewhere keeps the ETag and, within the same second, the time.
            child.describe(stat, stored)
        child.stat = replace(stat, headers=stat.headers or child.stat.headers)
        child.is_own = False
    else:
        if child.pins and not _is_same_content(child, stat):
            table.lose(child)
            child = table.new_file(parent, name, stat.key, beside_prefix=beside_prefix)
        child.describe(stat, stored_attributes(stat))
    return child


def observe_directory(table: InodeTable, parent: DirectoryNode, name: bytes, location: Location) -> Node:
    """Say that there are keys under *name*; return its node (a file that this host is making stays)."""
    child = parent.children.get(name)
    if isinstance(child, DirectoryNode) or (isinstance(child, FileNode) and child.is_local):
        return child
    if child is not None:
        table.lose(child)
    return table.new_directory(parent, name, location)


def observe_absence(table: InodeTable, parent: DirectoryNode, name: bytes) -> None:
    """Say that the store has nothing under *name*; what only this host has stays."""
    child = parent.children.get(name)
    if child is not None and not has_local_files(child):
        table.lose(child)


def contradicts(node: Node, stat: ObjectStat | None) -> bool:
    """Whether an answer says anything else of *node* than is known: that it is *stat*, None: a directory."""
    if stat is None or not isinstance(node, FileNode):
        return stat is not None or isinstance(node, FileNode)
    stored = stored_attributes(stat)
    differs = None not in (stored, node.attributes) and stored != node.attributes
    return differs or not _is_same_content(node, stat)


def observe_marker(directory: DirectoryNode, marker: ObjectStat | None) -> None:
    """Say what a whole listing, or a HEAD, shows of the directory's own marker."""
    directory.has_marker = marker is not None
    directory.marker_holds_bytes = marker is not None and marker.size > 0
    directory.knows_marker |= marker is None or marker.headers is not None
    if marker is None:
        if directory.attributes is None:
            directory.attributes = Attributes()
    elif (stored := stored_attributes(marker)) is not None:
        directory.attributes = stored
        directory.mtime_ns = max(directory.mtime_ns, _marker_time(marker, stored))


def has_local_files(node: Node) -> bool:
    """Whether *node* is, or holds, a file that the store does not have as it is here."""
    if isinstance(node, FileNode):
        return node.is_local
    assert isinstance(node, DirectoryNode)
    return any(isinstance(below, FileNode) and below.is_local for below in node.descendants())


def _marker_time(marker: ObjectStat, stored: Attributes) -> int:
    return marker.last_modified_ns if stored.mtime_ns is None else stored.mtime_ns


def _is_same_content(node: FileNode, stat: ObjectStat) -> bool:
    return node.stat is not None and node.stat.etag == stat.etag and node.stat.size == stat.size


def _is_same_version(node: FileNode, stat: ObjectStat) -> bool:
    """Whether nothing changed, metadata included: replacing only that keeps the ETag but not the time.

    Of our own write the store's time is not known yet, so the ETag has to do.
    """
    if not _is_same_content(node, stat):
        return False
    assert node.stat is not None
    return node.is_own or node.stat.last_modified_ns == stat.last_modified_ns
