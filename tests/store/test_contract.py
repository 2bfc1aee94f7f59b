"""Every check of the contract, on every server and on the store in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from s3mount.errors import FsError
from s3mount.store.checked import CheckedStore
from s3mount.store.client import ClientOptions, build_client
from s3mount.store.s3 import S3Store
from tests.conftest import ServerPool
from tests.store.contract import CHECKS, DEVIATIONS, Subject
from tests.support.memory_store import MemoryStore
from tests.support.servers import STARTERS

MIB = 1024 * 1024


@contextmanager
def subject_of(name: str, pool: ServerPool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subject]:
    """Give a store of that name with an empty bucket."""
    if name == "memory":
        store = MemoryStore(list_metadata=True, min_part_bytes=100)
        yield Subject(CheckedStore(store), part_bytes=100, list_metadata=True)
        return
    server = pool.get(name)
    for variable, value in server.environment().items():
        monkeypatch.setenv(variable, value)
    options = ClientOptions(bucket=server.fresh_bucket(), endpoint_url=server.endpoint_url, attempts=2)
    s3 = S3Store(build_client(options), options)
    try:
        yield Subject(CheckedStore(s3), part_bytes=5 * MIB, list_metadata=name == "minio")
    finally:
        s3.close()


@pytest.mark.parametrize("check", list(CHECKS))
@pytest.mark.parametrize("name", ["memory", *STARTERS])
def test_contract(name: str, check: str, server_pool: ServerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store does what the check's docstring says, unless it is known not to."""
    reason = DEVIATIONS[name].get(check)
    with subject_of(name, server_pool, monkeypatch) as subject:
        if reason is None:
            trio.run(CHECKS[check], subject)
            return
        with pytest.raises((AssertionError, FsError)):
            trio.run(CHECKS[check], subject)


def test_every_declared_deviation_is_of_a_check_that_exists() -> None:
    """A renamed check does not leave its deviations behind."""
    assert {check for table in DEVIATIONS.values() for check in table} <= CHECKS.keys()
