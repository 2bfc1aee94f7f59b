"""Uploads that are gone on with, and answers that are lost, on real servers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from s3mount.core.objects import ByteRange, MultipartUpload, ObjectHeaders, WriteCondition
from s3mount.core.spool_record import SpoolState
from s3mount.data.spool import SpoolDir, SpoolFile
from s3mount.data.uploader import Uploader
from s3mount.errors import ConditionFailed, FsError, StoreError, StoreTimeout, StoreUnavailable
from s3mount.store.base import ObjectStore
from s3mount.store.checked import CheckedStore
from s3mount.store.client import ClientOptions, build_client
from s3mount.store.s3 import S3Store
from tests.data.spools import HEADERS, play
from tests.support.servers import Server

pytestmark = pytest.mark.parametrize("server", ["minio", "seaweedfs"], indirect=True)

MIB = 1 << 20
PART = 5 * MIB
PARTS = 4
SIZE = (PARTS - 1) * PART + 17
CREATED = WriteCondition(if_none_match=True)
BODY = random.Random(1).randbytes(SIZE)
LOST = StoreTimeout("lost")
AWAY = StoreUnavailable("away")


class Flaky:
    """A store that counts its requests and loses some, or some of their answers."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.count: Counter[str] = Counter()
        self.is_refused: Callable[[str, int], FsError | None] = lambda method, number: None
        self.is_lost: Callable[[str, int], FsError | None] = lambda method, number: None

    def heal(self) -> None:
        """Count anew, and lose nothing."""
        self.count.clear()
        self.is_refused = self.is_lost = lambda method, number: None

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self.store, name)

        async def call(*args: Any, **options: Any) -> Any:
            self.count[name] += 1
            number = self.count[name]
            if (failure := self.is_refused(name, number)) is not None:
                raise failure
            answer = await method(*args, **options)
            if (failure := self.is_lost(name, number)) is not None:
                raise failure
            return answer

        return call


@pytest.fixture
def store(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flaky]:
    """A checked store on a fresh bucket."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    options = ClientOptions(bucket=server.fresh_bucket(), endpoint_url=server.endpoint_url, attempts=2)
    s3 = S3Store(build_client(options), options)
    yield Flaky(CheckedStore(s3))
    s3.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A spool directory that is not there yet."""
    return tmp_path / "spool"


def uploader(store: Flaky, spool: SpoolDir, **options: Any) -> Uploader:
    """Return an uploader as a mount makes it, one request at a time."""
    return Uploader(store, part_size=PART, concurrency=1, backoff_s=0.01, begun=spool.rows, **options)  # type: ignore[arg-type]


async def written(spool: SpoolDir, data: bytes = BODY) -> SpoolFile:
    """Return a file of the spool with *data*."""
    file = await spool.create("dir/k", condition=CREATED)
    await file.write(0, data)
    return file


async def upload(
    store: Flaky,
    spool: SpoolDir,
    file: SpoolFile,
    condition: WriteCondition = CREATED,
    headers: ObjectHeaders = HEADERS,
) -> None:
    """Upload as an open file does."""
    if file.is_edited:
        await file.make_durable(SpoolState.QUEUED)
    await file.begin_upload("dir/k", headers, condition)
    by = uploader(store, spool)
    answer = await by.upload("dir/k", file, headers, condition=condition, ledger=file.ledger)
    file.sent(answer.etag)


async def taken_over(spool: SpoolDir) -> SpoolFile:
    """Return the file that an earlier mount left."""
    (left,) = spool.leftovers()
    return await spool.reopen(left.record)


async def in_bucket(store: Flaky, size: int) -> bytes:
    """Return the object's bytes."""
    stat = await store.store.head("dir/k")
    assert stat.size == size
    buffer = bytearray(size)

    await store.store.get_into("dir/k", ByteRange(0, size), memoryview(buffer), if_match=stat.etag)
    return bytes(buffer)


