"""Every open file and every handle, by number."""

from __future__ import annotations

from s3mount.core.filestate import FileState
from s3mount.core.spool_record import SpoolRecord
from s3mount.data.reader import ObjectReader
from s3mount.data.spool import SpoolFile
from s3mount.errors import BadDescriptor
from s3mount.fs.file_services import FileServices
from s3mount.fs.open_file import Handle, OpenFile
from s3mount.meta.inodes import FileNode


class OpenFiles:
    """Every OpenFile by inode, every Handle by number."""

    def __init__(self, services: FileServices) -> None:
        self._services = services
        self._files: dict[int, OpenFile] = {}
        self._handles: dict[int, Handle] = {}
        self._last_number = 0
        #: Rows of files that lost against somebody else's object and have no user any more.
        self._lost: set[int] = set()

    def __len__(self) -> int:
        return len(self._files)

    @property
    def handle_count(self) -> int:
        """How many open(2)s there are."""
        return len(self._handles)

    def file_of(self, node: FileNode) -> OpenFile | None:
        """Return the OpenFile of *node*, None if it is neither open nor unsent."""
        return self._files.get(node.inode)

    def handle(self, number: int) -> Handle:
        """Return a handle. Raises: BadDescriptor."""
        try:
            return self._handles[number]
        except KeyError:
            raise BadDescriptor(f"no handle {number}") from None

    def pid_of(self, number: int) -> int | None:
        """Return the process that opened a handle, None for one that is not open."""
        handle = self._handles.get(number)
        return None if handle is None else handle.pid

    def unsent(self) -> list[OpenFile]:
        """Return the files with bytes that the bucket does not have, in inode order."""
        return [file for _, file in sorted(self._files.items()) if file.is_unsent and file.node.is_linked]

    def adopt(self, node: FileNode, spool: SpoolFile, record: SpoolRecord) -> OpenFile:
        """Take a file that an earlier mount has left unsent for an open one of the tree, at *node*."""
        file = OpenFile(self._services, node)
        file.take_over(spool, record)
        node.pins += 1
        self._files[node.inode] = file
        return file

    def has_lost(self) -> bool:
        """Whether what lost against somebody else's object is still in the spool: commands take it away."""
        return bool(self._lost) and any(
            record.id in self._lost for record in self._services.spool_dir.records()
        )

    def below(self, keys_begin: str) -> list[OpenFile]:
        """Return the files whose keys begin with *keys_begin*, in inode order."""
        return [file for _, file in sorted(self._files.items()) if file.node.key.startswith(keys_begin)]

    def has_writer(self, file: OpenFile) -> bool:
        """Whether a handle that can write, and so a close that uploads, is still to come."""
        return any(handle.file is file and handle.is_writable for handle in self._handles.values())

    def open(self, node: FileNode, flags: int, pid: int) -> tuple[int, Handle]:
        """Open *node* once more; return the handle and its number."""
        file = self.share(node)
        handle = Handle(file, flags, self._services.new_readahead(), pid)
        self.repoint(handle)
        self._last_number += 1
        self._handles[self._last_number] = handle
        return self._last_number, handle

    def share(self, node: FileNode) -> OpenFile:
        """Return the OpenFile of *node* with one more user; undo with ``leave``."""
        file = self._files.get(node.inode)
        if file is None:
            file = self._files[node.inode] = OpenFile(self._services, node)
            node.pins += 1
        file.handles += 1
        return file

    async def release(self, number: int) -> None:
        """Close a handle for good."""
        handle = self._handles.pop(number)
        await self.leave(handle.file)

    async def leave(self, file: OpenFile) -> None:
        """Undo one ``share``; the last user of a file that is clean takes its spool away."""
        file.handles -= 1
        if not file.handles and file.spool is not None:
            file.spool.forgive()
        await self.drop_if_idle(file)

    async def drop_if_idle(self, file: OpenFile) -> None:
        """Drop *file* if nobody uses it and the bucket has all of it."""
        if file.handles or (file.is_unsent and file.node.is_linked):
            return
        # By now another one may be the inode's: this one was dropped, and the file was opened again.
        if self._files.get(file.node.inode) is not file:
            return
        del self._files[file.node.inode]
        if file.spool is not None:
            if file.state is FileState.CONFLICT:
                self._lost.add(file.spool.record.id)
            await _let_go(file, file.spool)
        self._services.namespace.table.unpin(file.node)

    async def discard_sent(self) -> None:
        """Take away the spools of files that are open but whose bytes the bucket has: the mount ends."""
        for file in self._files.values():
            if file.spool is not None and not (file.is_unsent and file.node.is_linked):
                await _let_go(file, file.spool)

    def repoint(self, handle: Handle) -> None:
        """Let *handle* read the version that its file has now."""
        base = handle.file.base
        handle.reader = None if base is None else ObjectReader(self._services.cache, base)

    def repoint_all(self, file: OpenFile) -> None:
        """The same bytes have another key or ETag now: every handle follows."""
        for handle in self._handles.values():
            if handle.file is file:
                self.repoint(handle)


async def _let_go(file: OpenFile, spool: SpoolFile) -> None:
    """Close *spool*; what lost against somebody else's object waits in the spool directory for the user."""
    if file.state is FileState.CONFLICT:
        await spool.close()
    else:
        await spool.discard()
