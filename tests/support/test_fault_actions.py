"""Each action spoils its exchange as it says, seen by a client that tries once."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    HTTPClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from tests.support import fault_actions as faults
from tests.support.counting_proxy import CountingProxy, Rule
from tests.support.fault_rules import parse_rules
from tests.support.servers import Server
from tests.support.waiting import eventually

BODY = b"0123456789" * 10
MIB = 1024 * 1024
CLOSED = (ConnectionClosedError, HTTPClientError)


@pytest.fixture
def bucket(minio: Server) -> str:
    """A fresh bucket with ``x`` in it."""
    name = minio.fresh_bucket()
    direct = minio.client()
    direct.put_object(Bucket=name, Key="x", Body=BODY)
    direct.close()
    return name


@pytest.fixture
def proxy(minio: Server) -> Iterator[CountingProxy]:
    """A proxy before MinIO; no thread of it is left."""
    before = set(threading.enumerate())
    with CountingProxy(minio.endpoint_url) as running:
        yield running
    # Not a count: idle worker threads of earlier tests end when they like.
    assert set(threading.enumerate()) <= before


@pytest.fixture
def client(minio: Server, proxy: CountingProxy) -> Iterator[Any]:
    """A client that goes through the proxy, tries once and has little patience."""
    made = minio.client(proxy.endpoint_url, retries={"total_max_attempts": 1}, read_timeout=0.5)
    yield made
    made.close()


@pytest.fixture
def direct(minio: Server) -> Iterator[Any]:
    """A client that goes to the server itself."""
    made = minio.client()
    yield made
    made.close()


def raw_get(proxy: CountingProxy, direct: Any, bucket: str) -> tuple[http.client.HTTPResponse, Any]:
    """GET ``x`` with nothing between the test and the socket."""
    url = direct.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "x"})
    host, path = url.removeprefix("http://").split("/", 1)
    connection = http.client.HTTPConnection(proxy.endpoint_url.removeprefix("http://"), timeout=5)
    connection.request("GET", f"/{path}", headers={"Host": host})
    return connection.getresponse(), connection


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_reset_is_a_reset(client: Any, proxy: CountingProxy, bucket: str, direct: Any, where: str) -> None:
    """The client sees RST; the server has carried it out only where the answer was dropped."""
    action = faults.Close(reset=True) if where == "before" else faults.DropAnswer(reset=True)
    with proxy.rule(action), pytest.raises(CLOSED) as caught:
        client.put_object(Bucket=bucket, Key="y", Body=b"y")
    assert "reset by peer" in repr(caught.value.kwargs["error"])
    assert direct.list_objects_v2(Bucket=bucket)["KeyCount"] == (1 if where == "before" else 2)


def test_a_held_request_of_a_client_that_is_killed_is_carried_out(
    proxy: CountingProxy, bucket: str, direct: Any
) -> None:
    """It counts as held only once its body has come, too; then it needs its client no more."""
    url = direct.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "y"})
    host, path = url.removeprefix("http://").split("/", 1)
    hold = faults.Hold()
    with proxy.rule(hold):
        connection = http.client.HTTPConnection(proxy.endpoint_url.removeprefix("http://"), timeout=5)
        connection.putrequest("PUT", f"/{path}", skip_host=True)
        connection.putheader("Host", host)
        connection.putheader("Content-Length", "1")
        connection.endheaders()
        with pytest.raises(AssertionError, match="no request came to be held"):
            hold.wait_held(0.2)
        connection.send(b"y")
        hold.wait_held()
        connection.close()
        hold.release()
        eventually(lambda: len(proxy.requests()), 1)
    assert direct.get_object(Bucket=bucket, Key="y")["Body"].read() == b"y"


def test_an_answer_reset_in_its_middle(client: Any, proxy: CountingProxy, bucket: str) -> None:
    """So many bytes, then RST."""
    with proxy.rule(faults.Cut(40, reset=True)):
        body = client.get_object(Bucket=bucket, Key="x")["Body"]
        with pytest.raises((*CLOSED, ResponseStreamingError), match="reset by peer"):
            body.read()


def test_an_answer_cut_in_its_head(client: Any, proxy: CountingProxy, bucket: str) -> None:
    """A part of the head and no more, which botocore takes for an answer without headers."""
    with proxy.rule(faults.Cut(20, of="head")):
        answer = client.get_object(Bucket=bucket, Key="x")
    assert "ETag" not in answer
    assert answer["Body"].read() == b""


def test_a_cut_keeps_the_length_and_a_shortening_corrects_it(
    client: Any, proxy: CountingProxy, bucket: str
) -> None:
    """The one is to be seen by who looks at the length, the other by nobody."""
    with proxy.rule(faults.Cut(40)):
        answer = client.get_object(Bucket=bucket, Key="x")
        assert answer["ContentLength"] == 100
        with pytest.raises((IncompleteReadError, *CLOSED, ResponseStreamingError)):
            answer["Body"].read()
    with proxy.rule(faults.Shorten(40)):
        answer = client.get_object(Bucket=bucket, Key="x", Range="bytes=0-")
        assert (answer["ContentLength"], answer["Body"].read()) == (40, BODY[:40])
    assert client.get_object(Bucket=bucket, Key="x")["Body"].read() == BODY


def test_a_listing_can_be_shortened(client: Any, proxy: CountingProxy, bucket: str) -> None:
    """It is no XML any more, which botocore says as a 500, and the connection goes on."""
    with proxy.rule(faults.Shorten(60)), pytest.raises(ClientError, match="500"):
        client.list_objects_v2(Bucket=bucket)
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
    assert proxy.accepted == 1


@pytest.mark.parametrize("of", ["head", "body"])
def test_a_stalled_answer_comes_to_a_point_and_no_further(
    client: Any, proxy: CountingProxy, bucket: str, of: Any
) -> None:
    """The client gives up when its own patience ends."""
    with proxy.rule(faults.Stall(40, of=of)), pytest.raises(ReadTimeoutError):
        client.get_object(Bucket=bucket, Key="x")["Body"].read()


def test_a_pause_is_a_stall_that_ends(client: Any, proxy: CountingProxy, bucket: str) -> None:
    """After its seconds the rest comes."""
    with proxy.rule(faults.Stall(40, seconds=0.05)) as rule:
        assert client.get_object(Bucket=bucket, Key="x")["Body"].read() == BODY
    assert rule.injected == 1


def test_stalled_exchanges_do_not_outlive_the_proxy(minio: Server, bucket: str) -> None:
    """A client that waits for ever is let go when the proxy ends."""
    before = set(threading.enumerate())
    with CountingProxy(minio.endpoint_url) as proxy:
        port = int(proxy.endpoint_url.rpartition(":")[2])
        with proxy.rule(faults.Stall(of="head")) as rule:
            waiting = socket.create_connection(("127.0.0.1", port), timeout=10)
            waiting.sendall(b"GET /minio/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            while not proxy.requests():
                time.sleep(0.01)
    assert rule.injected == 1
    assert waiting.recv(100) == b""
    waiting.close()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("of", ["head", "body"])
def test_a_drip_never_pauses_and_never_ends(proxy: CountingProxy, bucket: str, direct: Any, of: Any) -> None:
    """Every wait is shorter than a read timeout, and the whole takes as long as its bytes say."""
    started = time.monotonic()
    with proxy.rule(faults.Drip(1000, of=of)):
        answer, connection = raw_get(proxy, direct, bucket)
        assert answer.read() == BODY
    connection.close()
    assert time.monotonic() - started >= 0.1


def test_bandwidth_is_shared_by_the_exchanges_of_a_rule(
    minio: Server, proxy: CountingProxy, bucket: str
) -> None:
    """Two at once take as long as one of both sizes; each way has its own rate."""
    client = minio.client(proxy.endpoint_url)
    body = os.urandom(MIB)
    started = time.monotonic()
    with proxy.rule(faults.Bandwidth(down_bytes_per_s=4 * MIB, up_bytes_per_s=4 * MIB)):
        client.put_object(Bucket=bucket, Key="y", Body=body)
        assert time.monotonic() - started >= 0.25
        got: list[bytes] = []
        readers = [
            threading.Thread(
                target=lambda: got.append(client.get_object(Bucket=bucket, Key="y")["Body"].read())
            )
            for _ in range(2)
        ]
        started = time.monotonic()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert got == [body, body]
    assert time.monotonic() - started >= 0.5
    client.close()


def test_one_byte_of_an_answer_is_flipped(client: Any, proxy: CountingProxy, bucket: str) -> None:
    """The byte at a position, or one that a seed chooses, the same each time."""
    with proxy.rule(faults.FlipByte(position=7)):
        got = client.get_object(Bucket=bucket, Key="x", ChecksumMode="DISABLED")["Body"].read()
    assert [n for n, byte in enumerate(got) if byte != BODY[n]] == [7]
    found = []
    for seed in (1, 1, 2):
        with proxy.rule(faults.FlipByte(seed=seed)):
            got = client.get_object(Bucket=bucket, Key="x", Range="bytes=0-98")["Body"].read()
        found.append([n for n, byte in enumerate(got) if byte != BODY[n]])
    assert found[0] == found[1] != found[2]
    assert [len(one) for one in found] == [1, 1, 1]


def test_one_byte_of_a_request_is_flipped(client: Any, proxy: CountingProxy, bucket: str) -> None:
    """The server sees the damage, because the request carries a checksum."""
    with proxy.rule(faults.FlipByte(position=3, of="request")), pytest.raises(ClientError):
        client.put_object(Bucket=bucket, Key="y", Body=BODY)


def test_headers_are_replaced_added_and_taken_away(client: Any, proxy: CountingProxy, bucket: str) -> None:
    """Wrong ETag and range, and none at all."""
    changes = {"ETag": '"wrong"', "Content-Range": "bytes 5-9/100", "Last-Modified": None}
    with proxy.rule(faults.Headers(changes)):
        answer = client.get_object(Bucket=bucket, Key="x", Range="bytes=0-4")
    assert (answer["ETag"], answer["ContentRange"]) == ('"wrong"', "bytes 5-9/100")
    assert "LastModified" not in answer
    assert answer["Body"].read() == BODY[:5]


@pytest.mark.parametrize(("length", "got"), [(200, 100), (40, 40)])
def test_a_wrong_length_ends_the_connection(
    proxy: CountingProxy, bucket: str, direct: Any, length: int, got: int
) -> None:
    """Who waits for more sees the end, and what was not announced is in no later answer."""
    with proxy.rule(faults.Headers({"Content-Length": str(length)})):
        answer, connection = raw_get(proxy, direct, bucket)
        assert answer.getheader("Content-Length") == str(length)
        if length > 100:
            with pytest.raises(http.client.IncompleteRead):
                answer.read()
        else:
            assert len(answer.read()) == got
    connection.close()


def test_a_status_is_replaced_though_it_was_done(
    client: Any, proxy: CountingProxy, bucket: str, direct: Any
) -> None:
    """500 from a server that carried it out; with another answer's body, too."""
    with proxy.rule(faults.Status(500)), pytest.raises(ClientError):
        client.put_object(Bucket=bucket, Key="y", Body=b"y")
    with proxy.rule(faults.ApplyThenAnswer(faults.SLOW_DOWN)), pytest.raises(ClientError, match="SlowDown"):
        client.put_object(Bucket=bucket, Key="z", Body=b"z")
    assert direct.list_objects_v2(Bucket=bucket)["KeyCount"] == 3
    assert [request.status for request in proxy.requests()] == [500, 503]


