"""What the store can refuse before the mount is up: one line, an exit code, and no long wait."""

from __future__ import annotations

import http.server
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from s3mount.core.exits import Exit
from tests.cli.command import s3mount
from tests.conftest import ServerPool
from tests.support.processes import free_ports
from tests.support.servers import Server

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")
# The connect deadline is five seconds, and a busy machine takes a few to start Python.
DEADLINE_S = 30.0


@pytest.fixture
def server(server_pool: ServerPool) -> Server:
    """A real server that checks signatures."""
    return server_pool.get("seaweedfs")


def refused(
    tmp_path: Path,
    endpoint_url: str,
    code: Exit,
    thing: str,
    *options: str,
    bucket: str = "no-bucket-needed",
    environment: dict[str, str] | None = None,
) -> str:
    """Try to mount, and return the line that it is refused with."""
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    keys = (
        {"AWS_ACCESS_KEY_ID": "KEY", "AWS_SECRET_ACCESS_KEY": "SECRET"}
        if environment is None
        else environment
    )
    own = {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "HOME": str(tmp_path),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    began = time.monotonic()
    outcome = s3mount(
        "mount", bucket, mountpoint, "--endpoint-url", endpoint_url, *options, environment={**own, **keys}
    )
    took_s = time.monotonic() - began
    assert outcome.exit_code == code, outcome.stderr
    assert outcome.stdout == ""
    assert outcome.line.startswith(f"{thing}: ")
    assert "; " in outcome.line
    assert took_s < DEADLINE_S
    return outcome.line


def test_no_such_bucket(tmp_path: Path, server: Server) -> None:
    """With the server that was asked."""
    line = refused(
        tmp_path,
        server.endpoint_url,
        Exit.NO_SUCH_BUCKET,
        'bucket "absent"',
        bucket="absent",
        environment=server.environment(),
    )
    assert server.endpoint_url in line


def test_a_wrong_secret_key(tmp_path: Path, server: Server) -> None:
    """It is not repeated."""
    keys = {**server.environment(), "AWS_SECRET_ACCESS_KEY": "hunter2hunter2"}
    line = refused(
        tmp_path,
        server.endpoint_url,
        Exit.STORE_REFUSED,
        "secret key",
        bucket=server.fresh_bucket(),
        environment=keys,
    )
    assert "hunter2" not in line


def test_an_unknown_access_key(tmp_path: Path, server: Server) -> None:
    """Keys of another server, most often."""
    keys = {**server.environment(), "AWS_ACCESS_KEY_ID": "NOBODY"}
    refused(
        tmp_path,
        server.endpoint_url,
        Exit.STORE_REFUSED,
        "access key",
        bucket=server.fresh_bucket(),
        environment=keys,
    )


def test_no_keys_at_all(tmp_path: Path, server: Server) -> None:
    """The advice says where they may come from."""
    line = refused(tmp_path, server.endpoint_url, Exit.STORE_REFUSED, "credentials", environment={})
    assert "--no-sign-request" in line


def test_nobody_listens_there(tmp_path: Path) -> None:
    """The commonest of all: the server is not running."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    line = refused(tmp_path, url, Exit.STORE_UNREACHABLE, f"endpoint {url}")
    assert "connection refused" in line


def test_there_is_no_such_host(tmp_path: Path) -> None:
    """A name that cannot exist."""
    url = "http://no-such-host.invalid"
    refused(tmp_path, url, Exit.STORE_UNREACHABLE, f"endpoint {url}")


def test_somebody_listens_and_never_answers(tmp_path: Path) -> None:
    """Given up within the deadlines that were set."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        refused(tmp_path, url, Exit.STORE_UNREACHABLE, f"endpoint {url}", "-o", "read_timeout=1s,attempts=1")


def test_a_server_without_tls(tmp_path: Path, server: Server) -> None:
    """https:// where http:// is spoken."""
    url = server.endpoint_url.replace("http:", "https:")
    refused(tmp_path, url, Exit.TLS, f"endpoint {url}")


class _Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<html><body>It works!</body></html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def web_server() -> Iterator[str]:
    """The address of a web server that has never heard of S3."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def test_a_web_server_that_is_no_s3(tmp_path: Path, web_server: str) -> None:
    """MinIO's console port, most often."""
    refused(tmp_path, web_server, Exit.NOT_S3, f"endpoint {web_server}")


def test_a_profile_that_does_not_exist(tmp_path: Path, server: Server) -> None:
    """The name is in the line."""
    line = refused(
        tmp_path, server.endpoint_url, Exit.CONFIG, "S3 configuration", "--profile", "nope", environment={}
    )
    assert "nope" in line
