"""``s3mount demo``: its server, its files, and the whole of it once."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet
import pytest
from botocore.config import Config

from s3mount.cli import demo_server
from s3mount.cli.demo_files import demo_files
from s3mount.cli.demo_server import DemoServer, running_server
from s3mount.cli.mount_table import mounted_at
from s3mount.core.exits import Exit
from s3mount.errors import StartupError
from tests.cli import bare_fuse
from tests.cli.command import ROOT, s3mount
from tests.cli.place import needs_root_and_fuse


def contents() -> dict[str, bytes]:
    """Return the demo's files by key."""
    return {file.key: b"".join(file.body()) for file in demo_files()}


def test_the_files_are_the_same_each_time() -> None:
    """And as long as announced, for the server is told the length first."""
    first = contents()
    assert first == contents()
    assert {file.key: file.size for file in demo_files()} == {key: len(body) for key, body in first.items()}
    assert len(first["media/random.bin"]) == 64 * 1024**2


def test_csv_and_parquet_hold_the_same_rows() -> None:
    """So that one can be checked against the other on the mount."""
    files = contents()
    rows = list(csv.DictReader(io.StringIO(files["data/measurements.csv"].decode())))
    table = pyarrow.parquet.read_table(io.BytesIO(files["data/measurements.parquet"])).to_pylist()
    assert len(rows) == len(table) == 5000
    for row, other in zip(rows, table, strict=True):
        assert row["measured_at"] == other["measured_at"].isoformat()
        assert row["station"] == other["station"]
        assert float(row["celsius"]) == other["celsius"]
        assert int(row["humidity"]) == other["humidity"]


def boto3_client(server: DemoServer) -> Any:
    """Return a client independent of ours."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )


def test_the_server_keeps_data_and_keys_from_one_start_to_the_next(tmp_path: Path) -> None:
    """On loopback, with keys that only their owner can read; a second demo on the same data is refused."""
    home = tmp_path / "demo"
    with running_server(home) as first:
        client = first.client()
        client.create_bucket("demo")
        client.create_bucket("demo")
        client.put("demo", "a b/ü+~.txt", lambda: [b"hel", b"lo"], 5, "text/plain")
        with pytest.raises(StartupError, match="another one is running"), running_server(home):
            pass
    for name in ("settings.json", "identities.json"):
        assert (home / name).stat().st_mode & 0o777 == 0o600
    # Somebody else has taken one of the ports meanwhile.
    ports = json.loads((home / "settings.json").read_text())["ports"]
    with closing(socket.socket()) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", ports["filer.port"]))
        with running_server(home) as second:
            assert (second.access_key, second.secret_key) == (first.access_key, first.secret_key)
            with closing(boto3_client(second)) as other:
                answer = other.get_object(Bucket="demo", Key="a b/ü+~.txt")
                assert answer["Body"].read() == b"hello"
                assert answer["ContentType"] == "text/plain"


def test_a_server_that_ends_at_once_is_reported_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after the minute that a slow one may take."""
    monkeypatch.setattr(demo_server, "_program", lambda: "/bin/false")
    with pytest.raises(StartupError) as caught, running_server(tmp_path / "demo"):
        pass
    assert "ended with 1" in caught.value.cause
    assert "server.log" in caught.value.advice


def test_a_missing_server_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the way to get it."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartupError, match=r"s3mount\[demo\]"), running_server(tmp_path / "demo"):
        pass


def test_the_mounts_environment_has_the_demos_keys_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the user's own AWS settings are."""
    monkeypatch.setenv("AWS_PROFILE", "work")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t")
    environment = DemoServer("http://127.0.0.1:1", "KEY", "SECRET").environment()
    assert environment["AWS_ACCESS_KEY_ID"] == "KEY"
    assert environment["AWS_SECRET_ACCESS_KEY"] == "SECRET"
    assert "AWS_PROFILE" not in environment
    assert "AWS_SESSION_TOKEN" not in environment


def test_a_directory_that_is_not_empty_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    """And stays as it is."""
    (tmp_path / "file").write_text("")
    outcome = s3mount("demo", tmp_path, environment={"XDG_DATA_HOME": str(tmp_path / "data")})
    assert outcome.exit_code == Exit.MOUNTPOINT
    assert "not empty" in outcome.line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A path for the demo to mount at; whatever is left there goes away."""
    yield tmp_path / "demo-bucket"
    bare_fuse.unmount(tmp_path / "demo-bucket")


def children_of(pid: int) -> list[int]:
    """Return the ids of the processes that *pid* has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@needs_root_and_fuse
def test_the_whole_demo(tmp_path: Path, directory: Path) -> None:
    """It shows a listing of the mounted bucket, and ends with nothing left but its data."""
    environment = {"XDG_DATA_HOME": str(tmp_path / "data")}
    outcome = s3mount("demo", "--check", directory, environment=environment)
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stderr == ""
    for name in ("README.txt", "measurements.csv", "measurements.parquet", " 67108864 ", "todo.txt"):
        assert name in outcome.stdout
    assert mounted_at(str(directory)) is None
    assert not directory.exists()


@needs_root_and_fuse
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_the_demo_ends_its_processes_end_too(
    tmp_path: Path, directory: Path, number: signal.Signals
) -> None:
    """The mount and the server, also when the demo is killed; what was written is there at the next start."""
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data"), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "s3mount", "demo", str(directory)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Ctrl-C"):
                break
        assert process.poll() is None
        children = [os.pidfd_open(pid) for pid in children_of(process.pid)]
        assert len(children) == 2
        (directory / "new.txt").write_text("new")
        body = (directory / "media" / "random.bin").read_bytes()
        assert hashlib.sha256(body).digest() == hashlib.sha256(contents()["media/random.bin"]).digest()
        process.send_signal(number)
        process.stdout.read()
        assert process.wait(60) == (-number if number == signal.SIGKILL else 0)
    for child in children:
        assert select.select([child], [], [], 60)[0]
        os.close(child)
    assert mounted_at(str(directory)) is None
    home = tmp_path / "data" / "s3mount" / "demo"
    with running_server(home) as server, closing(boto3_client(server)) as client:
        assert client.get_object(Bucket="demo", Key="new.txt")["Body"].read() == b"new"
