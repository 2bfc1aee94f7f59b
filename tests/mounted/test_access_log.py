"""``--access-log``: who did what to which path, how long it took, and how it ended."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from s3mount.core.exits import Exit
from tests.cli.command import s3mount
from tests.mounted.conftest import MakeMount
from tests.support.servers import Server


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of an access log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_operation_has_its_line(make_mount: MakeMount, minio: Server, tmp_path: Path) -> None:
    """With its program and its bytes; errors have their name. Others may not read it."""
    log = tmp_path / "access.jsonl"
    mount = make_mount(minio, None, "--access-log", log)
    command = ["dd", "if=/dev/zero", f"of={mount.path}/né\nw", "bs=700", "count=1", "status=none"]
    subprocess.run(command, check=True)
    assert not (mount.path / "missing").exists()
    with pytest.raises(PermissionError):
        os.link(mount.path / "né\nw", mount.path / "other")
    found = lines(log)
    (write,) = [one for one in found if one["operation"] == "write"]
    assert (write["path"], write["process"], write["bytes"], write["errno"]) == ("/né\nw", "dd", 700, None)
    assert write["uid"] is None
    (create,) = [one for one in found if one["operation"] == "create"]
    assert (create["path"], create["process"], create["uid"]) == ("/né\nw", "dd", os.geteuid())
    assert create["pid"] == write["pid"]
    assert create["bytes"] is None
    (link,) = [one for one in found if one["operation"] == "link"]
    assert link["errno"] == "EPERM"
    assert {one["errno"] for one in found if one["path"] == "/missing"} == {"ENOENT"}
    assert all(one["ms"] >= 0 and one["time"].endswith("Z") for one in found)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    reading = mount.path / "né\nw"
    mount.remount()
    assert reading.read_bytes() == bytes(700)
    assert sum(one["bytes"] for one in lines(log) if one["operation"] == "read") == 700


def test_without_the_option_there_is_none(make_mount: MakeMount, minio: Server) -> None:
    """And it costs nothing."""
    mount = make_mount(minio)
    (mount.path / "f").write_bytes(b"text")
    assert "access" not in mount.log.read_text()


def test_a_log_that_cannot_be_written_keeps_from_mounting(minio: Server, tmp_path: Path) -> None:
    """In one line."""
    (tmp_path / "mnt").mkdir()
    done = s3mount(
        *("mount", minio.fresh_bucket(), tmp_path / "mnt", "--endpoint-url", minio.endpoint_url),
        *("--access-log", tmp_path / "missing" / "log"),
        environment={**minio.environment(), "XDG_STATE_HOME": str(tmp_path / "state")},
    )
    assert done.exit_code == Exit.CONFIG
    assert done.line.startswith(f"access log {tmp_path}/missing/log: it cannot be written to (")
    assert not os.path.ismount(tmp_path / "mnt")
