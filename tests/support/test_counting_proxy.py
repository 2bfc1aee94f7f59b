"""The proxy passes everything unchanged, counts it, and spoils only what it is told to."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError

from tests.support.counting_proxy import Answer, Close, CountingProxy, Cut, DropAnswer, Hold
from tests.support.servers import Server

ONCE = {"retries": {"total_max_attempts": 1}}


@pytest.fixture
def proxy(server: Server) -> Iterator[CountingProxy]:
    """A proxy before each server in turn."""
    with CountingProxy(server.endpoint_url) as running:
        yield running


@pytest.fixture
def client(server: Server, proxy: CountingProxy) -> Iterator[Any]:
    """A client that goes through the proxy and tries once."""
    made = server.client(proxy.endpoint_url, **ONCE)
    yield made
    made.close()


def test_every_request_passes_and_is_counted_by_its_s3_name(
    client: Any, proxy: CountingProxy, bucket: str
) -> None:
    """All operations that s3mount sends go through with valid signatures, and are told apart."""
    part = os.urandom(5 * 1024 * 1024)
    client.put_object(Bucket=bucket, Key="a/b c+é", Body=b"0123456789")
    client.head_object(Bucket=bucket, Key="a/b c+é")
    got = client.get_object(Bucket=bucket, Key="a/b c+é", Range="bytes=2-5")
    assert got["Body"].read() == b"2345"
    client.list_objects_v2(Bucket=bucket, Prefix="a/")
    client.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "a/b c+é"})
    upload = client.create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]
    names = {"Bucket": bucket, "Key": "big", "UploadId": upload}
    etag = client.upload_part(PartNumber=1, Body=part, **names)["ETag"]
    client.list_multipart_uploads(Bucket=bucket, Prefix="big")
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    client.complete_multipart_upload(MultipartUpload=parts, **names)
    names["UploadId"] = client.create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]
    client.upload_part_copy(PartNumber=1, CopySource={"Bucket": bucket, "Key": "big"}, **names)
    client.abort_multipart_upload(**names)
    client.delete_object(Bucket=bucket, Key="copy")
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "big"}]})
    client.head_bucket(Bucket=bucket)
    assert proxy.counts() == {
        "PutObject": 1,
        "HeadObject": 1,
        "GetObject": 1,
        "ListObjectsV2": 1,
        "CopyObject": 1,
        "CreateMultipartUpload": 2,
        "UploadPart": 1,
        "ListMultipartUploads": 1,
        "CompleteMultipartUpload": 1,
        "UploadPartCopy": 1,
        "AbortMultipartUpload": 1,
        "DeleteObject": 1,
        "DeleteObjects": 1,
        "HeadBucket": 1,
    }
    by_name = {request.operation: request for request in proxy.requests()}
    assert (by_name["GetObject"].key, by_name["GetObject"].range) == ("a/b c+é", "bytes=2-5")
    assert (by_name["GetObject"].bytes_out, by_name["GetObject"].status) == (4, 206)
    assert by_name["UploadPart"].bytes_in == len(part)


def test_a_large_body_passes_unchanged_both_ways(client: Any, bucket: str) -> None:
    """20 MiB go up and come down byte for byte."""
    body = os.urandom(20 * 1024 * 1024)
    client.put_object(Bucket=bucket, Key="big", Body=body)
    assert client.get_object(Bucket=bucket, Key="big")["Body"].read() == body


def test_connections_are_kept_alive(minio: Server) -> None:
    """Requests one after another need one connection of the client (moto's server closes each)."""
    with CountingProxy(minio.endpoint_url) as proxy:
        client = minio.client(proxy.endpoint_url, **ONCE)
        for _ in range(5):
            client.list_buckets()
        client.close()
        assert proxy.accepted == 1


def test_clear_forgets(client: Any, proxy: CountingProxy, bucket: str) -> None:
    """After clear, counting begins anew."""
    client.head_bucket(Bucket=bucket)
    proxy.clear()
    assert proxy.requests() == []
    client.head_bucket(Bucket=bucket)
    assert proxy.counts() == {"HeadBucket": 1}


def test_a_canned_answer_takes_the_place_of_the_chosen_request(
    client: Any, proxy: CountingProxy, bucket: str
) -> None:
    """Only the second matching request is answered by the proxy, and the server never sees it."""
    answer = Answer(503, b"<Error><Code>SlowDown</Code></Error>")
    with proxy.rule(answer, operation="PutObject", key="a/*", first=2, last=2):
        client.put_object(Bucket=bucket, Key="a/1", Body=b"1")
        with pytest.raises(ClientError, match="SlowDown"):
            client.put_object(Bucket=bucket, Key="a/2", Body=b"2")
        client.put_object(Bucket=bucket, Key="a/3", Body=b"3")
    found = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert [one["Key"] for one in found] == ["a/1", "a/3"]


@pytest.mark.parametrize("reset", [False, True])
def test_a_closed_connection_reaches_the_client_as_one(
    client: Any, proxy: CountingProxy, bucket: str, reset: bool
) -> None:
    """The client sees its connection end, and the server nothing."""
    with proxy.rule(Close(reset=reset)), pytest.raises((ConnectionClosedError, HTTPClientError)):
        client.put_object(Bucket=bucket, Key="x", Body=b"x")
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_dropped_answer_leaves_the_work_done(client: Any, proxy: CountingProxy, bucket: str) -> None:
    """The server stored the object, and the client does not know."""
    with proxy.rule(DropAnswer()), pytest.raises((ConnectionClosedError, HTTPClientError)):
        client.put_object(Bucket=bucket, Key="x", Body=b"x")
    assert client.head_object(Bucket=bucket, Key="x")["ContentLength"] == 1


def test_a_cut_body_ends_where_it_was_told(client: Any, proxy: CountingProxy, bucket: str) -> None:
    """Exactly so many bytes of the body arrive."""
    client.put_object(Bucket=bucket, Key="x", Body=b"0123456789")
    with proxy.rule(Cut(after_bytes=4)):
        body = client.get_object(Bucket=bucket, Key="x")["Body"]
        assert body.read(10) == b"0123"


def test_a_held_request_goes_on_when_released(client: Any, proxy: CountingProxy, bucket: str) -> None:
    """The request is not carried out before the release, and is afterwards."""
    hold = Hold()
    with proxy.rule(hold, operation="PutObject"):
        sender = threading.Thread(
            target=client.put_object, kwargs={"Bucket": bucket, "Key": "x", "Body": b"x"}
        )
        sender.start()
        hold.wait_held()
        assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
        hold.release()
        sender.join()
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
