"""``s3mount top``: requests count for the program that they are made for."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from s3mount.core.exits import Exit
from tests.cli.command import s3mount
from tests.mounted.conftest import MakeMount
from tests.support.bucket import Bucket
from tests.support.mounting import Mount
from tests.support.servers import Server


def made(mount: Mount, *options: str | Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return the counts by process and operation, and all that was printed."""
    done = s3mount("top", mount.path, "--json", *options)
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    by_process = {
        one["process"]: {count["operation"]: count for count in one["counts"]} for one in found["processes"]
    }
    return by_process, found


def run(*command: str | Path) -> None:
    """Run a program in the mount."""
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)


def test_each_request_counts_for_its_program(make_mount: MakeMount, real_server: Server) -> None:
    """A read for cat, a listing for ls, an upload for dd; what goes on in the background for s3mount."""
    bucket = Bucket(real_server, real_server.fresh_bucket())
    bucket.put_many({"read/f": b"x" * 5000, "listed/g": b"", "listed/h": b""})
    mount = make_mount(real_server, bucket.name, "--attributes=list")
    run("cat", mount.path / "read" / "f")
    run("ls", mount.path / "listed")
    run("dd", "if=/dev/zero", f"of={mount.path}/new", "bs=700", "count=1", "status=none")
    counts, _ = made(mount)
    assert counts["cat"]["GetObject"]["made"] == 1
    assert counts["cat"]["GetObject"]["received_bytes"] == 5000
    assert counts["ls"]["ListObjectsV2"]["made"] >= 1
    assert "GetObject" not in counts["ls"]
    assert counts["dd"]["PutObject"]["sent_bytes"] == 700
    assert "PutObject" not in counts["cat"]


def test_what_nobody_waits_for_is_s3mounts(make_mount: MakeMount, minio: Server) -> None:
    """In write-back mode the upload is no program's."""
    mount = make_mount(minio, None, "--write-back=1h", "--no-probe", expected=["not known, so writes ask"])
    run("dd", "if=/dev/zero", f"of={mount.path}/new", "bs=700", "count=1", "status=none")
    assert s3mount("flush", mount.path).exit_code == 0
    counts, _ = made(mount)
    assert counts["(s3mount)"]["PutObject"]["sent_bytes"] == 700
    assert "PutObject" not in counts.get("dd", {})


def test_the_table_has_costs_and_a_sum(make_mount: MakeMount, minio: Server, tmp_path: Path) -> None:
    """By AWS's list, or by one's own."""
    mount = make_mount(minio)
    run("dd", "if=/dev/zero", f"of={mount.path}/new", "bs=700", "count=1", "status=none")
    text = s3mount("top", mount.path).stdout
    heads = text.splitlines()[0].split()
    assert heads == ["PROCESS", "GET", "HEAD", "LIST", "PUT", "DELETE", "RECEIVED", "SENT", "FAILED", "USD"]
    assert "\nall " in text
    assert "requests since it was mounted" in text
    prices = tmp_path / "prices.toml"
    prices.write_text('currency = "EUR"\nPUT = 1000000\n')
    _, found = made(mount, "--prices", prices)
    (dd,) = [one for one in found["processes"] if one["process"] == "dd"]
    puts = sum(one["made"] for one in dd["counts"] if one["operation"] == "PutObject")
    assert (found["currency"], puts >= 1) == ("EUR", True)
    assert dd["cost"] == pytest.approx(1000 * puts, rel=0.01)


def test_a_price_list_that_is_none_is_refused(make_mount: MakeMount, minio: Server, tmp_path: Path) -> None:
    """In one line, with what is wrong."""
    mount = make_mount(minio)
    prices = tmp_path / "prices.toml"
    for text, said in (
        ("PUT = ", "Invalid value"),
        ("COPY = 1", "COPY is none of"),
        (None, "cannot be read"),
    ):
        prices.unlink(missing_ok=True)
        if text is not None:
            prices.write_text(text)
        done = s3mount("top", mount.path, "--prices", prices)
        assert done.exit_code == Exit.CONFIG
        assert done.line.startswith(f"price list {prices}: ")
        assert said in done.line