async def uploads(store: Flaky, key: str) -> list[MultipartUpload]:
    """Return the unfinished uploads of exactly *key*; servers also list those of longer keys."""
    return [one for one in await store.store.list_multipart_uploads(key) if one.key == key]


async def nothing_is_left(store: Flaky, spool: SpoolDir) -> None:
    """Check that no upload is in the bucket, and none on the list."""
    assert await uploads(store, "dir/k") == []
    assert spool.rows.begun() == []


@pytest.mark.parametrize("sent", [0, 1, 3, 4])
def test_the_next_mount_sends_only_what_is_missing(store: Flaky, path: Path, sent: int) -> None:
    """Cut off after some parts, or before the end; the object is whole, with its headers."""

    async def first(spool: SpoolDir) -> None:
        file = await written(spool)
        store.is_refused = lambda method, number: (
            AWAY if (method == "upload_part" and number > sent) or method == "complete_multipart" else None
        )
        with pytest.raises(StoreUnavailable):
            await upload(store, spool, file)

    async def second(spool: SpoolDir) -> None:
        store.heal()
        await upload(store, spool, await taken_over(spool))
        assert store.count["upload_part"] == PARTS - sent
        assert store.count["create_multipart"] == 0
        assert await in_bucket(store, SIZE) == BODY
        assert (await store.store.head("dir/k")).headers == HEADERS
        await nothing_is_left(store, spool)

    play(path, first)
    play(path, second)


def test_parts_that_have_changed_are_sent_anew(store: Flaky, path: Path) -> None:
    """Whatever the server tells of the parts that it has, the object is the file as it is now."""
    expected = bytearray(BODY)
    expected[PART + 5 : PART + 8] = b"new"

    async def main(spool: SpoolDir) -> None:
        file = await written(spool)
        store.is_refused = lambda method, number: AWAY if method == "complete_multipart" else None
        with pytest.raises(StoreUnavailable):
            await upload(store, spool, file)
        store.heal()
        await file.write(PART + 5, b"new")
        await upload(store, spool, file)
        assert store.count["upload_part"] == 1
        assert await in_bucket(store, SIZE) == expected
        await nothing_is_left(store, spool)

    play(path, main)


def test_an_upload_that_somebody_has_aborted_begins_anew(store: Flaky, path: Path) -> None:
    """A lifecycle rule does so after some days."""

    async def main(spool: SpoolDir) -> None:
        file = await written(spool)
        store.is_refused = lambda method, number: AWAY if method == "complete_multipart" else None
        with pytest.raises(StoreUnavailable):
            await upload(store, spool, file)
        for one in await store.store.list_multipart_uploads("dir/k"):
            await store.store.abort_multipart(one)
        store.heal()
        await upload(store, spool, file)
        assert store.count["upload_part"] == PARTS
        assert await in_bucket(store, SIZE) == BODY
        await nothing_is_left(store, spool)

    play(path, main)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_lost_answers_of_create_leave_no_stray(store: Flaky, path: Path, lost: int) -> None:
    """Found by the server's own clock, within this try or the next; one of a neighbour key stays."""

    async def main(spool: SpoolDir) -> None:
        neighbour = await store.store.create_multipart("dir/k2", HEADERS)
        file = await written(spool)
        store.is_lost = lambda method, number: (
            LOST if method == "create_multipart" and number <= lost else None
        )
        if lost == 3:
            with pytest.raises(StoreTimeout):
                await upload(store, spool, file)
        await upload(store, spool, file)
        assert await in_bucket(store, SIZE) == BODY
        await nothing_is_left(store, spool)
        assert await uploads(store, "dir/k2") == [neighbour]
        await store.store.abort_multipart(neighbour)

    play(path, main)


