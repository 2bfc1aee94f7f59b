"""S3Store on a real server whose answers a proxy spoils: retried, resumed, refused; never believed."""

from __future__ import annotations

import functools
import logging
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from s3mount.core.objects import ByteRange, FileSlice, MultipartUpload, ObjectHeaders, PartTag
from s3mount.core.progress import Sending
from s3mount.errors import (
    AccessDenied,
    BadAnswer,
    ConditionFailed,
    FsError,
    NoAnswer,
    NoSuchBucket,
    NotFound,
    NotSupported,
    StaleObject,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
)
from s3mount.store.checked import CheckedStore
from s3mount.store.client import Connections
from tests.store.conftest import Place
from tests.support.counting_proxy import Action, Answer, Close, Cut, DropAnswer, Hold
from tests.support.fault_actions import error

PLAIN = ObjectHeaders()
MIB = 1024 * 1024
HTML = b"<!DOCTYPE html><html><body>Please log in</body></html>"


async def read(store: CheckedStore, key: str, start: int, stop: int, etag: str | None = None) -> bytes:
    """Read a range."""
    buffer = bytearray(stop - start)
    await store.get_into(key, ByteRange(start, stop), memoryview(buffer), if_match=etag)
    return bytes(buffer)


def put(place: Place, key: str, body: bytes) -> str:
    """Store an object past the proxy; return its ETag."""
    client = place.server.client()
    etag: str = client.put_object(Bucket=place.bucket, Key=key, Body=body)["ETag"]
    client.close()
    return etag


# What a retry mends


@pytest.mark.parametrize(
    "fault", [error(503, "SlowDown"), error(500, "InternalError"), Close(), Close(reset=True)], ids=repr
)
def test_one_failure_is_retried(place: Place, fault: Action) -> None:
    """Whatever the operation, one failed request is not seen by the caller."""
    store = place.open_store()

    async def work() -> None:
        await store.put("d/x", b"0123456789", PLAIN)
        await store.head("d/x")
        assert await read(store, "d/x", 2, 5) == b"234"
        assert len((await store.list_page("d/")).objects) == 1
        await store.copy("d/x", "d/y", if_match=None, headers=None)
        await store.delete("d/x")
        assert await store.delete_many(["d/y"]) == []

    operations = (
        "PutObject",
        "HeadObject",
        "GetObject",
        "ListObjectsV2",
        "CopyObject",
        "DeleteObject",
        "DeleteObjects",
    )
    with first_fails(place, fault, operations):
        trio.run(work)
    assert place.proxy.counts() == dict.fromkeys(operations, 2)


@contextmanager
def first_fails(place: Place, fault: Action, operations: tuple[str, ...]) -> Iterator[None]:
    """Apply *fault* to the first request of each operation."""
    with ExitStack() as stack:
        for operation in operations:
            stack.enter_context(place.proxy.rule(fault, operation=operation, last=1))
        yield


def test_the_attempts_are_counted(place: Place) -> None:
    """As many requests as the options say, then the error."""
    store = place.open_store(attempts=3)
    with place.proxy.rule(error(500, "InternalError")):
        with pytest.raises(StoreUnavailable, match="InternalError"):
            trio.run(read, store, "x", 0, 1)
        with pytest.raises(StoreUnavailable, match="500"):
            trio.run(store.head, "x")
    assert place.proxy.counts() == {"HeadObject": 3, "GetObject": 3}


@pytest.mark.parametrize(
    "refusal",
    [error(403, "AccessDenied"), error(400, "InvalidRequest"), error(404, "NoSuchBucket")],
    ids=repr,
)
def test_what_is_refused_for_good_is_asked_for_once(place: Place, refusal: Answer) -> None:
    """A permanent 4xx is one request, of a reader as of a writer: no storm of repetitions."""
    store = place.open_store(checksums="crc32")

    async def work() -> None:
        for call in (read(store, "x", 0, 1), store.put("x", b"body", PLAIN), store.list_page("d/")):
            with pytest.raises(FsError):
                await call

    with place.proxy.rule(refusal):
        trio.run(work)
    assert place.proxy.counts() == {"GetObject": 1, "PutObject": 1, "ListObjectsV2": 1}


def test_a_server_that_is_overloaded_for_a_while_is_waited_for(place: Place) -> None:
    """SlowDown is repeated until the deadline, whatever the attempts: the program sees no error."""
    put(place, "x", b"0123456789")
    store = place.open_store(attempts=1)
    busy = Answer(503, error(503, "SlowDown").body, {"Retry-After": "0"})
    with place.proxy.rule(busy, last=5):
        assert trio.run(read, store, "x", 2, 5) == b"234"
    assert place.proxy.counts() == {"GetObject": 6}


