"""Everything between the kernel and the store, over a store that a test gives."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from s3mount.config import make_config
from s3mount.core.server_facts import ServerFacts
from s3mount.data.descriptors import SpoolDescriptors
from s3mount.fs.ownership import Caller
from s3mount.fuse.operations import FileSystem
from s3mount.mount import OpenedStore, build_file_system
from s3mount.store.base import ObjectStore

CALLER = Caller(uid=os.geteuid(), gid=os.getegid(), pid=os.getpid())


class NoOutage:
    """A breaker that never opens."""

    is_open = False

    async def wait_open(self) -> None:
        """Never return."""
        await trio.sleep_forever()

    async def wait_closed(self) -> None:
        """Return."""
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def file_system(
    store: ObjectStore,
    spool: Path,
    *,
    facts: ServerFacts | None = None,
    part_size: int | None = None,
    **values: Any,
) -> AsyncIterator[FileSystem]:
    """Build it; nothing works in the background unless the test starts that.

    Args:
        facts: what *store* honours by itself.
        part_size: also below what users may choose, for the sake of speed.
        values: fields of the configuration.
    """
    config = make_config("bucket", "/mnt", {"spool_dir": str(spool), "memory_bytes": 32 << 20, **values})
    if part_size is not None:
        object.__setattr__(config, "part_size", part_size)
    opened = OpenedStore(
        store, facts or ServerFacts(), SpoolDescriptors(10_000), "http://memory", breaker=NoOutage()
    )
    async with AsyncExitStack() as stack:
        yield await build_file_system(config, opened, stack)
