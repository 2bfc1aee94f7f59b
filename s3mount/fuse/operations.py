"""The handlers: unpack what the kernel sent, call ``fs``, pack the answer. No decisions live here."""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyfuse3

from s3mount.data.budget import Budget
from s3mount.errors import (
    FsError,
    InvalidArgument,
    IsADirectory,
    NotADirectory,
    NotFound,
    NotPermitted,
    StaleObject,
)
from s3mount.fs.attributes import AttributeWriter
from s3mount.fs.directories import DirectoryHandles
from s3mount.fs.file_services import FileServices
from s3mount.fs.files import Files
from s3mount.fs.hidden import FIRST_HANDLE, HiddenFiles, is_hidden_handle
from s3mount.fs.jobs import Jobs
from s3mount.fs.open_file import Buffer
from s3mount.fs.open_files import OpenFiles
from s3mount.fs.recent_errors import RecentErrors
from s3mount.fs.rename import Renamer
from s3mount.fs.tree import Tree
from s3mount.fs.xattrs import StateXattrs
from s3mount.fuse.access_log import AccessLog
from s3mount.fuse.boundary import fuse_operation
from s3mount.fuse.convert import Converter, attribute_change, caller
from s3mount.meta.inodes import DirectoryNode, FileNode, Node
from s3mount.meta.namespace import Namespace

log = logging.getLogger(__name__)

#: What `df` shows: a bucket has no size, and programs that look for room must find some.
CAPACITY_BYTES = 1 << 60
STATFS_BLOCK = 1 << 20
FILES = 1 << 40


@dataclass(frozen=True)
class FileSystem:
    """Everything that the handlers call."""

    services: FileServices
    budget: Budget
    namespace: Namespace
    open_files: OpenFiles
    directories: DirectoryHandles
    files: Files
    tree: Tree
    renamer: Renamer
    attributes: AttributeWriter
    errors: RecentErrors
    jobs: Jobs
    xattrs: StateXattrs | None
    """None: extended attributes are not supported, which the kernel asks once and then knows."""
    work_in_background: Callable[[], Awaitable[None]]
    """Sends what no program waits for; runs until it is cancelled, when the mount is gone."""


