"""The client is built as the options say, and botocore still does what we rely on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from s3mount.core.objects import ObjectHeaders
from s3mount.errors import StoreUnavailable
from s3mount.store.client import ClientOptions, Connections, build_client, is_aws
from tests.store.conftest import Place
from tests.support.counting_proxy import Answer


@pytest.fixture(autouse=True)
def own_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the user's own configuration reaches a test."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)


def client_of(**options: Any) -> Any:
    """Build a client that signs nothing."""
    return build_client(ClientOptions(**{"bucket": "some-bucket", "sign_requests": False, **options}))


def url_of(client: Any) -> str:
    """Return the URL that a listing goes to."""
    urls: list[str] = []

    class Enough(Exception):
        pass

    def note(request: Any, **_: Any) -> None:
        urls.append(request.url.partition("?")[0])
        raise Enough

    client.meta.events.register_first("before-sign.s3", note)
    with pytest.raises(Enough):
        client.list_objects_v2(Bucket="some-bucket")
    client.close()
    return urls[0]


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "https://some-bucket.s3.amazonaws.com/"),
        ({"region": "eu-west-1"}, "https://some-bucket.s3.eu-west-1.amazonaws.com/"),
        ({"addressing_style": "path"}, "https://s3.amazonaws.com/some-bucket"),
        ({"endpoint_url": "http://localhost:9000"}, "http://localhost:9000/some-bucket"),
        ({"endpoint_url": "https://s3.example.org"}, "https://s3.example.org/some-bucket"),
        (
            {"endpoint_url": "https://s3.example.org", "addressing_style": "virtual"},
            "https://some-bucket.s3.example.org/",
        ),
    ],
    ids=repr,
)
def test_addressing(options: dict[str, Any], url: str) -> None:
    """Auto is path style for every endpoint that is not AWS."""
    assert url_of(client_of(**options)) == url


def test_the_endpoint_variable_of_the_aws_cli_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_ENDPOINT_URL works as with other tools, path style included."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio.example:9000")
    assert url_of(client_of()) == "http://minio.example:9000/some-bucket"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://s3.amazonaws.com", True),
        ("https://s3.cn-north-1.amazonaws.com.cn", True),
        ("https://amazonaws.com.evil.example", False),
        ("https://notamazonaws.com", False),
        ("http://127.0.0.1:9000", False),
    ],
)
def test_is_aws(url: str, expected: bool) -> None:
    """Only Amazon's own domains."""
    assert is_aws(url) is expected


def test_the_pool_has_a_connection_for_every_request_that_may_run() -> None:
    """Otherwise a hint could make a reader wait."""
    client = client_of(connections=Connections(1, 2, 3, 4))
    assert client.meta.config.max_pool_connections == 10
    client.close()


def test_no_redirect_is_followed(place: Place) -> None:
    """A 307 is one request and an error; botocore of itself makes 81 of it."""
    store = place.open_store()
    answer = Answer(307, b"", {"Location": "http://127.0.0.1:1/elsewhere"})

    async def work() -> None:
        for call in (store.head("x"), store.list_page(""), store.put("x", b"", ObjectHeaders())):
            with pytest.raises(StoreUnavailable):
                await call

    with place.proxy.rule(answer):
        trio.run(work)
    assert place.proxy.counts() == {"HeadObject": 1, "ListObjectsV2": 1, "PutObject": 1}
