"""Fixtures for tests on a real mount."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ServerPool
from tests.support.counted_mount import CountedMount, counted_places
from tests.support.mounting import Mount, Tools, mounts_below
from tests.support.servers import Server
from tests.support.workplace import SharedMount, Workplace

#: The servers that people run; moto is for names that both lack.
REAL_SERVERS = ("seaweedfs", "minio")

MakeMount = Callable[..., Mount]


@pytest.fixture(params=REAL_SERVERS)
def real_server(request: pytest.FixtureRequest, server_pool: ServerPool) -> Server:
    """SeaweedFS, then MinIO."""
    return server_pool.get(request.param)


@pytest.fixture
def make_mount(tmp_path: Path) -> Iterator[MakeMount]:
    """Mount a bucket (by default a fresh one) until the test ends; then no mount and no upload is left."""
    made: list[tuple[Server, str]] = []
    with ExitStack() as stack:

        def make(server: Server, bucket: str | None = None, *options: str, **keywords: Any) -> Mount:
            bucket = bucket or server.fresh_bucket()
            base = tmp_path / f"mount{len(made)}"
            base.mkdir()
            made.append((server, bucket.partition("/")[0]))
            return stack.enter_context(Mount(server, bucket, base, options, **keywords))

        yield make
    assert mounts_below(tmp_path) == []
    for server, bucket in made:
        answer = server.client().list_multipart_uploads(Bucket=bucket)
        assert answer.get("Uploads", []) == []


@pytest.fixture
def mount(real_server: Server, make_mount: MakeMount) -> Mount:
    """A fresh bucket on each real server, mounted."""
    return make_mount(real_server)


@pytest.fixture
def tools(mount: Mount) -> Tools:
    """Programs run in the mount."""
    return Tools(mount)


@pytest.fixture(scope="module", params=REAL_SERVERS)
def shared_mount(
    request: pytest.FixtureRequest, server_pool: ServerPool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedMount]:
    """One mount on each real server for all tests of a module that work in a ``place``.

    A module's ``MOUNT_OPTIONS`` are options of it.
    """
    options = getattr(request.module, "MOUNT_OPTIONS", ())
    shared = SharedMount(server_pool.get(request.param), tmp_path_factory.mktemp("mounts"), options)
    yield shared
    shared.close()


@pytest.fixture
def place(shared_mount: SharedMount, tmp_path: Path) -> Iterator[Workplace]:
    """A fresh directory on a mount that other tests of the module have used."""
    place = shared_mount.place(tmp_path, watchdog_s=240.0)
    yield place
    shared_mount.leave(place)


@pytest.fixture(scope="module", params=REAL_SERVERS)
def places_counted(
    request: pytest.FixtureRequest, server_pool: ServerPool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Iterator[CountedMount]]:
    """Directories on one mount behind a counting proxy, on each real server."""
    with counted_places(server_pool.get(request.param), tmp_path_factory.mktemp("counted")) as places:
        yield places


@pytest.fixture
def counted(places_counted: Iterator[CountedMount]) -> Iterator[CountedMount]:
    """A fresh directory; what the mount learns of it once it believes for the whole test."""
    counted = next(places_counted)
    counted.mount.watch(240.0)
    yield counted
    counted.mount.watch(300.0)
    counted.mount.check_log()
