"""A new file and a listing at the same time, on schedules that no server gives on demand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.file_system import CALLER, file_system
from tests.support.memory_store import Call, MemoryStore


@pytest.mark.parametrize("turns", range(4))
def test_a_file_made_while_a_listing_ends_is_not_lost(tmp_path: Path, turns: int) -> None:
    """Whenever the answer of an older listing comes, close(2) puts the file into the bucket.

    The listing lacks the file and took it for one that others had deleted: close returned 0 and the bytes
    were gone.
    """

    async def main() -> None:
        go_on = trio.Event()

        async def hold(call: Call) -> None:
            if call.method == "list_page":
                await go_on.wait()
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()

        store = MemoryStore(after=hold)
        async with (
            file_system(store, tmp_path, ttl_s=0.0, negative_ttl_s=0.0) as fs,
            trio.open_nursery() as nursery,
        ):
            root = fs.namespace.table.root
            stream = fs.namespace.stream(root)
            nursery.start_soon(stream.next_page)
            await wait_all_tasks_blocked()

            go_on.set()
            node, number = await fs.files.create(root, b"f", 0o644, os.O_WRONLY, CALLER)
            await wait_all_tasks_blocked()
            stream.close()
            assert node.is_linked
            await fs.files.write(number, 0, b"bytes")
            await fs.files.flush(number)
            await fs.files.release(number)
            assert store.body("f") == b"bytes"

    # Which task goes first at each checkpoint is trio's choice: so often, that both happen.
    for _ in range(20):
        trio.run(main)