def test_an_old_answer_is_replayed(client: Any, proxy: CountingProxy, bucket: str, direct: Any) -> None:
    """LIST, HEAD and GET are as they were when they were first seen; the n-th is, when told so."""
    with proxy.rule(faults.Replay(), first=4):
        first = client.list_objects_v2(Bucket=bucket)["Contents"]
        head = client.head_object(Bucket=bucket, Key="x")
        client.get_object(Bucket=bucket, Key="x")["Body"].read()
        direct.put_object(Bucket=bucket, Key="x", Body=b"new")
        direct.put_object(Bucket=bucket, Key="y", Body=b"new")
        assert client.list_objects_v2(Bucket=bucket)["Contents"] == first
        again = client.head_object(Bucket=bucket, Key="x")
        assert (again["ContentLength"], again["ETag"]) == (100, head["ETag"])
        assert client.get_object(Bucket=bucket, Key="x")["Body"].read() == BODY
        assert client.get_object(Bucket=bucket, Key="y")["Body"].read() == b"new"
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 2


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (faults.SLOW_DOWN, "SlowDown"),
        (faults.INTERNAL_ERROR, "InternalError"),
        (faults.ACCESS_DENIED, "AccessDenied"),
        (faults.EXPIRED_TOKEN, "ExpiredToken"),
        (faults.TIME_SKEWED, "RequestTimeTooSkewed"),
        (faults.ERROR_IN_200, "InternalError"),
    ],
)
def test_the_errors_of_s3(client: Any, proxy: CountingProxy, bucket: str, answer: Any, code: str) -> None:
    """Each reaches the client by its code."""
    with proxy.rule(answer), pytest.raises(ClientError, match=code):
        client.copy_object(Bucket=bucket, Key="y", CopySource={"Bucket": bucket, "Key": "x"})


