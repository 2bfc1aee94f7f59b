"""open, create, read, write, truncate, close: what they do to objects."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from s3mount.core.filestate import FileState
from s3mount.core.keys import Target, resolve
from s3mount.core.objects import ByteRange
from s3mount.data.descriptors import SpoolDescriptors
from s3mount.errors import (
    AlreadyExists,
    BadDescriptor,
    ConditionFailed,
    FsError,
    InvalidArgument,
    NotFound,
    ReadOnly,
    StaleObject,
)
from s3mount.fs.file_services import FileServices
from s3mount.fs.open_file import Buffer, OpenFile
from s3mount.fs.open_files import OpenFiles
from s3mount.fs.ownership import Caller, Defaults, new_attributes
from s3mount.fs.recent_errors import RecentErrors
from s3mount.meta.inodes import DirectoryNode, FileNode

log = logging.getLogger(__name__)

FILES_AT_ONCE = 16
"""Files that are sent at the same time, where nothing else waits: small ones take a round trip each."""


class Files:
    """Operations on files through handles."""

    def __init__(
        self,
        services: FileServices,
        open_files: OpenFiles,
        defaults: Defaults,
        descriptors: SpoolDescriptors,
        errors: RecentErrors,
        *,
        read_only: bool,
    ) -> None:
        self._services = services
        self._namespace = services.namespace
        self._table = services.namespace.table
        self._open_files = open_files
        self._defaults = defaults
        self._descriptors = descriptors
        self._read_only = read_only
        self._errors = errors
        #: Whether process pid can write to an inode through another descriptor; set where there is a mount.
        self.can_still_write: Callable[[int, int], bool] = _cannot

    async def open(self, node: FileNode, flags: int, caller: Caller) -> tuple[int, bool]:
        """Open *node*; return the handle's number and whether the kernel's pages are still true.

        Raises: StaleObject (the name leads to another version by now, or nowhere: the kernel looks it up
        once more and goes by that), ReadOnly, Busy, TooManyFiles, what the store raises.
        """
        if flags & os.O_ACCMODE != os.O_RDONLY and self._read_only:
            raise ReadOnly(f"{node.path()}: the mount is read-only")
        if flags & (os.O_ACCMODE | os.O_TRUNC) != os.O_RDONLY:
            self._namespace.busy.check_key(node.key)
        try:
            await self._namespace.refresh(node)
        except NotFound as exc:
            # ENOENT would be the end even of an open that creates; with ESTALE the kernel looks again.
            raise StaleObject(str(exc)) from exc
        there = self._open_files.file_of(node)
        if (there is None and not node.is_linked) or (there is not None and there.is_displaced):
            raise StaleObject(f"{node.key} was changed elsewhere, and the name leads to another file by now")
        if flags & os.O_ACCMODE != os.O_RDONLY and (there is None or not there.can_be_changed):
            self._descriptors.check()  # here a program looks for it, not at its first write
        number, handle = self._open_files.open(node, flags, caller.pid)
        try:
            if flags & os.O_TRUNC:
                handle.file.make_way()
                async with handle.file.lock:
                    with self._changing(handle.file):
                        # make and others touch their stamps with `: > stamp`.
                        await handle.file.truncate(0, touches=True)
        except BaseException:
            await self._open_files.release(number)
            raise
        return number, self._keep_pages(node, handle.file)

    async def create(
        self, parent: DirectoryNode, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[FileNode, int]:
        """Make a new file that only this host has until it is closed; return it open.

        One that came up since the kernel looked is opened instead, unless *flags* have O_EXCL.

        Raises: AlreadyExists, InvalidArgument, NameTooLong, IllegalName, ReadOnly, NoSpace, TooManyFiles,
        Busy.
        """
        if self._read_only:
            raise ReadOnly(f"{parent.path()}: the mount is read-only")
        self._namespace.busy.check_change(parent.location, name)
        key = target_for_new(parent, name).new_file_key()
        there = parent.children.get(name)
        if isinstance(there, FileNode) and not flags & os.O_EXCL:
            number, _ = await self.open(there, flags, caller)
            return there, number
        if there is not None:
            raise AlreadyExists(there.path())
        attributes = new_attributes(self._defaults, caller, mode, is_directory=False)
        node = self._table.new_file(parent, name, key)
        node.attributes = attributes
        # At once: a listing that ends while the spool is being opened must not take it for one that is gone.
        node.is_local = True
        self._namespace.note_change(parent, name)
        number, handle = self._open_files.open(node, flags, caller.pid)
        try:
            async with handle.file.lock:
                with self._changing(handle.file):
                    await handle.file.create()
        except BaseException:
            self._table.unlink(node)
            await self._open_files.release(number)
            raise
        self._namespace.note_change(parent, name)
        return node, number

    async def read(self, number: int, offset: int, size: int) -> Buffer:
        """Return *size* bytes from *offset*, fewer only at the end of the file.

        Raises: StaleObject, BadDescriptor, what the store raises.
        """
        handle = self._open_files.handle(number)
        if not handle.is_readable:
            raise BadDescriptor(f"{handle.file.node.path()} is open for writing only")
        return await handle.file.read(handle, ByteRange(offset, offset + size))

    async def write(self, number: int, offset: int, data: bytes) -> int:
        """Write all of *data*; return its size.

        Raises: NoSpace, TooManyFiles, BadDescriptor, StaleObject, what the store raises.
        """
        handle = self._open_files.handle(number)
        if not handle.is_writable:
            raise BadDescriptor(f"{handle.file.node.path()} is open for reading only")
        handle.file.make_way()
        async with handle.file.lock:
            with self._changing(handle.file):
                await handle.file.write(offset, data)
        return len(data)

    async def flush(self, number: int) -> None:
        """close(2): return once the bucket has the file, or, in write-back mode, the spool for good.

        Comes once for every descriptor.

        Not the close that sends the file is that of a reader while others write, nor that of a
        duplicate while the process that opened the file can still write to it.

        Raises: what made the upload fail.
        """
        handle = self._open_files.handle(number)
        file = handle.file
        if handle.is_writable:
            file.check_conflict()
            file.check_refused()
        if not file.node.is_linked or not file.is_unsent:
            return
        if handle.is_writable:
            is_last = not self.can_still_write(handle.pid, file.node.inode)
        else:
            # What failed is tried again here, unless it is all the queue's or nothing can be tried.
            may_retry = self._services.write_back_s is None and not self._namespace.is_cut_off
            is_last = (file.state is FileState.DIRTY or may_retry) and not self._open_files.has_writer(file)
        if is_last:
            await self._finish(file)

    async def fsync(self, number: int) -> None:
        """fsync(2): return once the bucket has the file. Raises: what made the upload fail."""
        file = self._open_files.handle(number).file
        file.check_conflict()
        file.check_refused()
        if file.node.is_linked:
            await file.upload()

    async def release(self, number: int) -> None:
        """Forget the handle. What no close has sent (mmap, a killed process) is uploaded now.

        What a close could not send was that close's to report, and is not tried again here.
        """
        file = self._open_files.handle(number).file
        try:
            if file.state is FileState.DIRTY and file.node.is_linked and file.handles == 1:
                await self._finish(file)
        except FsError as exc:
            log.error("%s was closed for the last time and is not in the bucket: %s", file.node.path(), exc)
        finally:
            await self._open_files.release(number)

    async def truncate(self, node: FileNode, size: int, number: int | None) -> None:
        """Cut or extend *node*. Without a handle that will be closed, the bucket has it on return.

        Raises: NoSpace, TooManyFiles, StaleObject, what the store raises.
        """
        file = self._open_files.share(node)
        try:
            file.make_way()
            async with file.lock:
                with self._changing(file):
                    await file.truncate(size)
            if number is None and not self._open_files.has_writer(file):
                await self._finish(file)
        finally:
            await self._open_files.leave(file)

    async def _finish(self, file: OpenFile) -> None:
        """Do what a close has to: put the file into the bucket, or, in write-back mode, into the queue."""
        if self._services.write_back_s is None or self._services.queue.is_full:
            await file.upload()
        else:
            await file.put_off()

    async def upload_in_background(self, file: OpenFile) -> None:
        """Try once to send a file that waits in the queue. Its next close is told of a failure."""
        before = file.failures
        await file.upload_in_background()
        if file.failures > before and file.error is not None:
            self._errors.note("upload", file.node.path(), file.error)
        await self._open_files.drop_if_idle(file)

    async def upload_all(self) -> list[OpenFile]:
        """Upload whatever is unsent, some files at once; return those that could not be.

        Cancel: what was not sent is unsent.
        """
        left = iter(self._open_files.unsent())

        async def work() -> None:
            for file in left:
                try:
                    await file.upload()
                    await self._open_files.drop_if_idle(file)
                except FsError:
                    continue
                except Exception:
                    # A bug that one file has met is no reason to leave the others behind.
                    log.exception("upload of %s failed: a bug in s3mount", file.node.path())

        async with trio.open_nursery() as nursery:
            for _ in range(FILES_AT_ONCE):
                nursery.start_soon(work)
        return self._open_files.unsent()

    async def upload_below(self, directory: DirectoryNode) -> None:
        """fsync(2) of a directory: upload what is unsent right in it. Raises: the first failure."""
        for file in self._open_files.unsent():
            if file.node.parent is directory:
                await file.upload()

    @contextmanager
    def _changing(self, file: OpenFile) -> Iterator[None]:
        """Hold room for the spool file that the block may make, which changes *file*.

        Raises: TooManyFiles; ConditionFailed (the name leads to somebody else's object by now, or nowhere:
            what is written would reach no object, and no close would say so).
        """
        _check_name(file)
        with self._descriptors.room(lambda: file.can_be_changed):
            yield
        _check_name(file)  # the first change waits for the object's headers and the disk

    def _keep_pages(self, node: FileNode, file: OpenFile) -> bool:
        """Whether the pages that the kernel may have of *node* are those of the version just opened."""
        if file.spool is not None:
            return True
        etag = None if file.base is None else file.base.etag
        keep = etag is not None and node.pages_etag == etag
        node.pages_etag = etag
        return keep


def target_for_new(parent: DirectoryNode, name: bytes) -> Target:
    """Return what *name* would stand for. Raises: InvalidArgument for a reserved spelling."""
    try:
        return resolve(parent.location, name)
    except NotFound as exc:
        raise InvalidArgument(str(exc)) from exc


def _check_name(file: OpenFile) -> None:
    """Raises: ConditionFailed."""
    if file.node.is_lost:
        raise ConditionFailed(f"{file.node.key} was changed elsewhere; open it again")


def _cannot(pid: int, inode: int) -> bool:
    return False
