"""Fixtures of the store's tests: a checked store on MinIO behind the counting proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from s3mount.store.checked import CheckedStore
from s3mount.store.client import ClientOptions, build_client
from s3mount.store.s3 import S3Store
from tests.support.counting_proxy import CountingProxy
from tests.support.servers import Server


@dataclass(frozen=True)
class Place:
    """A fresh bucket on MinIO, reached through a proxy."""

    bucket: str
    proxy: CountingProxy
    server: Server
    open_store: Callable[..., CheckedStore]
    """Takes ClientOptions' arguments; what it opens is closed with the test."""
    open_s3: Callable[..., S3Store]
    """The same, unchecked."""


@pytest.fixture
def place(minio: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A bucket with a proxy before it, nothing recorded yet."""
    for name, value in minio.environment().items():
        monkeypatch.setenv(name, value)
    bucket = minio.fresh_bucket()
    opened: list[S3Store] = []
    with CountingProxy(minio.endpoint_url) as proxy:

        def open_s3(**options: Any) -> S3Store:
            settings = {"bucket": bucket, "endpoint_url": proxy.endpoint_url, **options}
            made = ClientOptions(**settings)
            opened.append(S3Store(build_client(made), made))
            return opened[-1]

        yield Place(bucket, proxy, minio, lambda **options: CheckedStore(open_s3(**options)), open_s3)
        for store in opened:
            store.close()
