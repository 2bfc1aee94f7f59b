"""What botocore does differently for us: bounded answers, no redirects, a fast LIST.

Three of its habits are dangerous here: it reads an answer of any length into memory and takes a short
one for whole, it follows redirects (a 307 costs 81 requests), and it takes 57 ms of processor time for
1,000 listed keys.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from urllib3.exceptions import HTTPError
from urllib3.exceptions import ReadTimeoutError as PoolReadTimeoutError

from s3mount.core.objects import ListPage
from s3mount.errors import BadAnswer
from s3mount.store.exchange import current_exchange
from s3mount.store.listing_xml import parse_list_page

# 1,000 keys of 1,024 bytes, percent-encoded, each with S3's 2 KiB of metadata and its tags, is 10 MiB.
MAX_ANSWER_BYTES = 32 * 1024 * 1024
# An element is four bytes on the way and a hundred in memory. A listing has 50 for each key at most.
MAX_TAGS = 1_000_000
READ_BYTES = 1024 * 1024
PAGE_FIELD = "S3MountPage"
_EMPTY_LISTING = b"<ListBucketResult/>"

#: S3 says 204 when it has done these, and botocore takes any 200 for it, a proxy's login page too.
_ANSWERED_WITH_NOTHING = ("DeleteObject", "AbortMultipartUpload")

_listing = threading.local()


@contextmanager
def metadata_in_list(wanted: bool) -> Iterator[None]:
    """While the block runs, LISTs of this thread ask for MinIO's metadata (other servers ignore it)."""
    _listing.metadata = wanted
    try:
        yield
    finally:
        _listing.metadata = False


def page_of(answer: dict[str, Any]) -> ListPage:
    """Return what :func:`install_hooks` put into the answer to ListObjectsV2."""
    page = answer[PAGE_FIELD]
    assert isinstance(page, ListPage)
    return page


def install_hooks(client: Any) -> None:
    """Register the hooks on a fresh S3 client."""
    events = client.meta.events
    http_session = client._endpoint.http_session

    def send(request: Any, **_: Any) -> AWSResponse:
        return _send_bounded(http_session, request)

    events.register("before-send.s3", send)
    events.register("before-call.s3", _never_redirect)
    events.register("before-sign.s3.ListObjectsV2", _ask_for_metadata)
    events.register("before-parse.s3.ListObjectsV2", _parse_listing)
    for operation in _ANSWERED_WITH_NOTHING:
        events.register(f"before-parse.s3.{operation}", _need_204)


class _Bytes:
    """A body that has been read, in the one form that AWSResponse takes it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> Iterator[bytes]:
        yield self._body


def _send_bounded(http_session: Any, request: Any) -> AWSResponse:
    """Send *request*; read all of the answer unless it is an object's body, but not more than the cap."""
    streams = request.stream_output
    request.stream_output = True
    answer = http_session.send(request)
    length = answer.headers.get("content-length")
    if length is not None and not (length.isascii() and length.isdigit()):
        answer.raw.close()
        raise BadAnswer(f"the server answered with a Content-Length of {length[:40]!r}")
    if streams and answer.status_code < 300:
        exchange = current_exchange()
        if exchange is not None:
            exchange.closes(answer.raw)
        return answer
    body = _read_all(answer, request)
    return AWSResponse(answer.url, answer.status_code, answer.headers, _Bytes(body))


def _read_all(answer: AWSResponse, request: Any) -> bytes:
    raw = answer.raw
    announced = None if request.method == "HEAD" else answer.headers.get("content-length")
    try:
        body = _read_bounded(raw)
        if announced is not None and announced != str(len(body)):
            raise OSError(f"{len(body)} of {announced} bytes arrived")
    except BadAnswer:
        raw.close()
        raise
    except PoolReadTimeoutError as exc:
        raw.close()
        raise ReadTimeoutError(endpoint_url=request.url, error=exc) from exc
    except (HTTPError, OSError) as exc:
        raw.close()
        raise ConnectionClosedError(endpoint_url=request.url, error=exc, request=request) from exc
    return body


def _read_bounded(raw: Any) -> bytes:
    pieces: list[bytes] = []
    size = tags = 0
    while piece := raw.read(READ_BYTES):
        size += len(piece)
        tags += piece.count(b"<")
        if size > MAX_ANSWER_BYTES:
            raise BadAnswer(f"the server answered with more than {MAX_ANSWER_BYTES} bytes")
        if tags > MAX_TAGS:
            raise BadAnswer(f"the server answered with more than {MAX_TAGS} XML tags")
        pieces.append(piece)
    body = b"".join(pieces)
    if b"<!ENTITY" in body:
        raise BadAnswer("the server answered with XML that declares entities")
    return body


def _never_redirect(params: dict[str, Any], **_: Any) -> None:
    """Make botocore believe that it has followed its one redirect already."""
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _asks_metadata() -> bool:
    return bool(getattr(_listing, "metadata", False))


def _ask_for_metadata(request: Any, **_: Any) -> None:
    if _asks_metadata():
        request.url += ("&" if "?" in request.url else "?") + "metadata=true"


def _parse_listing(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    # An <Error> inside a 200 has been made a 500 by botocore's own hook, which comes first.
    if response_dict["status_code"] == 500 and b"<Error" not in response_dict["body"] and _asks_metadata():
        raise BadAnswer("LIST with metadata answered HTTP 500 without an S3 error")
    if response_dict["status_code"] == 200:
        customized_response_dict[PAGE_FIELD] = parse_list_page(response_dict["body"])
        response_dict["body"] = _EMPTY_LISTING


def _need_204(response_dict: dict[str, Any], **_: Any) -> None:
    status = response_dict["status_code"]
    if status < 300 and status != 204:
        raise BadAnswer(f"the server answered HTTP {status} where 204 says that it was done")
