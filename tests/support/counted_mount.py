"""A mount behind a proxy that counts its requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.bucket import Bucket
from tests.support.counting_proxy import CountingProxy
from tests.support.mounting import Mount, Tools
from tests.support.servers import Server

#: Longer than any test: names and absences are not asked for again by mere lapse of time.
PATIENT = ("--ttl=600s", "--negative-ttl=600s")


class CountedMount:
    """``bucket`` on a server, as boto3 sees it directly, and mounted at ``path`` through ``proxy``."""

    def __init__(self, mount: Mount, bucket: Bucket, proxy: CountingProxy) -> None:
        self.mount = mount
        self.bucket = bucket
        self.proxy = proxy
        self.path = mount.path
        self.tools = Tools(mount)

    @property
    def lists_metadata(self) -> bool:
        """Whether the server's LIST shows metadata, so that no HEAD need ask for it."""
        return self.mount.server.name == "minio"

    @contextmanager
    def spending(self, **want: int) -> Iterator[None]:
        """Assert that the block costs exactly these requests, and no others, by S3's operation names."""
        self.proxy.clear()
        yield
        said = "\n".join(f"{r.operation} {r.key!r} {r.query} {r.range}" for r in self.proxy.requests())
        assert self.proxy.counts() == Counter(want), f"requests:\n{said}"

    def spent(self, work: Callable[[], object]) -> Counter[str]:
        """Carry *work* out and return what it cost."""
        self.proxy.clear()
        work()
        return self.proxy.counts()


@contextmanager
def counted_mount(server: Server, base: Path, *options: str) -> Iterator[CountedMount]:
    """Mount a fresh bucket behind a proxy."""
    name = server.fresh_bucket()
    base.mkdir(exist_ok=True)
    with (
        CountingProxy(server.endpoint_url) as proxy,
        Mount(server, name, base, options, endpoint_url=proxy.endpoint_url) as mount,
    ):
        proxy.clear()
        yield CountedMount(mount, Bucket(server, name), proxy)