def test_an_overload_that_does_not_end_is_an_error_at_the_deadline(place: Place) -> None:
    """With the server's words."""
    store = place.open_store(deadline_s=1.0)
    with place.proxy.rule(error(503, "SlowDown")), pytest.raises(StoreError, match="SlowDown"):
        trio.run(store.list_page, "d/")
    assert 1 < place.proxy.counts()["ListObjectsV2"] < 30


def test_an_unreadable_answer_is_asked_for_once_more(place: Place) -> None:
    """What garbled one answer may be over; what garbles all is not asked for ever."""
    store = place.open_store(attempts=5)

    async def uploads() -> int:
        return len(await store.list_multipart_uploads("x"))

    with place.proxy.rule(Answer(200, b"<html/>"), last=1):
        assert trio.run(uploads) == 0
    assert place.proxy.counts() == {"ListMultipartUploads": 2}
    with place.proxy.rule(Answer(200, b"<html/>")), pytest.raises(BadAnswer):
        trio.run(uploads)
    assert place.proxy.counts() == {"ListMultipartUploads": 4}


# Bodies that end early


def test_a_body_that_breaks_off_is_resumed_where_it_ended(place: Place) -> None:
    """The bytes are right, and only what was missing is fetched again, bound to the same ETag."""
    body = os.urandom(3 * MIB)
    etag = put(place, "x", body)
    store = place.open_store()
    with place.proxy.rule(Cut(after_bytes=1_234_567), last=1):
        assert trio.run(read, store, "x", 10, 3 * MIB, etag) == body[10:]
    first, second = place.proxy.requests()
    assert first.range == f"bytes=10-{3 * MIB - 1}"
    assert second.range == f"bytes={10 + 1_234_567}-{3 * MIB - 1}"
    assert second.headers["if-match"] == etag


def test_the_rest_is_of_the_same_version_or_an_error(place: Place) -> None:
    """Replaced between the two halves: also a reader that named no ETag gets no mixture."""
    put(place, "x", b"a" * MIB)
    store = place.open_store()
    hold = Hold()

    async def work() -> None:
        with pytest.raises(StaleObject):
            await read(store, "x", 0, MIB)

    def replace_and_release() -> None:
        hold.wait_held()
        put(place, "x", b"b" * MIB)
        hold.release()

    other = threading.Thread(target=replace_and_release)
    other.start()
    # The rule that was made last is asked first: it lets the first request by and holds the second.
    with place.proxy.rule(Cut(after_bytes=1000), last=1), place.proxy.rule(hold, first=2):
        trio.run(work)
    other.join()


def test_a_body_that_always_breaks_off_is_an_error(place: Place) -> None:
    """After the attempts are used up, and never a short read."""
    put(place, "x", b"0123456789")
    store = place.open_store(attempts=3)
    with place.proxy.rule(Cut(after_bytes=1)), pytest.raises((StoreUnavailable, BadAnswer)):
        trio.run(read, store, "x", 0, 10)
    assert place.proxy.counts() == {"GetObject": 3}


# Answers that cannot be true


def lie(status: int, body: bytes, etag: str, **headers: str) -> Answer:
    """An answer to a GET."""
    return Answer(status, body, {"ETag": etag, **{k.replace("_", "-"): v for k, v in headers.items()}})


@pytest.mark.parametrize(
    "make",
    [
        lambda etag: lie(200, b"0123456789", etag),
        lambda etag: lie(206, b"0123", etag, Content_Range="bytes 0-3/10"),
        lambda etag: lie(206, b"234", etag, Content_Range="bytes 2-4/10"),
        lambda etag: lie(206, b"2345", etag),
        lambda etag: lie(206, b"2345", etag, Content_Range="bytes 2-5/4"),
        lambda etag: lie(206, b"23456", etag, Content_Range="bytes 2-5/10"),
        lambda etag: lie(206, b"2345", '"other"', Content_Range="bytes 2-5/10"),
        lambda etag: lie(206, b"2345", "", Content_Range="bytes 2-5/10"),
        lambda etag: Answer(200, HTML),
        lambda etag: Answer(404, HTML),
    ],
    ids=[
        "ignores the range",
        "another range",
        "a shorter range",
        "no Content-Range",
        "an object that is too short",
        "too long",
        "another ETag",
        "no ETag",
        "a web page",
        "a page that says 404",
    ],
)
def test_lies_in_answer_to_a_get(place: Place, make: Callable[[str], Answer]) -> None:
    """One request, BadAnswer, and no NotFound."""
    etag = put(place, "x", b"0123456789")
    store = place.open_store()
    with place.proxy.rule(make(etag)), pytest.raises(BadAnswer):
        trio.run(read, store, "x", 2, 6, etag)


