"""Bytes through real servers: written by the uploader, read by the block cache."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from s3mount.core.objects import (
    ByteRange,
    MultipartUpload,
    ObjectHeaders,
    PartTag,
    WriteAnswer,
    WriteCondition,
)
from s3mount.core.readahead import Readahead
from s3mount.data.block_cache import BlockCache
from s3mount.data.budget import Budget
from s3mount.data.reader import ObjectReader
from s3mount.data.spool import SpoolDir
from s3mount.data.uploader import OpenDescriptor, Uploader
from s3mount.errors import ConditionFailed, StaleObject, StoreTimeout
from s3mount.store.base import ObjectStore
from s3mount.store.checked import CheckedStore
from s3mount.store.client import ClientOptions, build_client
from s3mount.store.s3 import S3Store
from tests.support.servers import Server

MIB = 1 << 20
PART = 5 * MIB
HEADERS = ObjectHeaders(content_type="text/x-odd", metadata={"mode": "33188"})


@pytest.fixture
def store(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """A checked store on a fresh bucket of each server."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    options = ClientOptions(bucket=server.fresh_bucket(), endpoint_url=server.endpoint_url, attempts=2)
    s3 = S3Store(build_client(options), options)
    yield CheckedStore(s3)
    s3.close()


@pytest.fixture
def source(tmp_path: Path) -> Iterator[OpenDescriptor]:
    """A file of two parts and a bit."""
    path = tmp_path / "source"
    path.write_bytes(random.Random(1).randbytes(2 * PART + 1234))
    fd = os.open(path, os.O_RDONLY)
    yield OpenDescriptor(fd, 2 * PART + 1234)
    os.close(fd)


def test_what_is_uploaded_is_what_is_read(store: ObjectStore, source: OpenDescriptor, tmp_path: Path) -> None:
    """Up in parts, read back in order and at random, changed in a spool, up again, read back."""

    async def main() -> None:
        uploader = Uploader(store, part_size=PART)
        expected = bytearray(os.pread(source.fd, source.size, 0))
        answer = await uploader.upload("k", source, HEADERS)
        stat = await store.head("k")
        assert (stat.size, stat.etag, stat.headers) == (source.size, answer.etag, HEADERS)
        async with BlockCache.open(store, Budget(8 * MIB)) as cache:
            reader, readahead = ObjectReader(cache, stat), Readahead(MIB)
            got = [
                bytes(await reader.read(ByteRange(at, at + 256 * 1024), readahead))
                for at in range(0, stat.size, 256 * 1024)
            ]
            assert b"".join(got) == expected
            assert await reader.read(ByteRange(stat.size - 5, stat.size + 5), readahead) == expected[-5:]

            file = await spool.create("k", stat)
            await file.write(PART - 2, b"over")
            await file.truncate(source.size - 10)
            expected[PART - 2 : PART + 2] = b"over"
            del expected[-10:]
            await file.fill(reader.read)
            await uploader.upload("k", file, HEADERS, condition=WriteCondition(stat.etag))
            await file.discard()

            with pytest.raises(StaleObject):
                cache.forget("k")
                await reader.read(ByteRange(0, 10))
            again = ObjectReader(cache, await store.head("k"))
            assert await again.read(ByteRange(0, 1 << 30)) == expected
        assert await store.list_multipart_uploads("k") == []

    spool = SpoolDir(str(tmp_path / "spool"), cap_bytes=None, free_floor_bytes=0)
    trio.run(main)
    spool.close()


def test_copies_in_parts_are_whole(store: ObjectStore, source: OpenDescriptor) -> None:
    """A large copy equals its source, headers included."""

    async def main() -> None:
        uploader = Uploader(store, part_size=PART, copy_part_size=PART, single_copy_max=PART)
        await uploader.upload("a", source, HEADERS)
        stat = await store.head("a")
        answer = await uploader.copy(stat, "b")
        copied = await store.head("b")
        assert (copied.size, copied.etag, copied.headers) == (stat.size, answer.etag, HEADERS)
        async with BlockCache.open(store, Budget(32 * MIB)) as cache:
            got = await ObjectReader(cache, copied).read(ByteRange(0, 1 << 30))
            assert got == os.pread(source.fd, source.size, 0)

    trio.run(main)


@pytest.mark.parametrize("server", ["seaweedfs", "minio"], indirect=True)  # moto ignores the condition
def test_a_copy_in_parts_of_a_replaced_version_leaves_nothing(
    store: ObjectStore, source: OpenDescriptor
) -> None:
    """The parts are bound to the version that was meant; no object, no upload."""

    async def main() -> None:
        uploader = Uploader(store, part_size=PART, copy_part_size=PART, single_copy_max=PART)
        await uploader.upload("a", source, HEADERS)
        stat = await store.head("a")
        with pytest.raises(ConditionFailed):
            await uploader.copy(replace(stat, etag='"00000000000000000000000000000000-3"'), "c")
        assert await store.list_multipart_uploads("") == []
        assert [found.key for found in (await store.list_page("")).objects] == ["a"]

    trio.run(main)


class LostAnswers:
    """A store whose first answer to complete never arrives, although it was carried out."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._is_lost = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def complete_multipart(
        self, upload: MultipartUpload, parts: list[PartTag], **conditions: object
    ) -> WriteAnswer:
        """Carry out, lose the first answer."""
        answer = await self._store.complete_multipart(upload, parts, **conditions)  # type: ignore[arg-type]
        if self._is_lost:
            return answer
        self._is_lost = True
        raise StoreTimeout("lost")


def test_a_lost_answer_to_complete_is_recognised(store: ObjectStore, source: OpenDescriptor) -> None:
    """The server says that the upload is gone; its object's ETag can be computed, and is ours."""

    async def main() -> None:
        lossy = LostAnswers(store)
        answer = await Uploader(lossy, part_size=PART).upload("k", source, HEADERS)  # type: ignore[arg-type]
        assert answer.etag == (await store.head("k")).etag

    trio.run(main)