class Operations(pyfuse3.Operations):
    """One mounted bucket.

    Args:
        on_init: called once, when the kernel has begun to talk to us.
        hidden: files about the mount itself; None: there are none.
        access_log: takes a line for every operation; None: nobody has asked for them.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(
        self,
        fs: FileSystem,
        converter: Converter,
        *,
        operation_timeout_s: float,
        on_init: Callable[[], None],
        hidden: HiddenFiles | None = None,
        access_log: AccessLog | None = None,
    ) -> None:
        super().__init__()
        self.access_log = access_log
        self._hidden = HiddenFiles({}) if hidden is None else hidden
        self.operation_timeout_s = operation_timeout_s
        self._fs = fs
        self._converter = converter
        self._errors = fs.errors
        self._namespace = fs.namespace
        self._table = fs.namespace.table
        self._on_init = on_init
        #: Who opened a directory, by handle.
        self._readers: dict[int, int] = {}

    def init(self) -> None:
        self._on_init()

    # Entries

    @fuse_operation
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if (hidden := self._hidden.find(parent_inode, name)) is not None:
            return self._converter.hidden(hidden)
        if self._hidden.entry(parent_inode) is not None:
            raise NotFound(f"s3mount has no file {name!r} about itself")
        return self._found(await self._lookup(parent_inode, name))

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for inode, count in inode_list:
            try:
                self._table.forget(inode, count)
                log.debug("forgot inode %d; %d are known", inode, len(self._table))
            except Exception:  # nobody waits for an answer, and the mount must go on
                log.exception("forget of inode %d", inode)

    @fuse_operation
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        if (hidden := self._hidden.entry(inode)) is not None:
            return self._converter.hidden(hidden)
        node = self._node(inode)
        try:
            await self._namespace.refresh(node)
        except (NotFound, StaleObject):
            # fstat of an open file goes on to describe the version that is open.
            if not node.pins:
                raise
        return self._attributes(node)

    @fuse_operation
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        node = self._node(inode)
        await self._fs.attributes.change(node, attribute_change(attr, fields), fh)
        return self._attributes(node)

    @fuse_operation
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        node = self._file(inode)
        if not node.is_symlink:
            raise InvalidArgument(f"{node.path()} is not a symbolic link")
        return await self._fs.tree.readlink(node)

    @fuse_operation
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if mode & 0o170000 not in (0, 0o100000):
            raise NotPermitted(f"{name!r}: a bucket holds no devices, pipes or sockets")
        parent = self._directory(parent_inode)
        node, number = await self._fs.files.create(parent, name, mode, 1, caller(ctx))
        try:
            await self._fs.files.fsync(number)
            return self._found(node)
        finally:
            await self._fs.open_files.release(number)

    @fuse_operation
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._found(
            await self._fs.tree.mkdir(self._directory(parent_inode), name, mode & 0o7777, caller(ctx))
        )

    @fuse_operation
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._fs.tree.unlink(self._directory(parent_inode), name)

    @fuse_operation
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._refuse_hidden(parent_inode, name)
        await self._fs.tree.rmdir(self._directory(parent_inode), name)

    @fuse_operation
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._found(
            await self._fs.tree.symlink(self._directory(parent_inode), name, target, caller(ctx))
        )

    @fuse_operation
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        self._refuse_hidden(parent_inode_old, name_old)
        self._refuse_hidden(parent_inode_new, name_new)
        if flags & ~pyfuse3.RENAME_NOREPLACE:
            raise InvalidArgument("a bucket cannot exchange two names")
        await self._fs.renamer.rename(
            self._directory(parent_inode_old),
            name_old,
            self._directory(parent_inode_new),
            name_new,
            no_replace=bool(flags & pyfuse3.RENAME_NOREPLACE),
        )

    @fuse_operation
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        raise NotPermitted(f"{new_name!r}: an object has one key, so there are no hard links")

    # Files

    @fuse_operation
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        if (hidden := self._hidden.entry(inode)) is not None:
            number = self._hidden.open(hidden, flags)
            # Its size is not known before: only so does the kernel read on until nothing comes.
            return pyfuse3.FileInfo(
                fh=pyfuse3.FileHandleT(number), direct_io=True, keep_cache=False, nonseekable=False
            )
        number, keep_pages = await self._fs.files.open(self._file(inode), flags, caller(ctx))
        return _file_info(number, keep_pages)

    @fuse_operation
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        parent = self._directory(parent_inode)
        node, number = await self._fs.files.create(parent, name, mode, flags, caller(ctx))
        return _file_info(number, True), self._found(node)

    @fuse_operation
    async def read(self, fh: int, off: int, size: int) -> Buffer:  # type: ignore[override]
        if is_hidden_handle(fh):
            return self._hidden.read(fh, off, size)
        # pyfuse3 takes any contiguous buffer, whatever its stub says, and does not copy it.
        return await self._fs.files.read(fh, off, size)

    @fuse_operation
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self._fs.files.write(fh, off, buf)

    @fuse_operation
    async def flush(self, fh: int) -> None:
        if not is_hidden_handle(fh):
            await self._fs.files.flush(fh)

    @fuse_operation
    async def fsync(self, fh: int, datasync: bool) -> None:
        if not is_hidden_handle(fh):
            await self._fs.files.fsync(fh)

    @fuse_operation
    async def release(self, fh: int) -> None:
        if is_hidden_handle(fh):
            self._hidden.release(fh)
        else:
            await self._fs.files.release(fh)

    # Directories

    @fuse_operation
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        if self._hidden.entry(inode) is not None:
            return FIRST_HANDLE
        number = self._fs.directories.open(self._directory(inode))
        self._readers[number] = int(ctx.pid)
        return number

    @fuse_operation
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        if is_hidden_handle(fh):
            self._read_hidden(start_id, token)
            return
        handle = self._fs.directories[fh]
        directory = handle.directory
        parent = directory.parent or directory
        position = start_id
        # "." and ".." take no lookup count.
        for dots, place in ((b".", directory), (b"..", parent))[position:2]:
            position += 1
            if not pyfuse3.readdir_reply(token, dots, self._attributes(place), position):
                return
        is_answered = False
        while not is_answered and (entries := await handle.entries_from(position - 2)):
            # One page of a listing at most: the first entries must not wait until the kernel's buffer,
            # which takes thousands, is full.
            for name, _ in entries:
                position += 1
                # Since the page was read it may have gone, or become another one.
                if (node := directory.children.get(name)) is None:
                    continue
                if not pyfuse3.readdir_reply(token, name, self._attributes(node), position):
                    return
                node.lookup_count += 1
                is_answered = True

    @fuse_operation
    async def releasedir(self, fh: int) -> None:
        if not is_hidden_handle(fh):
            self._readers.pop(fh, None)
            self._fs.directories.release(fh)

    @fuse_operation
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        if not is_hidden_handle(fh):
            await self._fs.files.upload_below(self._fs.directories[fh].directory)

    @fuse_operation
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = STATFS_BLOCK
        data.f_blocks = data.f_bfree = data.f_bavail = CAPACITY_BYTES // STATFS_BLOCK
        data.f_files = data.f_ffree = data.f_favail = FILES
        data.f_namemax = 255
        return data

    # Extended attributes: what is said of a file's state. The kernel asks for others of its own.

    @fuse_operation
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        if self._fs.xattrs is None:
            raise pyfuse3.FUSEError(errno.ENOSYS)
        if self._hidden.entry(inode) is not None:
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
        value = self._fs.xattrs.value(self._node(inode), name)
        if value is None:
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
        return value

    @fuse_operation
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        if self._fs.xattrs is None:
            raise pyfuse3.FUSEError(errno.ENOSYS)
        return [] if self._hidden.entry(inode) is not None else self._fs.xattrs.names(self._node(inode))

    # For the boundary

    def describe(self, name: str, arguments: tuple[Any, ...]) -> str:
        """Return what an operation is about, for the log."""
        if name in ("read", "write"):
            size = len(arguments[2]) if name == "write" else arguments[2]
            return f"{self._open_path(arguments[0])} [{arguments[1]}, +{size}]"
        if name in ("flush", "fsync", "release"):
            return self._open_path(arguments[0])
        if name in ("readdir", "releasedir", "fsyncdir"):
            return f"directory handle {arguments[0]}"
        if name == "statfs":
            return ""
        if name == "rename":
            return f"{self._path_in(*arguments[:2])} -> {self._path_in(*arguments[2:4])}"
        return self._path_in(*arguments[:2]) if name in _BY_NAME else self._path(arguments[0])

    def note_error(self, name: str, arguments: tuple[Any, ...], error: FsError) -> None:
        """Remember *error* for whoever asks about the path."""
        self._errors.note(name, self.path_of(name, arguments), error)

    def process_of(self, name: str, arguments: tuple[Any, ...]) -> int | None:
        """Return the process that asks; for what comes with a handle alone, the one that opened it."""
        if name in _BY_DIRECTORY_HANDLE:
            return self._readers.get(arguments[0])
        if name in _BY_HANDLE:
            return self._fs.open_files.pid_of(arguments[0])
        return int(arguments[-1].pid)

    def transfer_bytes(self, name: str, arguments: tuple[Any, ...]) -> int:
        """Return how many bytes an operation may have to send or copy, for its deadline."""
        if name in ("write", "flush", "fsync", "release"):
            # A write may have to wait for the upload of what was there before.
            try:
                return self._fs.open_files.handle(arguments[0]).file.node.size
            except FsError:
                return 0
        if name in ("setattr", "unlink", "rename"):
            first = self._table.get(arguments[0])
            node = first
            if name != "setattr":
                node = first.children.get(arguments[1]) if isinstance(first, DirectoryNode) else None
            if isinstance(node, DirectoryNode):
                return sum(below.size for below in node.descendants() if isinstance(below, FileNode))
            return node.size if isinstance(node, FileNode) else 0
        return 0

    async def _lookup(self, parent_inode: int, name: bytes) -> Node:
        return await self._namespace.lookup(self._directory(parent_inode), name)

    def _refuse_hidden(self, parent_inode: int, name: bytes) -> None:
        if (entry := self._hidden.find(parent_inode, name)) is not None:
            self._hidden.check_changeable(entry.inode)

    def _read_hidden(self, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        for position, entry in enumerate(self._hidden.files[start_id:], start_id + 1):
            if not pyfuse3.readdir_reply(token, entry.name, self._converter.hidden(entry), position):
                return

    def _node(self, inode: int) -> Node:
        self._hidden.check_changeable(inode)
        node = self._table.get(inode)
        if node is None:
            raise StaleObject(f"inode {inode} has been forgotten")
        return node

    def _directory(self, inode: int) -> DirectoryNode:
        node = self._node(inode)
        if not isinstance(node, DirectoryNode):
            raise NotADirectory(node.path())
        return node

    def _file(self, inode: int) -> FileNode:
        node = self._node(inode)
        if not isinstance(node, FileNode):
            raise IsADirectory(node.path())
        return node

    def _found(self, node: Node) -> pyfuse3.EntryAttributes:
        """Answer with an entry: the kernel counts it as looked up once more."""
        attributes = self._attributes(node)
        node.lookup_count += 1
        return attributes

    def _attributes(self, node: Node) -> pyfuse3.EntryAttributes:
        return self._converter.entry(node, self._namespace.time_left_s(node))

    def path_of(self, name: str, arguments: tuple[Any, ...]) -> str:
        """Return the path that an operation is about; of a rename the one that there was."""
        if name in _BY_HANDLE:
            return self._open_path(arguments[0])
        if name in _BY_DIRECTORY_HANDLE:
            number = arguments[0]
            return "/" if is_hidden_handle(number) else self._fs.directories[number].directory.path()
        if name == "statfs":
            return "/"
        is_by_name = name in _BY_NAME or name == "rename"
        return self._path_in(*arguments[:2]) if is_by_name else self._path(arguments[0])

    def _path(self, inode: int) -> str:
        node = self._table.get(inode)
        return f"inode {inode}" if node is None else node.path()

    def _path_in(self, directory: int, name: bytes) -> str:
        return f"{self._path(directory).rstrip('/')}/{_text(name)}"

    def _open_path(self, number: int) -> str:
        try:
            return self._fs.open_files.handle(number).file.node.path()
        except FsError:
            return f"handle {number}"


#: Operations whose second argument is a name in the directory that the first one is.
_BY_NAME = frozenset(("lookup", "mknod", "mkdir", "unlink", "rmdir", "symlink", "create"))


_BY_HANDLE = frozenset(("read", "write", "flush", "fsync", "release"))
_BY_DIRECTORY_HANDLE = frozenset(("readdir", "releasedir", "fsyncdir"))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _file_info(number: int, keep_pages: bool) -> pyfuse3.FileInfo:
    return pyfuse3.FileInfo(
        fh=pyfuse3.FileHandleT(number), direct_io=False, keep_cache=keep_pages, nonseekable=False
    )