def test_an_endless_body_is_not_read(place: Place) -> None:
    """A chunked body that goes on after the range is refused, and its connection closed."""
    etag = put(place, "x", b"0123456789")
    store = place.open_store()
    headers = {"ETag": etag, "Content-Range": "bytes 2-5/10", "Transfer-Encoding": "chunked"}
    endless = Answer(206, b"1\r\n2\r\n" * 100_000, headers)
    with place.proxy.rule(endless), pytest.raises(BadAnswer, match="more than the 4 bytes"):
        trio.run(read, store, "x", 2, 6, etag)


WORKS: dict[str, Callable[[CheckedStore], Awaitable[Any]]] = {
    "ListObjectsV2": lambda store: store.list_page("d/"),
    "PutObject": lambda store: store.put("x", b"", PLAIN),
    "CopyObject": lambda store: store.copy("x", "y", if_match=None, headers=None),
    "CreateMultipartUpload": lambda store: store.create_multipart("x", PLAIN),
    "UploadPart": lambda store: store.upload_part(MultipartUpload("x", "u"), 1, b"x"),
    "UploadPartCopy": lambda store: store.copy_part(
        MultipartUpload("x", "u"), 1, "y", ByteRange(0, 1), if_match='"e"'
    ),
    "CompleteMultipartUpload": lambda store: store.complete_multipart(
        MultipartUpload("x", "u"), [PartTag(1, '"e"', 1)]
    ),
    "ListParts": lambda store: store.list_parts(MultipartUpload("x", "u")),
    "ListMultipartUploads": lambda store: store.list_multipart_uploads("x"),
    "HeadObject": lambda store: store.head("x"),
}


@pytest.mark.parametrize("operation", list(WORKS))
@pytest.mark.parametrize("body", [HTML, b"", b"<html/>"], ids=["a web page", "nothing", "XML"])
def test_a_meaningless_200_is_no_success(place: Place, operation: str, body: bytes) -> None:
    """A captive portal, say: no empty listing, no finished upload, no stored object."""
    store = place.open_store()

    async def work() -> None:
        await WORKS[operation](store)

    with place.proxy.rule(Answer(200, body)), pytest.raises(BadAnswer):
        trio.run(work)


@pytest.mark.parametrize("body", [HTML, b"", b"<html/>", b"<DeleteResult/>"])
def test_a_meaningless_deletion_deleted_nothing(place: Place, body: bytes) -> None:
    """Either an error, or every key is said to be left."""
    store = place.open_store()

    async def work() -> list[str]:
        return await store.delete_many(["a", "b"])

    with place.proxy.rule(Answer(200, body)):
        try:
            assert trio.run(work) == ["a", "b"]
        except BadAnswer:
            return


@pytest.mark.parametrize("operation", ["CopyObject", "CompleteMultipartUpload", "UploadPartCopy"])
def test_an_error_inside_a_200_is_an_error(place: Place, operation: str) -> None:
    """S3 answers so when a long copy fails after its headers were sent."""
    store = place.open_store(attempts=2)
    fault = Answer(
        200, b'<?xml version="1.0"?>\n<Error><Code>InternalError</Code><Message>m</Message></Error>'
    )

    async def work() -> None:
        await WORKS[operation](store)

    with place.proxy.rule(fault), pytest.raises(StoreUnavailable, match="InternalError"):
        trio.run(work)


def test_a_cut_off_listing_is_asked_for_again(place: Place) -> None:
    """botocore would take the half that came; a second request brings all of it."""
    put(place, "d/x", b"")
    store = place.open_store()
    with place.proxy.rule(Cut(after_bytes=100), last=1):
        page = trio.run(store.list_page, "d/")
    assert [one.key for one in page.objects] == ["d/x"]
    assert place.proxy.counts() == {"ListObjectsV2": 2}


