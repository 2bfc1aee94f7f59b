"""A mount behind a proxy that counts its requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.bucket import Bucket
from tests.support.counting_proxy import CountingProxy
from tests.support.mounting import Mount, Tools
from tests.support.servers import Server

#: Longer than any test: names and absences are not asked for again by mere lapse of time.
PATIENT = ("--ttl=1h", "--negative-ttl=1h")
MOST_PLACES = 60


@dataclass
class CountedMount:
    """A directory of a bucket that is mounted through ``proxy``; ``prefix`` is its keys' beginning.

    ``path`` is where the mount shows it, and ``put``, ``get`` and their like are boto3's direct way to it.
    """

    mount: Mount
    proxy: CountingProxy
    bucket: Bucket
    path: Path
    prefix: str = ""

    @property
    def lists_metadata(self) -> bool:
        """Whether the server's LIST shows metadata, so that no HEAD need ask for it."""
        return self.mount.server.name == "minio"

    def put(self, key: str, body: bytes) -> None:
        """Write an object."""
        self.bucket.put(self.prefix + key, body)

    def put_many(self, bodies: dict[str, bytes]) -> None:
        """Write many objects."""
        self.bucket.put_many({self.prefix + key: body for key, body in bodies.items()})

    def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        return self.bucket.get(self.prefix + key)

    def below(self) -> list[str]:
        """Return all keys but the directory's own marker."""
        keys = [key.removeprefix(self.prefix) for key in self.bucket.keys(self.prefix)]
        return [key for key in keys if key]

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """Run *command* in ``path``; return what it printed. Raises: AssertionError if it fails."""
        return Tools(self.mount).run(*command, cwd=cwd or self.path)

    def shell(self, script: str) -> str:
        """Run *script* with bash in ``path``; return what it printed."""
        return Tools(self.mount).shell(script, cwd=self.path)

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
        yield CountedMount(mount, proxy, Bucket(server, name), mount.path)


@contextmanager
def counted_places(server: Server, base: Path) -> Iterator[Iterator[CountedMount]]:
    """Mount once, and give a directory that is new to the mount to each who asks."""
    with counted_mount(server, base, *PATIENT) as whole:
        names = [f"p{number:02}" for number in range(MOST_PLACES)]
        whole.put_many({f"{name}/": b"" for name in names})
        whole.run("ls", "-l")
        yield (
            CountedMount(whole.mount, whole.proxy, whole.bucket, whole.path / name, f"{name}/")
            for name in names
        )
