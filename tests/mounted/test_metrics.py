"""``--metrics``: what Prometheus is given, where it is asked for, and the dashboard that shows it."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import stat
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from s3mount.core.exits import Exit
from tests.cli.command import ROOT, s3mount
from tests.mounted.conftest import MakeMount
from tests.security.test_s20_control_socket import listening
from tests.support.mounting import Mount
from tests.support.servers import Server

DASHBOARD = ROOT / "docs" / "grafana-dashboard.json"


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody has at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def get(port: int, path: str = "/metrics", method: str = "GET") -> tuple[int, str]:
    """Return status and body of a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_a_port_gives_the_metrics_and_nothing_else(make_mount: MakeMount, minio: Server) -> None:
    """The same as the file, anew each time; not to other machines."""
    port = free_port()
    mount = make_mount(minio, None, "--metrics", f"127.0.0.1:{port}")
    status, text = get(port)
    assert status == 200
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"s3mount_requests", "s3mount_unsent_files", "s3mount_memory_bytes"} <= names
    with (mount.path / "f").open("wb") as file:
        file.write(b"1234")
        file.flush()
        assert "s3mount_unsent_files 1.0" in get(port)[1]
    assert get(port, "/")[0] == get(port, "/metrics/x")[0] == 404
    assert get(port, method="POST")[0] == 405
    assert get(port, method="HEAD") == (200, "")
    assert f"port {port}" in listening(mount.pid)
    lines = [line.split() for line in Path(f"/proc/{mount.pid}/net/tcp").read_text().splitlines()[1:]]
    (address,) = [one[1] for one in lines if one[1].endswith(f":{port:04X}") and one[3] == "0A"]
    assert address.startswith("0100007F:")


def test_a_socket_gives_them_to_its_user_alone(make_mount: MakeMount, minio: Server, tmp_path: Path) -> None:
    """Mode 0600; gone with the mount, and in nobody's way after a kill."""
    path = tmp_path / "metrics.sock"
    mount = make_mount(minio, None, "--metrics", f"unix:{path}")
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert ask_unix(path).startswith("HTTP/1.1 200 ")
    mount.kill()
    assert path.exists()
    mount.start()
    assert "s3mount_info" in ask_unix(path)
    mount.stop()
    assert not path.exists()


def ask_unix(path: Path) -> str:
    """Return the whole answer of a GET over a Unix socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(65536), b"")).decode()


def test_garbage_and_silence_hold_up_nobody(make_mount: MakeMount, minio: Server) -> None:
    """More silent clients than there are places: the mount goes on, and so do the metrics after a while."""
    port = free_port()
    mount = make_mount(minio, None, "--metrics", str(port))
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    silent[0].sendall(b"\xff\r\n\r\n")
    (mount.path / "f").write_bytes(b"text")
    assert (mount.path / "f").read_bytes() == b"text"
    assert get(port)[0] == 200
    for one in silent:
        one.close()


@pytest.mark.parametrize("address", ["0.0.0.0:9099", "nonsense"])
def test_a_wrong_address_is_refused(minio: Server, tmp_path: Path, address: str) -> None:
    """Before anything is mounted."""
    done = s3mount("mount", "bucket", tmp_path, "--metrics", address)
    assert done.exit_code in (Exit.USAGE, Exit.CONFIG)
    assert "metrics" in done.line


def test_an_address_that_is_taken_is_said_to_be(minio: Server, tmp_path: Path) -> None:
    """The mount does not come up without what was asked for."""
    (tmp_path / "mnt").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = s3mount(
            *("mount", minio.fresh_bucket(), tmp_path / "mnt", "--endpoint-url", minio.endpoint_url),
            *("--metrics", str(port)),
            environment={**minio.environment(), "XDG_STATE_HOME": str(tmp_path / "state")},
        )
    assert done.exit_code == Exit.CONFIG
    assert done.line.startswith(f"metrics address 127.0.0.1:{port}: it cannot be listened at (")
    assert not os.path.ismount(tmp_path / "mnt")


def test_the_dashboard_asks_for_what_there_is(make_mount: MakeMount, minio: Server) -> None:
    """Every metric and label in its queries is in a real mount's output."""
    mount: Mount = make_mount(minio, None, "--spool-cap", "1G")
    (mount.path / "f").write_bytes(b"text")
    text = (mount.path / ".s3mount" / "metrics").read_text()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    names = {sample.name for sample in samples}
    labels = {label for sample in samples for label in sample.labels} | {"instance", "job"}
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    legends = [target["legendFormat"] for panel in panels for target in panel["targets"]]
    assert len(queries) > 10
    for query in queries:
        asked = set(re.findall(r"s3mount_\w+", query))
        assert asked <= names, asked - names
        assert query.count("(") == query.count(")")
    for legend in legends:
        assert set(re.findall(r"{{(\w+)}}", legend)) <= labels, legend
