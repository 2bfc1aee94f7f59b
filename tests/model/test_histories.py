"""Random histories of a mount, a stranger, failing requests and remounts against a model of the bucket.

Each run has other seeds; ``S3MOUNT_MODEL_SEED=N pytest tests/model`` plays those from N on.
"""

from __future__ import annotations

import os
import random

import pytest

from s3mount.core.exits import Exit
from tests.model.history import History, spooled
from tests.mounted.conftest import MakeMount, make_mount, real_server
from tests.support import totals
from tests.support.bucket import Bucket
from tests.support.counting_proxy import CountingProxy
from tests.support.servers import Server

__all__ = ["make_mount", "real_server"]

ANYTHING = (" ",)  # every failure is provoked; what matters is what becomes of the bytes


def first_seed() -> int:
    """Return the first seed of this run."""
    return int(os.environ.get("S3MOUNT_MODEL_SEED") or random.randrange(10**6))


def play(make_mount: MakeMount, server: Server, count: int, *options: str) -> None:
    """Play *count* histories on one mount, which is remounted or killed between them, and look at its end."""
    first = first_seed()
    print(f"S3MOUNT_MODEL_SEED={first}")
    bucket = Bucket(server, server.fresh_bucket())
    with CountingProxy(server.endpoint_url) as proxy:
        mount = make_mount(
            server,
            bucket.name,
            "--ttl=0",
            "--negative-ttl=0",
            "--attempts=2",
            "--operation-timeout=10s",
            *options,
            endpoint_url=proxy.endpoint_url,
            expected=ANYTHING,
        )
        histories = []
        for seed in range(first, first + count):
            history = History(mount, bucket, proxy, seed, acknowledges_early=bool(options))
            history.run()
            histories.append(history)
            if seed % 3 == 0:
                mount.kill()
                mount.start()
            elif seed % 3 == 1:
                mount.stop(check=False)
                mount.start()
        assert mount.stop(check=False) in (Exit.OK, Exit.NOT_DRAINED)
        left = spooled(mount)
        for history in histories:
            history.finish(left)
            totals.count("faults injected", history.faults)
            totals.count("faults survived", history.faults)
        totals.count("histories checked", count)
        totals.count("lost bytes", 0)


@pytest.mark.parametrize("mode", ["", "--write-back=0s"])
def test_a_few_histories(make_mount: MakeMount, minio: Server, mode: str) -> None:
    """What was acknowledged is in the bucket until somebody replaces it; the rest is in the spool."""
    play(make_mount, minio, 3, *([mode] if mode else []))


@pytest.mark.heavy
@pytest.mark.parametrize("mode", ["", "--write-back=0s", "--write-back=1s"])
@pytest.mark.parametrize("run", range(10))
def test_many_histories(make_mount: MakeMount, real_server: Server, mode: str, run: int) -> None:
    """The same, on both servers."""
    play(make_mount, real_server, 10, *([mode] if mode else []))
