"""Fixtures: a mount of a fresh bucket on MinIO behind a proxy that can spoil requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.mounted.conftest import MakeMount, make_mount
from tests.support.bucket import Bucket
from tests.support.counting_proxy import CountingProxy
from tests.support.mounting import Mount, Tools
from tests.support.servers import Server

__all__ = ["Faulty", "MakeFaulty", "make_mount"]

KIB, MIB = 1 << 10, 1 << 20

#: Failures end soon, and what others change is seen at once.
IMPATIENT = (
    *("--attempts=3", "--operation-timeout=6s", "--read-timeout=2s", "--connect-timeout=2s"),
    *("--ttl=0s", "--negative-ttl=0s", "--drain-timeout=4s"),
)


@dataclass
class Faulty:
    """A mount, the proxy before its server, and the bucket as boto3 sees it without the proxy."""

    mount: Mount
    proxy: CountingProxy
    bucket: Bucket

    @property
    def path(self) -> Path:
        """Where it is mounted."""
        return self.mount.path

    def run(self, *command: str) -> str:
        """Run *command* in the mount; return what it printed. Raises: AssertionError if it fails."""
        return Tools(self.mount).run(*command)

    def spooled(self) -> list[bytes]:
        """Return the content of every file in the spool."""
        return [path.read_bytes() for path in sorted(self.mount.spool.rglob("*.data"))]

    def uploads(self) -> list[str]:
        """Return the keys of unfinished uploads."""
        answer = self.bucket.client.list_multipart_uploads(Bucket=self.bucket.name)
        return [one["Key"] for one in answer.get("Uploads", [])]


MakeFaulty = Callable[..., Faulty]


@pytest.fixture
def make_faulty(make_mount: MakeMount, minio: Server, proxy: CountingProxy) -> MakeFaulty:
    """Mount a bucket on MinIO through the proxy; *options* come behind those of IMPATIENT."""

    def make(*options: str, bucket: str | None = None, **keywords: Any) -> Faulty:
        # Said where several requests in a row got no answer.
        keywords["expected"] = [*keywords.get("expected", ()), "does not answer; what needs it fails at once"]
        keywords = {"endpoint_url": proxy.endpoint_url, "watchdog_s": 120.0, **keywords}
        mount = make_mount(minio, bucket, *IMPATIENT, *options, **keywords)
        proxy.clear()
        return Faulty(mount, proxy, Bucket(minio, mount.bucket))

    return make


@pytest.fixture
def faulty(make_faulty: MakeFaulty) -> Faulty:
    """One such mount."""
    return make_faulty()


def errno_of(call: Callable[[], object]) -> int:
    """Return the errno with which *call* fails, 0 if it does not."""
    try:
        call()
    except OSError as exc:
        return exc.errno or -1
    return 0


def write(path: Path, data: bytes) -> None:
    """Write a whole file and close it."""
    with open(path, "wb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
