"""Answers are not believed: each lie that a server, or who answers in its place, can tell about an object.

What is lied about a range, a part, or an upload is in tests/store/test_checked.py as well, without a server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio

from s3mount.core.objects import ByteRange
from s3mount.errors import BadAnswer, FsError, NotFound, StoreError, StoreUnavailable
from s3mount.store.checked import CheckedStore
from s3mount.store.client import ClientOptions, build_client
from s3mount.store.s3 import S3Store
from tests.security.calls import CALLS, PLAIN, WITHOUT_BODY
from tests.store.conftest import Place
from tests.support.counting_proxy import CountingProxy
from tests.support.fault_actions import Answer, FlipByte, Headers, Shorten, Status
from tests.support.servers import Server

BODY = b"0123456789"
HTML = b"<!DOCTYPE html><html><body><p>Please log in.</p></body></html>"
ERROR = b'<?xml version="1.0"?>\n<Error><Code>InternalError</Code><Message>no</Message></Error>'
DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
TOLD = [operation for operation in CALLS if operation != "DeleteObjects"]
"""Whose answer is a success or none; a deletion of many has an answer for each key, and tests of its own."""


def run(place: Place, call: Callable[[CheckedStore], Awaitable[Any]]) -> Any:
    """Make *call* through the proxy."""

    async def work() -> Any:
        return await call(store)

    store = place.open_store(attempts=2)
    return trio.run(work)


def stored(place: Place, key: str = "d/x", body: bytes = BODY) -> str:
    """Store an object past the proxy; return its ETag."""
    client = place.server.client()
    etag: str = client.put_object(Bucket=place.bucket, Key=key, Body=body)["ETag"]
    client.close()
    return etag


# Every operation


@pytest.mark.parametrize("operation", TOLD)
@pytest.mark.parametrize(
    "body", [HTML, b"", b"<html/>", b"{}", b"\x00\xff" * 50], ids=["html", "nothing", "xml", "json", "bytes"]
)
def test_s15_a_meaningless_200_is_no_success(place: Place, operation: str, body: bytes) -> None:
    """No object, no absence, no empty listing, no finished upload, no deletion."""
    with place.proxy.rule(Answer(200, body)), pytest.raises((BadAnswer, StoreUnavailable)):
        run(place, CALLS[operation])


@pytest.mark.parametrize("operation", [one for one in WITHOUT_BODY if one in TOLD])
def test_s15_an_error_in_a_200_is_no_success(place: Place, operation: str) -> None:
    """S3 itself answers so when it fails late; a GET of such bytes may be an object of them."""
    answer = Answer(200, ERROR, {"Content-Type": "application/xml"})
    with place.proxy.rule(answer), pytest.raises((StoreUnavailable, BadAnswer)):
        run(place, CALLS[operation])
    assert place.proxy.counts()[operation] <= 4


@pytest.mark.parametrize("operation", TOLD)
@pytest.mark.parametrize("status", [201, 202, 203, 205, 304, 404, 410])
def test_s15_another_status_is_neither_success_nor_absence(place: Place, operation: str, status: int) -> None:
    """A 404 with a web page is no "not found", but for a HEAD, whose answer has no page."""
    answer = Answer(status, b"" if status in (205, 304) else HTML, {"Content-Type": "text/html"})
    with place.proxy.rule(answer), pytest.raises(FsError) as caught:
        run(place, CALLS[operation])
    if not (status == 404 and operation == "HeadObject"):
        assert not isinstance(caught.value, NotFound)


@pytest.mark.parametrize(
    "body", [HTML, b"", b"<html/>", ERROR, b"<DeleteResult/>", b"<DeleteResult><Deleted/></DeleteResult>"]
)
def test_s15_a_deletion_of_many_accounts_for_each_key(place: Place, body: bytes) -> None:
    """A key that the answer does not name as deleted is not deleted."""
    with place.proxy.rule(Answer(200, body)), suppress(StoreUnavailable, BadAnswer):
        assert run(place, lambda store: store.delete_many(["d/a", "d/b"])) == ["d/a", "d/b"]


def test_s15_a_deletion_of_others_is_not_believed(place: Place) -> None:
    """What was not asked for does not count."""
    answer = Answer(200, b"<DeleteResult><Deleted><Key>d/other</Key></Deleted></DeleteResult>")
    with place.proxy.rule(answer):
        assert run(place, lambda store: store.delete_many(["d/a"])) == ["d/a"]


# GET


def get_of(body: bytes, etag: str | None, status: int = 206, **headers: str) -> Answer:
    """Return an answer to a GET of bytes 2 to 6 of ten."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, body, named if etag is None else {"ETag": etag, **named})


