"""Fixtures for every test: real servers, started when first asked for and once per run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import totals
from tests.support.counting_proxy import CountingProxy
from tests.support.servers import STARTERS, Server, ServerMissing, StartFailed

_MISSING = pytest.StashKey[dict[str, str]]()
_TOTALS = pytest.StashKey[Path]()


class ServerPool:
    """The servers of this run by name; one that is missing is reported loudly at the end."""

    def __init__(self, stack: ExitStack, missing: dict[str, str]) -> None:
        self._stack = stack
        self._missing = missing
        self._running: dict[str, Server] = {}

    def get(self, name: str) -> Server:
        """Return the running server *name*, starting it at the first call.

        Where it is missing the test is skipped, but fails where $CI is set: there, nothing may go untested.
        """
        if name in self._running:
            return self._running[name]
        if name not in self._missing:
            try:
                self._running[name] = self._stack.enter_context(STARTERS[name]())
                return self._running[name]
            except (ServerMissing, StartFailed) as exc:
                self._missing[name] = str(exc)
        message = f"server {name} is missing: {self._missing[name]}"
        if os.environ.get("CI"):
            pytest.fail(message, pytrace=False)
        pytest.skip(message)


#: Files of few tests that take long: begun first, or one process would end long after the others.
LONG = (
    "tests/mounted/test_stress.py",
    "tests/sweeps/test_request_sweep.py",
    "tests/mounted/test_oracle.py",
    "tests/crash/test_kills.py",
    "tests/cli/test_spool.py",
    "tests/model/test_histories.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first, in the order of :data:`LONG`."""
    ranks = {name: rank for rank, name in enumerate(LONG)}
    items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(ranks)))


def _is_worker(config: pytest.Config) -> bool:
    """Whether this process runs a share of the tests for another one, which prints the summary."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the record of servers that could not be started, and the file of the sweeps' totals."""
    config.stash[_MISSING] = {}
    if not _is_worker(config):  # those inherit the variable
        config.stash[_TOTALS] = Path(tempfile.mkdtemp(prefix="s3mount-totals-")) / "totals"
        os.environ[totals.VARIABLE] = str(config.stash[_TOTALS])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take the file of the totals away."""
    if not _is_worker(config):
        shutil.rmtree(config.stash[_TOTALS].parent, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say loudly which servers nothing was tested against, and what the sweeps add up to."""
    for name, reason in config.stash[_MISSING].items():
        terminalreporter.section(f"NOT TESTED AGAINST {name.upper()}", sep="!", red=True, bold=True)
        terminalreporter.line(reason)
    if said := totals.summary(config.stash[_TOTALS]):
        terminalreporter.section("totals of the sweeps", bold=True)
        terminalreporter.line(said)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a test that cannot run here fail where $CI is set: there, nothing may go untested."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and CI skips nothing: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def server_pool(pytestconfig: pytest.Config) -> Iterator[ServerPool]:
    """All servers, by name."""
    with ExitStack() as stack:
        yield ServerPool(stack, pytestconfig.stash[_MISSING])


@pytest.fixture(scope="session")
def seaweedfs(server_pool: ServerPool) -> Server:
    """A running SeaweedFS."""
    return server_pool.get("seaweedfs")


@pytest.fixture(scope="session")
def minio(server_pool: ServerPool) -> Server:
    """A running MinIO."""
    return server_pool.get("minio")


@pytest.fixture
def proxy(minio: Server) -> Iterator[CountingProxy]:
    """MinIO behind a proxy that counts, and can spoil requests."""
    with CountingProxy(minio.endpoint_url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def moto(server_pool: ServerPool) -> Server:
    """A running moto server, for AWS behaviour that the others lack."""
    return server_pool.get("moto")


@pytest.fixture(scope="session", params=list(STARTERS))
def server(request: pytest.FixtureRequest, server_pool: ServerPool) -> Server:
    """Each server in turn."""
    return server_pool.get(request.param)


@pytest.fixture
def bucket(server: Server) -> str:
    """A fresh bucket on ``server``."""
    return server.fresh_bucket()