def test_garbage_with_status_200(client: Any, proxy: CountingProxy, bucket: str) -> None:
    """What botocore takes for an empty listing."""
    for answer in (faults.HTML_200, faults.EMPTY_200):
        with proxy.rule(answer):
            assert "Contents" not in client.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize("of", ["head", "body"])
def test_an_endless_answer_ends_with_its_client(proxy: CountingProxy, bucket: str, of: Any) -> None:
    """It goes on for as long as somebody reads."""
    address = ("127.0.0.1", int(proxy.endpoint_url.rpartition(":")[2]))
    with proxy.rule(faults.Endless(of=of)), socket.create_connection(address, timeout=10) as reader:
        reader.sendall(f"GET /{bucket}/x HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        got = b""
        while len(got) < 3 * MIB:
            got += reader.recv(MIB)
        assert (b"\r\n\r\n" in got) == (of == "body")


@pytest.mark.parametrize("reset", [False, True])
def test_an_upload_is_cut(client: Any, proxy: CountingProxy, bucket: str, direct: Any, reset: bool) -> None:
    """After so many bytes of its body the connection is gone, and nothing is stored."""
    with proxy.rule(faults.CutRequest(100_000, reset=reset)) as rule, pytest.raises(CLOSED):
        client.put_object(Bucket=bucket, Key="y", Body=os.urandom(4 * MIB))
    assert rule.injected == 1
    (request,) = proxy.requests()
    assert (request.status, request.bytes_in) == (0, 100_000)
    assert direct.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_an_upload_is_stalled(client: Any, proxy: CountingProxy, bucket: str, direct: Any) -> None:
    """After so many bytes of its body nobody reads on, until the client gives up; or for a while."""
    body = os.urandom(4 * MIB)
    with proxy.rule(faults.StallRequest(100_000)), pytest.raises(HTTPClientError):
        client.put_object(Bucket=bucket, Key="y", Body=body)
    assert direct.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
    with proxy.rule(faults.StallRequest(100_000, seconds=0.05)):
        client.put_object(Bucket=bucket, Key="y", Body=body)
    assert direct.head_object(Bucket=bucket, Key="y")["ContentLength"] == len(body)


def test_actions_work_together(client: Any, proxy: CountingProxy, bucket: str) -> None:
    """A far server is out of order, too."""
    started = time.monotonic()
    with (
        proxy.rule(faults.Delay(0.1)) as far,
        proxy.rule(faults.SLOW_DOWN, first=2, last=2) as slow,
        pytest.raises(ClientError),
    ):
        client.head_object(Bucket=bucket, Key="x")
        client.head_object(Bucket=bucket, Key="x")
    assert time.monotonic() - started >= 0.2
    assert (far.injected, slow.seen, slow.injected) == (2, 2, 1)


def test_which_requests_a_rule_takes(client: Any, proxy: CountingProxy, bucket: str) -> None:
    """By number, each so-manieth, so many times, by chance from a seed, by method, key and prefix."""
    taken: dict[str, list[int]] = {}
    rules: dict[str, dict[str, Any]] = {
        "from to": {"first": 2, "last": 3},
        "every": {"first": 2, "every": 3},
        "times": {"first": 2, "times": 2},
        "chance": {"probability": 0.5, "seed": 7},
        "chance again": {"probability": 0.5, "seed": 7},
        "method": {"method": "GET"},
        "key": {"key": "?"},
        "other key": {"key": "d/*"},
        "prefix": {"prefix": "*"},
    }
    for name, which in rules.items():
        taken[name] = []
        with proxy.rule(faults.Status(418), **which) as rule:
            for number in range(1, 9):
                try:
                    client.head_object(Bucket=bucket, Key="x")
                except ClientError:
                    taken[name].append(number)
        assert rule.injected == len(taken[name])
    assert taken["from to"] == [2, 3]
    assert taken["every"] == [2, 5, 8]
    assert taken["times"] == [2, 3]
    assert taken["chance"] == taken["chance again"]
    assert 0 < len(taken["chance"]) < 8
    assert taken["method"] == taken["other key"] == []
    assert taken["key"] == taken["prefix"] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_rules_are_made_again_from_their_line(client: Any, proxy: CountingProxy, bucket: str) -> None:
    """What a failure prints can be given back to the proxy."""
    rules = [
        Rule(faults.Stall(3, of="head", seconds=0.5), operation="PutObject", first=3, last=3),
        Rule(faults.SLOW_DOWN, key="a/*", probability=0.25, seed=9),
        Rule(faults.Headers({"ETag": None}), method="HEAD", every=2, times=1),
        Rule(faults.Bandwidth(up_bytes_per_s=1000.0)),
        Rule(faults.ApplyThenAnswer(faults.HTML_200), prefix="d/"),
    ]
    assert parse_rules(repr(rules)) == rules
    assert [repr(one) for one in parse_rules("[Rule(Hold()), Rule(Replay(), first=2)]")] == [
        "Rule(Hold())",
        "Rule(Replay(), first=2)",
    ]
    with proxy.plan(repr(Rule(faults.SLOW_DOWN, operation="HeadObject"))) as plan, pytest.raises(ClientError):
        client.head_object(Bucket=bucket, Key="x")
    assert [rule.injected for rule in plan] == [1]


def test_a_failing_block_prints_its_rule(proxy: CountingProxy, capsys: pytest.CaptureFixture[str]) -> None:
    """The line is in the output of the test that failed."""
    with pytest.raises(ZeroDivisionError), proxy.rule(faults.Close(), first=2):
        raise ZeroDivisionError
    assert "Rule(Close(reset=False), first=2): seen 0, injected 0" in capsys.readouterr().out
