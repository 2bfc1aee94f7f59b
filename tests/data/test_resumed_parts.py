"""An upload in parts that is gone on with after its file has changed, and after its process has died."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from s3mount.core.objects import WriteCondition
from s3mount.core.spool_record import SpoolState
from s3mount.data.spool import SpoolDir, SpoolFile
from s3mount.data.uploader import ATTEMPTS, Uploader
from s3mount.errors import StoreUnavailable
from tests.data.spools import HEADERS, nothing, play
from tests.support.memory_store import Call, MemoryStore

PART = 5 << 20
CREATED = WriteCondition(if_none_match=True)


class Died(BaseException):
    """The process is gone."""


async def send(store: MemoryStore, file: SpoolFile) -> None:
    """Upload *file*."""
    await file.begin_upload("k", HEADERS, CREATED)
    uploader = Uploader(store, part_size=PART, backoff_s=0)
    await uploader.upload("k", file, HEADERS, condition=CREATED, ledger=file.ledger)


def test_a_crash_after_appending_to_a_half_sent_file_made_a_conflict_with_its_own_upload(
    tmp_path: Path,
) -> None:
    """A part of the first try served the second, too; the next mount must know of it to know the object."""
    store = MemoryStore()
    completes = 0

    async def before(call: Call) -> None:
        nonlocal completes
        await trio.lowlevel.checkpoint()
        completes += call.method == "complete_multipart"
        if call.method == "complete_multipart" and completes <= ATTEMPTS:
            raise StoreUnavailable("not now")

    async def after(call: Call) -> None:
        await trio.lowlevel.checkpoint()
        if call.method == "complete_multipart":
            raise Died

    async def die(spool: SpoolDir) -> None:
        file = await spool.create("k", condition=CREATED)
        await file.write(0, b"a" * (PART + 100))
        store.before = before
        with pytest.raises(StoreUnavailable):
            await send(store, file)
        await file.write(PART + 100, b"b" * 50)
        await file.make_durable(SpoolState.QUEUED)
        store.after = after
        with pytest.raises(Died):
            await send(store, file)

    async def recover(spool: SpoolDir) -> None:
        (left,) = spool.leftovers()
        file = await spool.reopen(left.record)
        await file.fill(nothing)
        store.calls.clear()
        await send(store, file)
        assert "create_multipart" not in {call.method for call in store.calls}

    play(tmp_path / "spool", die)
    assert store.body("k") == b"a" * (PART + 100) + b"b" * 50
    store.before = store.after = MemoryStore().before
    play(tmp_path / "spool", recover)
    assert store.body("k") == b"a" * (PART + 100) + b"b" * 50
    assert store.uploads() == []
