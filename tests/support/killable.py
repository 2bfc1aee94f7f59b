"""A MinIO that a test can kill, start again on the same port and data, and freeze."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from subprocess import Popen

from tests.support.processes import free_ports, running
from tests.support.servers import _answers, _server, minio_program


class KillableServer:
    """See the module; ``server`` is where it listens while it runs."""

    def __init__(self, base: Path) -> None:
        base.mkdir(exist_ok=True)
        self._base = base
        self._ports = free_ports(2)
        self.server = _server("minio", self._ports[0])
        self._process: Popen[bytes] | None = None
        self._running: AbstractContextManager[Popen[bytes]] | None = None

    def start(self) -> None:
        """Start it; return when it carries requests out."""
        assert self._running is None
        data = self._base / "data"
        data.mkdir(exist_ok=True)
        s3, console = (f"127.0.0.1:{port}" for port in self._ports)
        self._running = running(
            [
                minio_program(),
                "server",
                "--quiet",
                f"--address={s3}",
                f"--console-address={console}",
                str(data),
            ],
            log_path=self._base / "log",
            ready=_answers(self.server),
            extra_environment={
                "MINIO_ROOT_USER": self.server.access_key,
                "MINIO_ROOT_PASSWORD": self.server.secret_key,
                "MINIO_BROWSER": "off",
                "MINIO_UPDATE": "off",
                "MINIO_CALLHOME_ENABLE": "off",
            },
        )
        self._process = self._running.__enter__()

    def kill(self) -> None:
        """SIGKILL."""
        if self._running is not None:
            running, self._running, self._process = self._running, None, None
            running.__exit__(None, None, None)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """While the block runs, the server is stopped (SIGSTOP): its kernel accepts, and nobody answers."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)


@contextmanager
def killable_minio(base: Path) -> Iterator[KillableServer]:
    """Run a MinIO of the test's own until the block ends."""
    killable = KillableServer(base)
    killable.start()
    try:
        yield killable
    finally:
        killable.kill()