@pytest.mark.parametrize("size", [10, SIZE])
@pytest.mark.parametrize("memory", ["same process", "next mount"])
def test_a_lost_answer_of_what_publishes_is_no_conflict(
    store: Flaky, path: Path, size: int, memory: str
) -> None:
    """Told by checksums: nothing is sent again, and the object is the one that was stored."""
    publishes = "put" if size <= PART else "complete_multipart"

    async def first(spool: SpoolDir) -> None:
        file = await written(spool, BODY[:size])
        store.is_lost = lambda method, number: LOST if method == publishes else None
        store.is_refused = lambda method, number: (
            AWAY if method == "head" or (method == publishes and number > 1) else None
        )
        with pytest.raises(StoreError):
            await upload(store, spool, file)
        store.heal()
        if memory == "same process":
            await again(spool, file)

    async def again(spool: SpoolDir, file: SpoolFile) -> None:
        etag = (await store.store.head("dir/k")).etag
        await upload(store, spool, file)
        assert store.count["upload_part"] == 0
        assert (await store.store.head("dir/k")).etag == etag
        assert await in_bucket(store, size) == BODY[:size]
        await nothing_is_left(store, spool)

    async def second(spool: SpoolDir) -> None:
        await again(spool, await taken_over(spool))

    play(path, first)
    if memory == "next mount":
        play(path, second)


@pytest.mark.parametrize("size", [10, SIZE])
def test_another_writers_object_is_a_conflict(store: Flaky, path: Path, size: int) -> None:
    """Stored after a lost answer, as large as ours: it stays, and no upload is left."""
    theirs = random.Random(2).randbytes(size)

    async def main(spool: SpoolDir) -> None:
        file = await written(spool, BODY[:size])
        store.is_refused = lambda method, number: AWAY if method in ("put", "complete_multipart") else None
        with pytest.raises(StoreUnavailable):
            await upload(store, spool, file)
        store.heal()
        await store.store.put("dir/k", theirs, HEADERS)
        with pytest.raises(ConditionFailed):
            await upload(store, spool, file)
        assert await in_bucket(store, size) == theirs
        await nothing_is_left(store, spool)

    play(path, main)


def test_what_a_crash_has_left_of_a_copy_is_aborted(store: Flaky, path: Path) -> None:
    """The process died in the midst of it: the next mount's first visit to the list does it."""

    async def first(spool: SpoolDir) -> None:
        await uploader(store, spool).upload("a", await written(spool), HEADERS)
        source = await store.store.head("a")
        by = uploader(store, spool, copy_part_size=PART, single_copy_max=PART)
        # As SIGKILL leaves it: neither completed nor aborted.
        store.is_refused = lambda method, number: (
            AWAY if method == "abort_multipart" or (method == "copy_part" and number > 1) else None
        )
        with pytest.raises(StoreUnavailable):
            await by.copy(source, "dir/k")
        assert len(await store.store.list_multipart_uploads("dir/k")) == 1
        assert [row.key for row in spool.rows.begun()] == ["dir/k"]

    async def second(spool: SpoolDir) -> None:
        store.heal()
        await uploader(store, spool).abort_left()
        await nothing_is_left(store, spool)

    play(path, first)
    play(path, second)


@pytest.mark.parametrize("has_ledger", [True, False])
def test_a_cancel_keeps_the_parts_only_for_who_goes_on(store: Flaky, path: Path, has_ledger: bool) -> None:
    """With the journal's ledger the upload stays in the bucket; without, it is aborted."""

    async def main(spool: SpoolDir) -> None:
        file = await written(spool)
        await file.begin_upload("dir/k", HEADERS, CREATED)
        with trio.CancelScope() as scope:

            def cancel(method: str, number: int) -> None:
                if (method, number) == ("upload_part", 2):
                    scope.cancel()

            store.is_lost = cancel
            ledger = file.ledger if has_ledger else None
            await uploader(store, spool).upload("dir/k", file, HEADERS, condition=CREATED, ledger=ledger)
        assert scope.cancelled_caught
        assert len(await store.store.list_multipart_uploads("dir/k")) == int(has_ledger)
        store.heal()
        await upload(store, spool, file)
        assert store.count["upload_part"] == (PARTS - 2 if has_ledger else PARTS)
        await nothing_is_left(store, spool)

    play(path, main)