def test_a_listing_is_read_up_to_a_bound(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless answer ends in an error, not in all of the memory."""
    monkeypatch.setattr("s3mount.store.hooks.MAX_ANSWER_BYTES", 10 * MIB)
    store = place.open_store(attempts=1)
    with place.proxy.rule(Answer(200, b" " * (11 * MIB))), pytest.raises(BadAnswer, match="more than"):
        trio.run(store.list_page, "d/")


def test_a_page_that_metadata_makes_unreadable_is_asked_for_without(place: Place) -> None:
    """MinIO makes XML elements of metadata names; one odd name does not make a directory unreadable."""
    client = place.server.client()
    client.put_object(Bucket=place.bucket, Key="d/x", Body=b"", Metadata={"odd!name": "v"})
    client.put_object(Bucket=place.bucket, Key="d/y", Body=b"", Metadata={"mode": "1"})
    client.close()
    store = place.open_store()
    page = trio.run(store.list_page, "d/")
    assert [(one.key, one.headers) for one in page.objects] == [("d/x", None), ("d/y", None)]
    assert [request.query.get("metadata") for request in place.proxy.requests()] == ["true", None]


def test_failures_are_never_absence(place: Place) -> None:
    """500, a dead connection and a refusal are errors of the store for HEAD, GET and LIST."""
    store = place.open_store(attempts=1)

    async def work() -> list[type[BaseException]]:
        kinds: list[type[BaseException]] = []
        for call in (store.head("x"), store.list_page("x/"), read(store, "x", 0, 1)):
            try:
                await call
            except Exception as exc:  # noqa: BLE001 - which one is what the test is about
                kinds.append(type(exc))
        return kinds

    for fault, expected in (
        (error(500, "InternalError"), StoreUnavailable),
        (Close(), NoAnswer),
        (error(403, "AccessDenied"), AccessDenied),
        (error(404, "NoSuchBucket"), NoSuchBucket),
    ):
        with place.proxy.rule(fault):
            kinds = trio.run(work)
        if fault == error(404, "NoSuchBucket"):
            # A HEAD has no body in which a missing bucket could be told from a missing key.
            assert kinds == [NotFound, expected, expected]
        else:
            assert kinds == [expected] * 3


# Writes


def test_an_answer_that_was_lost_is_asked_for_again(place: Place) -> None:
    """PUT is the same the second time."""
    store = place.open_store()
    with place.proxy.rule(DropAnswer(), last=1):
        trio.run(store.put, "x", b"body", PLAIN)
    assert place.proxy.counts() == {"PutObject": 2}
    assert trio.run(read, store, "x", 0, 4) == b"body"


def test_a_conditional_put_whose_answer_was_lost_is_a_success(place: Place, tmp_path: Path) -> None:
    """The second try meets the first one's object: one HEAD tells that it is ours."""
    content = os.urandom(2 * MIB)
    (tmp_path / "file").write_bytes(content)
    store = place.open_store()

    async def work(fd: int) -> None:
        with place.proxy.rule(DropAnswer(), operation="PutObject", last=1):
            made = await store.put("x", content, PLAIN, if_none_match=True)
        body = FileSlice(fd, ByteRange(7, MIB))
        with place.proxy.rule(DropAnswer(), operation="PutObject", last=1):
            changed = await store.put("x", body, PLAIN, if_match=made.etag)
        assert changed.etag == (await store.head("x")).etag

    with (tmp_path / "file").open("rb") as file:
        trio.run(work, file.fileno())
    assert place.proxy.counts() == {"PutObject": 4, "HeadObject": 3}
    assert trio.run(read, store, "x", 0, MIB - 7) == content[7:MIB]


def test_anothers_object_is_not_taken_for_ours(place: Place) -> None:
    """A retry that meets other bytes, of the same length too, has lost."""
    store = place.open_store()
    for other in (b"other", b"other bytes"):
        put(place, "x", other)
        with place.proxy.rule(Close(), operation="PutObject", last=1), pytest.raises(ConditionFailed):
            trio.run(functools.partial(store.put, "x", b"bytes", PLAIN, if_none_match=True))


@pytest.mark.parametrize("condition", [{}, {"if_none_match": True}], ids=repr)
def test_a_finished_upload_whose_answer_was_lost_is_a_success(place: Place, condition: Any) -> None:
    """The second try does not find the upload: one HEAD tells that the object is made of its parts."""
    store = place.open_store()

    async def work() -> None:
        upload = await store.create_multipart("x", PLAIN)
        parts = [
            await store.upload_part(upload, 1, b"a" * 5 * MIB),
            await store.upload_part(upload, 2, b"b"),
        ]
        with place.proxy.rule(DropAnswer(), operation="CompleteMultipartUpload", last=1):
            answer = await store.complete_multipart(upload, parts, **condition)
        assert answer.etag == (await store.head("x")).etag

    trio.run(work)
    assert place.proxy.counts()["CompleteMultipartUpload"] == 2


def test_an_upload_that_was_aborted_is_no_success(place: Place) -> None:
    """Also where a retry finds it gone, and an object of another making in place."""
    store = place.open_store()
    put(place, "x", b"part")

    async def work() -> None:
        upload = await store.create_multipart("x", PLAIN)
        part = await store.upload_part(upload, 1, b"part")
        await store.abort_multipart(upload)
        with place.proxy.rule(Close(), operation="CompleteMultipartUpload", last=1):
            await store.complete_multipart(upload, [part])

    with pytest.raises(NotFound):
        trio.run(work)


def test_a_file_is_sent_again_from_its_beginning(place: Place, tmp_path: Any) -> None:
    """A retry sends all bytes of the slice."""
    content = os.urandom(2 * MIB)
    path = tmp_path / "file"
    path.write_bytes(content)
    store = place.open_store()
    with path.open("rb") as file, place.proxy.rule(error(500, "InternalError"), last=1):
        trio.run(store.put, "x", FileSlice(file.fileno(), ByteRange(5, 2 * MIB)), PLAIN)
    assert trio.run(read, store, "x", 0, 2 * MIB - 5) == content[5:]


def test_a_small_file_is_one_request(place: Place) -> None:
    """A PUT is a PUT: nothing before it, nothing after it."""
    store = place.open_store()
    trio.run(store.put, "x", b"body", PLAIN)
    assert place.proxy.counts() == {"PutObject": 1}
    assert "x-amz-checksum-crc32" in place.proxy.requests()[0].headers


def test_a_server_that_refuses_checksums_gets_none(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """The refused request succeeds without, one WARNING says so, and the next one has none at once."""
    store = place.open_store(attempts=1)
    with place.proxy.rule(error(501, "NotImplemented"), operation="PutObject", last=1):
        with caplog.at_level(logging.WARNING):
            trio.run(store.put, "x", b"body", PLAIN)
        trio.run(store.put, "y", b"body", PLAIN)
    sent = ["x-amz-checksum-crc32" in request.headers for request in place.proxy.requests()]
    assert sent == [True, False, False]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_refusal_that_has_nothing_to_do_with_checksums_changes_nothing(place: Place) -> None:
    """Without them the request fails too: the first error is raised, and checksums stay."""
    store = place.open_store(attempts=1)
    with (
        place.proxy.rule(error(400, "InvalidRequest"), operation="PutObject"),
        pytest.raises(StoreError, match="InvalidRequest"),
    ):
        trio.run(store.put, "x", b"body", PLAIN)
    trio.run(store.put, "x", b"body", PLAIN)
    sent = ["x-amz-checksum-crc32" in request.headers for request in place.proxy.requests()]
    assert sent == [True, False, True]


def test_checksums_that_were_asked_for_stay(place: Place) -> None:
    """With checksums=crc32 a refusal is an error; with when-required there are none to refuse."""
    store = place.open_store(attempts=1, checksums="crc32")
    with (
        place.proxy.rule(error(501, "NotImplemented"), operation="PutObject", last=1),
        pytest.raises(NotSupported),
    ):
        trio.run(store.put, "x", b"body", PLAIN)
    trio.run(place.open_store(checksums="when-required").put, "x", b"body", PLAIN)
    sent = ["x-amz-checksum-crc32" in request.headers for request in place.proxy.requests()]
    assert sent == [True, False]


def test_keys_that_a_deletion_denies_are_left(place: Place) -> None:
    """Each key's own answer counts; denied for all is an error of its own."""
    store = place.open_store()
    denied = "<Error><Key>{}</Key><Code>AccessDenied</Code><Message>m</Message></Error>"
    gone = "<Error><Key>c</Key><Code>NoSuchKey</Code><Message>m</Message></Error>"
    one = f"<DeleteResult><Deleted><Key>a</Key></Deleted>{denied.format('b')}{gone}</DeleteResult>"
    both = f"<DeleteResult>{denied.format('a')}{denied.format('b')}</DeleteResult>"
    with place.proxy.rule(Answer(200, one.encode())):
        assert trio.run(store.delete_many, ["a", "b", "c"]) == ["b"]
    with place.proxy.rule(Answer(200, both.encode())), pytest.raises(AccessDenied):
        trio.run(store.delete_many, ["a", "b"])


# Time and cancellation


def test_a_cancelled_read_returns_at_once_and_frees_its_connection(place: Place) -> None:
    """The reader is gone before the server answers, and so is, soon, the thread that read for it."""
    put(place, "x", b"0123456789")
    store = place.open_store(connections=Connections(1, 1, 1, 1))
    hold = Hold()

    async def work() -> float:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read, store, "x", 0, 10)
                await trio.to_thread.run_sync(hold.wait_held)
                began = trio.current_time()
                scope.cancel()
        return trio.current_time() - began

    with place.proxy.rule(hold, last=1):
        assert trio.run(work) < 1
        hold.release()


def test_a_read_that_drips_ends_at_the_deadline(place: Place) -> None:
    """A byte now and then never ends a read timeout; and the one connection is free again at once."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                head = 'HTTP/1.1 206 x\r\nETag: "e"\r\nContent-Range: bytes 0-99999/100000\r\n'
                connection.sendall(head.encode() + b"Content-Length: 100000\r\n\r\n")
                try:
                    while not stop.wait(0.05):
                        connection.sendall(b"x")
                except OSError:
                    continue

    server = threading.Thread(target=drip, daemon=True)
    server.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    store = place.open_store(endpoint_url=url, deadline_s=0.5, connections=Connections(1, 1, 1, 1))

    async def work() -> None:
        for _ in range(2):
            with pytest.raises(StoreTimeout, match=r"within 0\.7 s"):
                await read(store, "x", 0, 100_000, '"e"')
        # The thread that was left behind holds the one token until it ends.
        began = time.monotonic()
        store_ = store._inner
        while store_._get_limiter.borrowed_tokens:  # type: ignore[attr-defined]
            assert time.monotonic() - began < 5, "the thread reads on"
            await trio.sleep(0.01)

    try:
        trio.run(work)
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        server.join(10)


def test_hints_do_not_delay_a_waiting_reader(place: Place) -> None:
    """All background connections may be stuck, and a read goes through."""
    put(place, "x", b"0123456789")
    put(place, "y", b"0123456789")
    store = place.open_store(connections=Connections(1, 2, 1, 1))
    hold = Hold()

    async def hint() -> None:
        buffer = memoryview(bytearray(10))
        await store.get_into("x", ByteRange(0, 10), buffer, if_match=None, background=True)

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(hint)
            await trio.to_thread.run_sync(hold.wait_held)
            with trio.fail_after(5):
                assert await read(store, "y", 0, 10) == b"0123456789"
            hold.release()

    with place.proxy.rule(hold, key="x"):
        trio.run(work)


def test_writes_are_not_left_behind(place: Place) -> None:
    """A cancelled PUT ends first: nobody would know what a lost one did."""
    store = place.open_store()
    hold = Hold()

    async def work() -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.put, "x", b"body", PLAIN)
                await trio.to_thread.run_sync(hold.wait_held)
                scope.cancel()
                hold.release()

    with place.proxy.rule(hold):
        trio.run(work)
    assert [request.status for request in place.proxy.requests()] == [200]


@pytest.mark.parametrize("is_file", [True, False], ids=["file", "bytes"])
def test_bytes_that_go_out_are_seen_before_the_answer(place: Place, tmp_path: Path, is_file: bool) -> None:
    """A large part on a slow line moves; what was sent before a failure was sent as well."""
    store = place.open_s3(attempts=2)
    body: bytes | FileSlice = os.urandom(5 * MIB)
    if is_file:
        path = tmp_path / "data"
        path.write_bytes(os.urandom(5 * MIB))
        body = FileSlice(os.open(path, os.O_RDONLY), ByteRange(0, 5 * MIB))
    hold = Hold()

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.put, "x", body, PLAIN)
            await trio.to_thread.run_sync(hold.wait_held)
            assert store.sending().wire_bytes > 2 * 5 * MIB
            assert sum(one.sent_bytes for one in store.requests().counts) == 0
            hold.release()
        assert 2 * 5 * MIB < store.sending().wire_bytes < 2 * 5 * MIB + 64 * 1024

    assert store.sending() == Sending()
    with place.proxy.rule(DropAnswer(), last=1), place.proxy.rule(hold, first=2):
        trio.run(work)
    if isinstance(body, FileSlice):
        os.close(body.fd)
