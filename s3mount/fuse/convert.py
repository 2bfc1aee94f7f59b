"""Nodes to what the kernel takes, and back."""

from __future__ import annotations

import os
import stat

import pyfuse3

from s3mount.fs.attributes import AttributeChange, shown_attributes
from s3mount.fs.hidden import HiddenEntry
from s3mount.fs.ownership import Caller, Defaults
from s3mount.meta.inodes import DirectoryNode, FileNode, Node

#: The unit of st_blocks, whatever st_blksize says.
BLOCK = 512
#: Of s3mount's own files, which never change their attributes.
HIDDEN_VALID_S = 3600.0


class Converter:
    """Makes attribute records for one mount.

    Args:
        preferred_io_bytes: st_blksize: the size in which programs had better read and write.
        born_ns: what a directory without any time of its own shows; never 0, which Python's import
            system and make take for "older than everything".
    """

    def __init__(self, defaults: Defaults, *, preferred_io_bytes: int, born_ns: int) -> None:
        self._defaults = defaults
        self._preferred_io_bytes = preferred_io_bytes
        self._born_ns = born_ns

    def entry(self, node: Node, valid_s: float) -> pyfuse3.EntryAttributes:
        """Return the attributes of *node*, which the kernel may believe for *valid_s* seconds."""
        shown = shown_attributes(node, self._defaults)
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(node.inode)
        entry.generation = 0
        entry.entry_timeout = valid_s
        entry.attr_timeout = valid_s
        entry.st_mode = pyfuse3.ModeT(_kind(node) | shown.mode)
        entry.st_uid, entry.st_gid = shown.uid, shown.gid
        entry.st_nlink = 1 if node.is_linked else 0
        entry.st_rdev = 0
        size = node.size if isinstance(node, FileNode) else 0
        entry.st_size = size
        entry.st_blksize = self._preferred_io_bytes
        entry.st_blocks = -(-size // BLOCK)
        mtime_ns = self._born_ns if _has_no_time(node) else node.mtime_ns
        entry.st_mtime_ns = mtime_ns
        entry.st_ctime_ns = mtime_ns if node.ctime_ns is None else node.ctime_ns
        entry.st_atime_ns = mtime_ns if node.atime_ns is None else node.atime_ns
        return entry

    def hidden(self, entry: HiddenEntry) -> pyfuse3.EntryAttributes:
        """Return the attributes of one of s3mount's own files: for the user who mounted alone.

        A file has no size before it is opened, as in /proc.
        """
        shown = pyfuse3.EntryAttributes()
        shown.st_ino = pyfuse3.InodeT(entry.inode)
        shown.entry_timeout = shown.attr_timeout = HIDDEN_VALID_S
        kind = stat.S_IFDIR | 0o500 if entry.is_directory else stat.S_IFREG | 0o400
        shown.st_mode = pyfuse3.ModeT(kind)
        shown.st_uid, shown.st_gid = os.geteuid(), os.getegid()
        shown.st_nlink = 1
        shown.st_size = 0
        shown.st_mtime_ns = shown.st_ctime_ns = shown.st_atime_ns = self._born_ns
        return shown


def attribute_change(attributes: pyfuse3.EntryAttributes, fields: pyfuse3.SetattrFields) -> AttributeChange:
    """Return what a SETATTR asks for."""
    return AttributeChange(
        mode=attributes.st_mode if fields.update_mode else None,
        uid=attributes.st_uid if fields.update_uid else None,
        gid=attributes.st_gid if fields.update_gid else None,
        mtime_ns=attributes.st_mtime_ns if fields.update_mtime else None,
        atime_ns=attributes.st_atime_ns if fields.update_atime else None,
        size=attributes.st_size if fields.update_size else None,
    )


def caller(ctx: pyfuse3.RequestContext) -> Caller:
    """Return who asks."""
    return Caller(uid=ctx.uid, gid=ctx.gid, pid=ctx.pid)


def _has_no_time(node: Node) -> bool:
    """Whether *node* is a directory of which no time is known; 1970 itself may be one that was stored."""
    if node.mtime_ns or isinstance(node, FileNode):
        return False
    return node.attributes is None or node.attributes.mtime_ns is None


def _kind(node: Node) -> int:
    if isinstance(node, DirectoryNode):
        return stat.S_IFDIR
    return stat.S_IFLNK if isinstance(node, FileNode) and node.is_symlink else stat.S_IFREG