GOOD = "bytes 2-5/10"


@pytest.mark.parametrize(
    "make",
    {
        "the whole object": lambda etag: get_of(BODY, etag, 200),
        "a 200 of the right length": lambda etag: get_of(b"2345", etag, 200),
        "another range": lambda etag: get_of(b"3456", etag, Content_Range="bytes 3-6/10"),
        "a shorter range": lambda etag: get_of(b"234", etag, Content_Range="bytes 2-4/10"),
        "a longer range": lambda etag: get_of(b"23456", etag, Content_Range="bytes 2-6/10"),
        "a backward range": lambda etag: get_of(b"2345", etag, Content_Range="bytes 5-2/10"),
        "no range": lambda etag: get_of(b"2345", etag),
        "a range of nothing": lambda etag: get_of(b"2345", etag, Content_Range="bytes */10"),
        "a range in words": lambda etag: get_of(b"2345", etag, Content_Range="bytes two-five/ten"),
        "a negative range": lambda etag: get_of(b"2345", etag, Content_Range="bytes -2-5/10"),
        "items": lambda etag: get_of(b"2345", etag, Content_Range="items 2-5/10"),
        "an object too short": lambda etag: get_of(b"2345", etag, Content_Range="bytes 2-5/4"),
        "more bytes": lambda etag: get_of(b"23456", etag, Content_Range=GOOD),
        "another version": lambda etag: get_of(b"2345", '"other"', Content_Range=GOOD),
        "no ETag": lambda etag: get_of(b"2345", None, Content_Range=GOOD),
        "an empty ETag": lambda etag: get_of(b"2345", '""', Content_Range=GOOD),
        "no bytes": lambda etag: get_of(b"", etag, Content_Range=GOOD),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_s15_a_get_of_something_else_is_no_data(place: Place, make: Any) -> None:
    """Not a byte of it is handed on."""
    etag = stored(place)

    async def read(store: CheckedStore) -> None:
        await store.get_into("d/x", ByteRange(2, 6), memoryview(bytearray(4)), if_match=etag)

    with place.proxy.rule(make[1](etag)), pytest.raises(BadAnswer):
        run(place, read)


@pytest.mark.parametrize("length", ["3", "5", "-4", "100000000000000000000", "four", ""])
def test_s15_a_get_of_another_length_is_no_data(place: Place, length: str) -> None:
    """Also where the range is the right one."""
    etag = stored(place)
    with (
        place.proxy.rule(Headers({"Content-Length": length}), operation="GetObject"),
        pytest.raises(StoreError),
    ):
        run(place, CALLS["GetObject"])
    assert etag


def test_s15_a_get_that_ends_early_is_no_data(place: Place) -> None:
    """With a length that fits what came."""
    stored(place)
    with place.proxy.rule(Shorten(2), operation="GetObject"), pytest.raises(StoreError):
        run(place, CALLS["GetObject"])


def test_s15_a_flipped_bit_in_an_object_is_seen(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all of an object is read in one request: once more, then EIO, never the wrong bytes."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    content = bytes(range(256)) * 100

    async def work(proxy: CountingProxy, store: CheckedStore) -> None:
        async def read() -> bytes:
            buffer = bytearray(len(content))
            span = ByteRange(0, len(content))
            await store.get_into("x", span, memoryview(buffer), if_match=None, is_whole=True)
            return bytes(buffer)

        await store.put("x", content, PLAIN)
        proxy.clear()
        with proxy.rule(FlipByte(seed=1), operation="GetObject", last=1):
            assert await read() == content
        assert proxy.counts() == {"GetObject": 2}
        with proxy.rule(FlipByte(seed=2), operation="GetObject"), pytest.raises(BadAnswer, match="CRC32"):
            await read()
        assert proxy.counts() == {"GetObject": 4}

    with CountingProxy(server.endpoint_url) as proxy:
        options = ClientOptions(server.fresh_bucket(), endpoint_url=proxy.endpoint_url)
        s3 = S3Store(build_client(options), options)
        trio.run(work, proxy, CheckedStore(s3))
        s3.close()


def test_s15_a_flipped_bit_in_an_upload_is_refused(place: Place) -> None:
    """The server compares the CRC32 that was sent along."""
    flip = FlipByte(of="request", position=2)
    with place.proxy.rule(flip, operation="PutObject"), pytest.raises(StoreError):
        run(place, lambda store: store.put("d/new", b"0123456789" * 10, PLAIN))
    client = place.server.client()
    assert client.list_objects_v2(Bucket=place.bucket, Prefix="d/new")["KeyCount"] == 0
    client.close()


# HEAD


@pytest.mark.parametrize(
    "changes",
    [
        {"Content-Length": None},
        {"Content-Length": "-1"},
        {"Content-Length": "100000000000000000000"},
        {"Content-Length": "ten"},
        {"ETag": None},
        {"ETag": ""},
        {"ETag": '""'},
    ],
    ids=repr,
)
def test_s15_a_head_without_length_or_etag_is_no_file(place: Place, changes: dict[str, Any]) -> None:
    """Neither a file of no bytes nor an absent one."""
    stored(place)
    with place.proxy.rule(Headers(changes), operation="HeadObject"), pytest.raises(StoreError) as caught:
        run(place, CALLS["HeadObject"])
    assert not isinstance(caught.value, NotFound)


def test_s15_a_head_that_is_answered_with_an_error_is_no_absence(place: Place) -> None:
    """Whatever it is, but 404."""
    stored(place)
    for status in (400, 402, 409, 418, 451, 500, 501, 502, 504, 599):
        with place.proxy.rule(Status(status), operation="HeadObject"), pytest.raises(FsError) as caught:
            run(place, CALLS["HeadObject"])
        assert not isinstance(caught.value, NotFound)


# LIST


def listing(entries: str = "", *, top: str = "", root: str = "ListBucketResult", bucket: str = "") -> bytes:
    """Return a listing; *top* may repeat, and so replace, what every listing says."""
    said = {
        "Name": bucket,
        "Prefix": "d/",
        "KeyCount": str(entries.count("<Contents>") + entries.count("<CommonPrefixes>")),
        "MaxKeys": "1000",
        "IsTruncated": "false",
    }
    fields = "".join(f"<{name}>{text}</{name}>" for name, text in said.items() if f"<{name}" not in top)
    return f'<?xml version="1.0" encoding="UTF-8"?><{root}>{fields}{top}{entries}</{root}>'.encode()


def entry(
    key: str = "d/x", size: str = "10", etag: str = '"e"', time: str = "2026-10-21T07:28:00.000Z"
) -> str:
    """Return one key."""
    fields = {"Key": key, "LastModified": time, "ETag": etag.replace('"', "&quot;"), "Size": size}
    inner = "".join(f"<{name}>{text}</{name}>" for name, text in fields.items())
    return f"<Contents>{inner}</Contents>"


def test_s15_a_true_listing_passes(place: Place) -> None:
    """What the lies below are made of is no lie."""
    with place.proxy.rule(Answer(200, listing(entry(), bucket=place.bucket))):
        page = run(place, CALLS["ListObjectsV2"])
    assert [(one.key, one.size) for one in page.objects] == [("d/x", 10)]


LISTINGS: dict[str, Callable[[str], bytes]] = {
    "another document": lambda bucket: listing(bucket=bucket, root="ListAllMyBucketsResult"),
    "another bucket": lambda bucket: listing(entry(), bucket="other"),
    "another bucket, empty": lambda bucket: listing(bucket="other"),
    "nobody's, empty": lambda bucket: listing(top="<Name></Name>"),
    "another prefix": lambda bucket: listing(top="<Prefix>e/</Prefix>", bucket=bucket),
    "fewer entries than it says": lambda bucket: listing(top="<KeyCount>7</KeyCount>", bucket=bucket),
    "more entries than it says": lambda bucket: listing(entry(), top="<KeyCount>0</KeyCount>", bucket=bucket),
    "a negative number of entries": lambda bucket: listing(top="<KeyCount>-1</KeyCount>", bucket=bucket),
    "a number in words": lambda bucket: listing(entry(), top="<KeyCount>one</KeyCount>", bucket=bucket),
    "cut off without a token": lambda bucket: listing(
        entry(), top="<IsTruncated>true</IsTruncated>", bucket=bucket
    ),
    "neither whole nor cut off": lambda bucket: listing(
        entry(), top="<IsTruncated>maybe</IsTruncated>", bucket=bucket
    ),
    "no word of being whole": lambda bucket: listing(entry(), bucket=bucket).replace(
        b"<IsTruncated>false</IsTruncated>", b""
    ),
    "a key of another directory": lambda bucket: listing(entry("e/x"), bucket=bucket),
    "a key of no bytes": lambda bucket: listing(entry(""), bucket=bucket),
    "a prefix of another directory": lambda bucket: listing(
        "<CommonPrefixes><Prefix>e/f/</Prefix></CommonPrefixes>", bucket=bucket
    ),
    "a prefix without a slash": lambda bucket: listing(
        "<CommonPrefixes><Prefix>d/f</Prefix></CommonPrefixes>", bucket=bucket
    ),
    "the directory in itself": lambda bucket: listing(
        "<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>", bucket=bucket
    ),
    "a negative size": lambda bucket: listing(entry(size="-1"), bucket=bucket),
    "a size of 10^20": lambda bucket: listing(entry(size="1" + "0" * 20), bucket=bucket),
    "a size in words": lambda bucket: listing(entry(size="ten"), bucket=bucket),
    "a size of no digits": lambda bucket: listing(entry(size=""), bucket=bucket),
    "no ETag": lambda bucket: listing(entry(etag=""), bucket=bucket),
    "no time": lambda bucket: listing(entry(time=""), bucket=bucket),
    "the year 10000": lambda bucket: listing(entry(time="10000-01-01T00:00:00Z"), bucket=bucket),
    "1,001 keys": lambda bucket: listing(
        "".join(entry(f"d/{number}") for number in range(1001)), bucket=bucket
    ),
    "a half": lambda bucket: listing(entry(), bucket=bucket)[:-30],
    "two": lambda bucket: listing(entry(), bucket=bucket) * 2,
}


@pytest.mark.parametrize("lie", LISTINGS)
def test_s15_a_listing_that_cannot_be_true_is_no_directory(place: Place, lie: str) -> None:
    """Neither an empty one nor a part of one."""
    answer = Answer(200, LISTINGS[lie](place.bucket))
    # What is no XML counts as broken off on the way.
    with place.proxy.rule(answer), pytest.raises((BadAnswer, StoreUnavailable)):
        run(place, CALLS["ListObjectsV2"])


def test_s15_a_token_that_does_not_change_is_no_next_page(place: Place) -> None:
    """A listing that goes round in a circle does not end."""
    top = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    with place.proxy.rule(Answer(200, listing(entry(), top=top, bucket=place.bucket))):
        assert run(place, CALLS["ListObjectsV2"]).next_token == "t"
        with pytest.raises(BadAnswer, match="for ever"):
            run(place, lambda store: store.list_page("d/", token="t"))


# Uploads


@pytest.mark.parametrize("operation", ["PutObject", "UploadPart"])
@pytest.mark.parametrize("etag", [None, "", '""'])
def test_s15_a_write_without_an_etag_is_not_done(place: Place, operation: str, etag: str | None) -> None:
    """A proxy that answers 200 to everything has stored nothing."""
    with place.proxy.rule(Answer(200, b"", {} if etag is None else {"ETag": etag})), pytest.raises(BadAnswer):
        run(place, CALLS[operation])


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("CopyObject", "<CopyObjectResult></CopyObjectResult>"),
        ("CopyObject", '<CopyObjectResult><ETag>""</ETag></CopyObjectResult>'),
        ("UploadPartCopy", "<CopyPartResult></CopyPartResult>"),
        ("CompleteMultipartUpload", "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"),
        ("CreateMultipartUpload", "<InitiateMultipartUploadResult></InitiateMultipartUploadResult>"),
        ("ListParts", "<ListPartsResult><UploadId>other</UploadId></ListPartsResult>"),
        (
            "ListParts",
            "<ListPartsResult><UploadId>upload-id</UploadId><Part><PartNumber>1</PartNumber><Size>-1</Size>"
            "<ETag>e</ETag></Part></ListPartsResult>",
        ),
        (
            "ListParts",
            "<ListPartsResult><UploadId>upload-id</UploadId><IsTruncated>true</IsTruncated>"
            "<NextPartNumberMarker>0</NextPartNumberMarker></ListPartsResult>",
        ),
        (
            "ListMultipartUploads",
            "<ListMultipartUploadsResult><Bucket>b</Bucket><Upload><Key>e/x</Key><UploadId>u</UploadId>"
            "</Upload></ListMultipartUploadsResult>",
        ),
        (
            "ListMultipartUploads",
            "<ListMultipartUploadsResult><Bucket>b</Bucket><IsTruncated>true</IsTruncated>"
            "</ListMultipartUploadsResult>",
        ),
    ],
)
def test_s15_a_result_that_lacks_what_it_is_for_is_none(place: Place, operation: str, body: str) -> None:
    """Well-formed, and yet nothing was done."""
    with place.proxy.rule(Answer(200, body.encode())), pytest.raises(BadAnswer):
        run(place, CALLS[operation])
