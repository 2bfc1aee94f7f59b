"""A write whose answer was lost is told from another's by checksum, metadata and age: never by size."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from s3mount.core.objects import ByteRange, FileSlice, ObjectHeaders
from s3mount.errors import ConditionFailed, NotFound, StoreError
from s3mount.store.client import ClientOptions, build_client
from s3mount.store.lost_answers import LostAnswers, Tries
from tests.store.conftest import Place
from tests.support.counting_proxy import Answer, Close, DropAnswer
from tests.support.fault_actions import Action, Cut

PLAIN = ObjectHeaders()
OWNED = ObjectHeaders(metadata={"mtime": "1700000000.000000001"})
OLD_S = 10.0
"""Older than the grain of a server's clock."""


def put(place: Place, key: str, body: bytes, **fields: Any) -> str:
    """Store an object past the proxy; return its ETag."""
    client = place.server.client()
    etag: str = client.put_object(Bucket=place.bucket, Key=key, Body=body, **fields)["ETag"]
    client.close()
    return etag


def loses(place: Place, body: bytes, headers: ObjectHeaders = PLAIN) -> None:
    """Create over what is there, with a first request that did not get through."""
    store = place.open_store()
    create = functools.partial(store.put, "x", body, headers, if_none_match=True)
    with place.proxy.rule(Close(), operation="PutObject", last=1), pytest.raises(ConditionFailed):
        trio.run(create)


def test_anothers_object_of_the_same_size_is_not_ours(place: Place) -> None:
    """Its checksum differs."""
    put(place, "x", b"other")
    loses(place, b"bytes")


def test_anothers_object_of_the_same_bytes_and_other_metadata_is_not_ours(place: Place) -> None:
    """Two hosts that write the same bytes stamp different times on them."""
    put(place, "x", b"bytes", Metadata={"mtime": "1700000000.000000002"})
    loses(place, b"bytes", OWNED)


def settle(place: Place, body: bytes | FileSlice, tries: Tries, headers: ObjectHeaders = PLAIN) -> Any:
    """Return what is made of a 412 after such *tries*."""
    options = ClientOptions(bucket=place.bucket, endpoint_url=place.proxy.endpoint_url)
    client = build_client(options)
    try:
        with place.proxy.rule(Answer(412), operation="PutObject"):
            try:
                client.put_object(Bucket=place.bucket, Key="x", Body=b"")
            except client.exceptions.ClientError as failure:
                return LostAnswers(client, place.bucket).of_put(failure, "x", body, headers, tries)
    finally:
        client.close()


def test_what_was_there_before_the_first_try_is_not_ours(place: Place) -> None:
    """Two hosts that create the same empty lock file do not both win."""
    etag = put(place, "x", b"")
    asked_s = 3 * OLD_S
    assert settle(place, b"", Tries(1, time.monotonic() - asked_s))["ETag"] == etag
    deadline_s = time.monotonic() + OLD_S
    while settle(place, b"", Tries(1)) is not None:
        assert time.monotonic() < deadline_s
    assert settle(place, b"", Tries(1, time.monotonic() - asked_s))["ETag"] == etag


def test_without_a_lost_answer_nothing_is_asked(place: Place) -> None:
    """A condition that fails at the first try has met another's object, whatever it holds."""
    put(place, "x", b"bytes")
    assert settle(place, b"bytes", Tries()) is None
    assert place.proxy.counts() == {"PutObject": 1}


def test_an_object_of_unreadable_checksums_is_compared_byte_by_byte(place: Place, tmp_path: Path) -> None:
    """As with SSE-KMS, where the ETag is no MD5; here the object was made of parts."""
    content = os.urandom(3 * 1024 * 1024 + 1)
    (tmp_path / "file").write_bytes(b"skip" + content)
    client = place.server.client()
    upload = client.create_multipart_upload(Bucket=place.bucket, Key="x")["UploadId"]
    tag = {"Bucket": place.bucket, "Key": "x", "UploadId": upload}
    etag = client.upload_part(**tag, PartNumber=1, Body=content)["ETag"]
    client.complete_multipart_upload(**tag, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    client.close()
    with (tmp_path / "file").open("rb") as file:
        ours = FileSlice(file.fileno(), ByteRange(4, 4 + len(content)))
        theirs = FileSlice(file.fileno(), ByteRange(3, 3 + len(content)))
        assert settle(place, ours, Tries(1)) is not None
        assert settle(place, theirs, Tries(1)) is None
    assert place.proxy.counts()["GetObject"] == 2


def test_a_finished_upload_of_the_same_size_by_another_is_not_ours(place: Place) -> None:
    """The upload is gone, aborted by somebody, and an object of the same length is in place."""
    store = place.open_store()

    async def work() -> None:
        upload = await store.create_multipart("x", PLAIN)
        parts = [await store.upload_part(upload, 1, b"ours!")]
        await store.abort_multipart(upload)
        await trio.to_thread.run_sync(put, place, "x", b"their")
        with place.proxy.rule(Close(), operation="CompleteMultipartUpload", last=1):
            await store.complete_multipart(upload, parts)

    with pytest.raises(NotFound):
        trio.run(work)


@pytest.mark.parametrize(
    "fault",
    [Answer(503), Answer(500), Close(), Cut(after_bytes=60, of="head")],
    ids=["503", "500", "FIN", "cut"],
)
@pytest.mark.parametrize("parts", [False, True], ids=["put", "complete"])
def test_whose_object_it_is_is_asked_until_there_is_an_answer(
    place: Place, fault: Action, parts: bool
) -> None:
    """The answer of a write was lost, and so is that of the HEAD which tells that it was carried out: close
    said ESTALE, a conflict with nobody. It is asked again, and where no answer comes at all, the write has
    failed, and is no conflict."""
    store = place.open_store(deadline_s=4.0)

    async def write(key: str) -> None:
        if not parts:
            await store.put(key, b"bytes", PLAIN, if_none_match=True)
            return
        upload = await store.create_multipart(key, PLAIN)
        part = await store.upload_part(upload, 1, b"bytes")
        await store.complete_multipart(upload, [part], if_none_match=True)

    operation = "CompleteMultipartUpload" if parts else "PutObject"
    lost = place.proxy.rule(DropAnswer(), operation=operation, last=1)
    with lost, place.proxy.rule(fault, operation="HeadObject", last=1):
        trio.run(write, "x")
    lost = place.proxy.rule(DropAnswer(), operation=operation, last=1)
    with lost, place.proxy.rule(fault, operation="HeadObject"), pytest.raises(StoreError) as caught:
        trio.run(write, "y")
    assert not isinstance(caught.value, ConditionFailed | NotFound)


def test_a_delete_whose_answer_was_lost_is_a_success(place: Place) -> None:
    """With a condition as without one."""
    etag = put(place, "x", b"bytes")
    store = place.open_store()
    with place.proxy.rule(DropAnswer(), operation="DeleteObject", last=1):
        trio.run(functools.partial(store.delete, "x", if_match=etag))
    with pytest.raises(NotFound):
        trio.run(store.head, "x")
