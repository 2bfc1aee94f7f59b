"""The file system on a store in memory, without a kernel, and a daemon that can be killed at any request."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from s3mount.core.keys import Location
from s3mount.core.link_targets import LinkRules
from s3mount.core.readahead import Readahead
from s3mount.data.block_cache import BlockCache
from s3mount.data.budget import Budget
from s3mount.data.descriptors import SpoolDescriptors
from s3mount.data.job_journal import JobJournal
from s3mount.data.spool import SpoolDir
from s3mount.data.uploader import Uploader
from s3mount.errors import NotFound
from s3mount.fs.attributes import AttributeWriter
from s3mount.fs.directories import DirectoryHandles
from s3mount.fs.file_services import FileServices
from s3mount.fs.files import Files
from s3mount.fs.jobs import Jobs
from s3mount.fs.open_files import OpenFiles
from s3mount.fs.ownership import Caller, Defaults
from s3mount.fs.recent_errors import RecentErrors
from s3mount.fs.rename import Renamer
from s3mount.fs.tree import Tree
from s3mount.fs.upload_queue import UploadQueue
from s3mount.meta.inodes import FileNode, InodeTable
from s3mount.meta.namespace import Namespace
from s3mount.meta.policy import NamePolicy
from s3mount.store.base import ObjectStore
from s3mount.store.checked import CheckedStore
from tests.support.memory_store import Call, MemoryStore
from tests.support.names import Lookups

PART = 100
ME = Caller(uid=0, gid=0, pid=1)


class Killed(BaseException):
    """The daemon dies here: no handler of errors sees it."""


@dataclass
class Host(Lookups):
    """One daemon."""

    jobs: Jobs
    renamer: Renamer
    files: Files
    attributes: AttributeWriter
    tree: Tree
    open_files: OpenFiles
    namespace: Namespace
    spool: SpoolDir

    async def write(self, path: str, body: bytes) -> FileNode:
        """open(2) with O_CREAT and O_TRUNC, write(2), close(2)."""
        above, _, name = path.rpartition("/")
        parent = await self.directory(above)
        try:
            node = await self.file(path)
            number, _ = await self.files.open(node, os.O_WRONLY | os.O_TRUNC, ME)
        except NotFound:
            node, number = await self.files.create(parent, name.encode(), 0o644, os.O_WRONLY, ME)
        await self.files.write(number, 0, body)
        await self.files.flush(number)
        await self.files.release(number)
        return node

    async def read(self, path: str) -> bytes:
        """open(2), read(2), close(2)."""
        node = await self.file(path)
        number, _ = await self.files.open(node, os.O_RDONLY, ME)
        try:
            return bytes(await self.files.read(number, 0, max(1, node.size)))
        finally:
            await self.files.release(number)

    async def list(self, path: str = "") -> list[str]:
        """Return the names in a directory in their order, as `ls` does."""
        handles, names = DirectoryHandles(self.namespace), []
        number = handles.open(await self.directory(path))
        try:
            while page := await handles[number].entries_from(len(names)):
                names += [name.decode() for name, _ in page]
        finally:
            handles.release(number)
        return sorted(names)

    async def rename(self, old: str, new: str, *, no_replace: bool = False) -> None:
        """rename(2)."""
        (above, _, name), (new_above, _, new_name) = old.rpartition("/"), new.rpartition("/")
        parent, new_parent = await self.directory(above), await self.directory(new_above)
        await self.namespace.lookup(parent, name.encode())
        await self.renamer.rename(parent, name.encode(), new_parent, new_name.encode(), no_replace=no_replace)


@dataclass
class World:
    """A bucket and a disk that outlive the daemon."""

    place: Path
    store: MemoryStore = field(default_factory=lambda: MemoryStore(list_metadata=True))

    @asynccontextmanager
    async def host(
        self,
        *,
        store: ObjectStore | None = None,
        single_copy_max: int = 10 * PART,
        ttl_s: float = 0.0,
        negative_ttl_s: float = 0.0,
    ) -> AsyncIterator[Host]:
        """Start a daemon; its jobs stop with the block."""
        checked = CheckedStore(store or self.store)
        async with AsyncExitStack() as stack:
            namespace = Namespace(
                checked,
                InodeTable(Location("")),
                NamePolicy(
                    ttl_s=ttl_s,
                    negative_ttl_s=negative_ttl_s,
                    attributes="list",
                    list_shows_attributes=True,
                ),
            )
            cache = await stack.enter_async_context(
                BlockCache.open(checked, Budget(1 << 20), block_size=4096, background_runs=2)
            )
            spool = SpoolDir(str(self.place / "spool"), cap_bytes=None, free_floor_bytes=0)
            stack.callback(spool.close)
            uploader = Uploader(
                checked,
                part_size=PART,
                copy_part_size=PART,
                single_copy_max=single_copy_max,
                backoff_s=0.0,
                begun=spool.rows,
            )
            services = FileServices(
                store=checked,
                namespace=namespace,
                cache=cache,
                spool_dir=spool,
                uploader=uploader,
                queue=UploadQueue(delay_s=1.0, files_at_once=1, most_files=1000),
                new_readahead=lambda: Readahead(4096, cap_bytes=0),
            )
            defaults = Defaults(uid=0, gid=0, file_mode=0o644, dir_mode=0o755)
            open_files = OpenFiles(services)
            tree = Tree(services, open_files, defaults, LinkRules("inside", b"/mnt"), read_only=False)
            journal = JobJournal(spool.journal)
            jobs = await stack.enter_async_context(Jobs.open(services, open_files, tree, journal))
            jobs.find()
            errors = RecentErrors()
            files = Files(services, open_files, defaults, SpoolDescriptors(10_000), errors, read_only=False)
            yield Host(
                jobs=jobs,
                renamer=Renamer(services, open_files, tree, jobs),
                files=files,
                attributes=AttributeWriter(services, open_files, files, defaults, read_only=False),
                tree=tree,
                open_files=open_files,
                namespace=namespace,
                spool=spool,
            )

    async def finish(self) -> None:
        """Let new daemons go on with whatever is left until nothing is."""
        for _ in range(20):
            async with self.host() as host:
                host.jobs.resume()
                if not await host.jobs.drain():
                    return
        raise AssertionError("the jobs do not end")


def dying(rng: random.Random, number: int, act: Callable[[], None]) -> Callable[[Call], Awaitable[None]]:
    """Return a hook that kills the daemon at its *number*-th call, and lets *act* happen before others."""
    calls = 0

    async def hook(call: Call) -> None:
        nonlocal calls
        # Several calls are under way at once: any of them may be the next to be carried out.
        for _ in range(rng.randrange(4)):
            await trio.lowlevel.checkpoint()
        calls += 1
        if calls >= number:
            raise Killed
        act()

    return hook
