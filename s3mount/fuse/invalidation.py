"""Let the kernel ask again for what it was told."""

from __future__ import annotations

import errno
import logging

import pyfuse3
import trio

from s3mount.meta.inodes import Node

log = logging.getLogger(__name__)


async def forget_attributes(node: Node) -> None:
    """Let the kernel forget the attributes of *node* and its name; pages that it holds stay.

    In a thread: the kernel may take locks for it that a caller of ours holds.
    """
    if not node.lookup_count:
        return  # the kernel does not know it
    await trio.to_thread.run_sync(_invalidate_attributes, node.inode, abandon_on_cancel=True)
    if node.parent is not None:
        pyfuse3.invalidate_entry_async(node.parent.inode, node.name, ignore_enoent=True)


def _invalidate_attributes(inode: int) -> None:
    try:
        pyfuse3.invalidate_inode(pyfuse3.InodeT(inode), attr_only=True)
    except OSError as exc:
        if exc.errno != errno.ENOENT:
            log.debug("inode %d: its attributes stay in the kernel until their time: %s", inode, exc)
