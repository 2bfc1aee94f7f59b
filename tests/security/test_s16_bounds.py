"""What a server sends has bounds: headers, bodies, elements, entities, pages; and no redirect is followed."""

from __future__ import annotations

import gzip
import re
import socket
import threading
from typing import Any

import pytest
import trio

from s3mount.errors import BadAnswer, FsError, NotFound, StoreError
from s3mount.store.hooks import MAX_ANSWER_BYTES
from tests.security.calls import CALLS, WITHOUT_BODY
from tests.store.conftest import Place
from tests.support.fault_actions import Answer, Endless
from tests.support.lying_server import listening

MIB = 1024 * 1024


def fails(place: Place, operation: str, error: type[FsError] = StoreError, **options: Any) -> FsError:
    """Return the error that *operation* ends with."""

    async def work() -> None:
        await CALLS[operation](place.open_store(**options))

    with pytest.raises(error) as caught:
        trio.run(work)
    assert not isinstance(caught.value, NotFound)
    return caught.value


def resident_peak() -> int:
    """Return the largest resident size of this process since :func:`forget_peak`, in bytes."""
    with open("/proc/self/status", encoding="ascii") as file:
        found = re.search(r"VmHWM:\s+(\d+) kB", file.read())
    assert found is not None
    return int(found[1]) * 1024


def forget_peak() -> int:
    """Begin anew to note the largest resident size; return it as it is now."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    return resident_peak()


@pytest.mark.parametrize("operation", CALLS)
def test_s16_endless_headers_end(place: Place, operation: str) -> None:
    """After a bounded number of them."""
    with place.proxy.rule(Endless(of="head")):
        fails(place, operation, attempts=1)
    assert place.proxy.counts() == {operation: 1}


@pytest.mark.parametrize("operation", WITHOUT_BODY)
def test_s16_an_endless_body_ends(place: Place, operation: str) -> None:
    """A gigabyte of XML, or more: no more of it is read than the largest answer has, and it is not kept."""
    before = forget_peak()
    with place.proxy.rule(Endless(piece=b"<Contents>" * 6000)):
        fails(place, operation, BadAnswer, attempts=1)
    assert resident_peak() - before < 2 * MAX_ANSWER_BYTES + 32 * MIB
    for request in place.proxy.requests():
        assert request.bytes_out < MAX_ANSWER_BYTES + 16 * MIB


def test_s16_an_endless_object_ends(place: Place) -> None:
    """Nothing is read beyond the range that was asked for."""
    headers = {"ETag": '"e"', "Content-Range": "bytes 2-5/10"}
    with place.proxy.rule(Endless(status=206, headers=headers)):
        fails(place, "GetObject", BadAnswer)
    assert place.proxy.requests()[0].bytes_out < 16 * MIB


@pytest.mark.parametrize("operation", ["ListObjectsV2", "ListParts", "DeleteObjects", "CopyObject"])
@pytest.mark.parametrize(
    "body",
    [
        b"<a>" * 5_000_000,
        b"<ListBucketResult>" + b"<a/>" * 5_000_000 + b"</ListBucketResult>",
        b"<ListBucketResult a='" + b"x" * 20_000_000 + b"'/>",
    ],
    ids=["deep", "wide", "long"],
)
def test_s16_xml_of_millions_of_elements_is_not_built(place: Place, operation: str, body: bytes) -> None:
    """Each would take a hundred times the bytes that it came in."""
    before = forget_peak()
    with place.proxy.rule(Answer(200, body)):
        try:
            fails(place, operation, attempts=1)
        except pytest.fail.Exception:
            # A deletion that accounts for no key is no error, and no deletion either.
            assert operation == "DeleteObjects"
    assert resident_peak() - before < 256 * MIB


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + "]><{root}><IsTruncated>false</IsTruncated><Name>&j;</Name></{root}>"
)
ROOTS = {
    "ListObjectsV2": "ListBucketResult",
    "ListParts": "ListPartsResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "CopyObject": "CopyObjectResult",
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
}


@pytest.mark.parametrize("operation", ROOTS)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_s16_entities_are_not_expanded(place: Place, operation: str, status: int) -> None:
    """Ten billion letters in a kilobyte."""
    before = forget_peak()
    body = BOMB.replace("{root}", ROOTS[operation] if status == 200 else "Error").encode()
    with place.proxy.rule(Answer(status, body)):
        fails(place, operation, BadAnswer, attempts=1)
    assert resident_peak() - before < 64 * MIB


@pytest.mark.parametrize("operation", ["ListObjectsV2", "CopyObject"])
def test_s16_a_compressed_answer_is_not_unpacked(place: Place, operation: str) -> None:
    """Nobody asked for one, and a gigabyte is a megabyte of it."""
    packed = gzip.compress(b" " * (256 * MIB), compresslevel=1)
    before = forget_peak()
    with place.proxy.rule(Answer(200, packed, {"Content-Encoding": "gzip"})):
        fails(place, operation, attempts=1)
    assert resident_peak() - before < 64 * MIB


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        (
            "ListParts",
            "<ListPartsResult><UploadId>upload-id</UploadId><IsTruncated>true</IsTruncated>"
            "<NextPartNumberMarker>1</NextPartNumberMarker></ListPartsResult>",
        ),
        (
            "ListMultipartUploads",
            "<ListMultipartUploadsResult><Bucket>b</Bucket><IsTruncated>true</IsTruncated>"
            "<NextKeyMarker>d/x</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>"
            "</ListMultipartUploadsResult>",
        ),
    ],
)
def test_s16_pages_that_do_not_advance_end(place: Place, operation: str, body: str) -> None:
    """After the second of the same."""
    with place.proxy.rule(Answer(200, body.encode())):
        fails(place, operation, BadAnswer, attempts=1)
    assert place.proxy.counts() == {operation: 2}


REDIRECTS = {
    "moved": (301, {}, b""),
    "another region": (301, {"x-amz-bucket-region": "eu-west-1"}, b""),
    "another region, in words": (
        301,
        {"x-amz-bucket-region": "eu-west-1"},
        b"<Error><Code>PermanentRedirect</Code><Endpoint>{host}</Endpoint><Bucket>b</Bucket></Error>",
    ),
    "another region's signature": (
        400,
        {},
        b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>",
    ),
    "found": (302, {}, b""),
    "see other": (303, {}, b""),
    "temporarily": (
        307,
        {},
        b"<Error><Code>TemporaryRedirect</Code><Endpoint>{host}</Endpoint></Error>",
    ),
    "permanently": (308, {}, b""),
}


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("redirect", REDIRECTS)
def test_s16_no_redirect_is_followed(place: Place, operation: str, redirect: str) -> None:
    """Another host would get a signature, and perhaps the bytes; and two requests are all it takes."""
    calls: list[str] = []

    def canary(connection: socket.socket, _: threading.Event) -> None:
        calls.append(repr(connection.getpeername()))

    status, headers, body = REDIRECTS[redirect]
    with listening(canary) as url:
        host = url.removeprefix("http://")
        answer = Answer(
            status, body.replace(b"{host}", host.encode()), {"Location": f"{url}/bucket/d/x", **headers}
        )
        with place.proxy.rule(answer):
            fails(place, operation)
    assert calls == []
    assert sum(place.proxy.counts().values()) <= 2
