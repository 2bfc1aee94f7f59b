"""``s3mount doctor``: what it says of a machine and of a server is so, and it leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s3mount.cli.doctor_machine import _updatedb
from s3mount.cli.findings import Verdict, bad, good, lines, note
from s3mount.core.exits import Exit
from tests.cli.command import as_nobody, s3mount
from tests.support.counting_proxy import CountingProxy
from tests.support.fault_actions import ACCESS_DENIED
from tests.support.servers import Server


def examined(
    server: Server, *arguments: str | Path, endpoint_url: str | None = None
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the exit code and the findings by their thing."""
    done = s3mount(
        "doctor",
        *arguments,
        "--json",
        "--endpoint-url",
        endpoint_url or server.endpoint_url,
        environment=server.environment(),
    )
    assert done.stdout, done.stderr
    return done.exit_code, {one["thing"]: one for one in json.loads(done.stdout)["findings"]}


def test_a_server_that_is_well_is_said_to_be(server: Server) -> None:
    """On each; what one does not honour is a note. Nothing stays in the bucket."""
    bucket = server.fresh_bucket()
    code, found = examined(server, f"{bucket}/some/prefix")
    assert code == 0, found
    for thing in ("list", "write", "read", "send in parts", "delete"):
        assert found[f"permission to {thing}"]["verdict"] == "ok"
    assert "MiB/s, 4 objects of 8 MiB at once" in found["sending"]["result"]
    assert "MiB/s" in found["fetching"]["result"]
    assert "median of 10 HEADs" in found["round trip"]["result"]
    assert found["clock"]["verdict"] == "ok"
    assert found["server"]["result"].startswith(server.endpoint_url)
    expected = "note" if server.name == "moto" else "ok"
    assert found["conditional writes"]["verdict"] == expected
    client = server.client()
    assert client.list_objects_v2(Bucket=bucket).get("Contents", []) == []
    assert client.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_keys_that_may_not_write_are_enough_for_a_read_only_mount(
    minio: Server, proxy: CountingProxy
) -> None:
    """A note, not a failure, with what to allow; and nothing more is tried."""
    bucket = minio.fresh_bucket()
    with proxy.rule(ACCESS_DENIED, method="PUT"), proxy.rule(ACCESS_DENIED, method="POST"):
        code, found = examined(minio, bucket, endpoint_url=proxy.endpoint_url)
    assert code == 0
    writing = found["permission to write"]
    assert (writing["verdict"], writing["advice"]) == (
        "note",
        "allow s3:PutObject, or mount with --read-only",
    )
    assert "AccessDenied" in writing["result"]
    assert found["round trip"]["verdict"] == "ok"
    assert not {"sending", "fetching", "conditional writes"} & found.keys()


@pytest.mark.parametrize(
    ("operation", "thing", "action"),
    [
        ("GetObject", "permission to read", "s3:GetObject"),
        ("DeleteObject", "permission to delete", "s3:DeleteObject"),
        ("AbortMultipartUpload", "permission to send in parts", "s3:AbortMultipartUpload"),
    ],
)
def test_a_permission_that_is_missing_is_named(
    minio: Server, proxy: CountingProxy, operation: str, thing: str, action: str
) -> None:
    """A mount would work in part only."""
    with proxy.rule(ACCESS_DENIED, operation=operation):
        code, found = examined(minio, minio.fresh_bucket(), endpoint_url=proxy.endpoint_url)
    assert code == Exit.FAILURE
    assert (found[thing]["verdict"], found[thing]["advice"]) == ("BAD", f"allow {action}")


def test_what_keeps_from_mounting_is_one_finding(minio: Server) -> None:
    """Beside those of the machine, with the same words and advice as a mount has."""
    code, found = examined(minio, "no-such-bucket")
    assert code == Exit.FAILURE
    finding = found['bucket "no-such-bucket"']
    assert finding["verdict"] == "BAD"
    assert finding["result"].startswith("does not exist")
    assert found["FUSE"]["verdict"] == "ok"


def test_without_a_bucket_the_machine_alone_is_looked_at() -> None:
    """As a table with what to change below it."""
    done = s3mount("doctor")
    assert done.exit_code == 0
    things = [
        line.split()[1] for line in done.stdout.splitlines() if line.startswith(("ok ", "note ", "BAD "))
    ]
    assert things[:2] == ["kernel", "FUSE"]


def test_an_ordinary_user_learns_what_only_root_has() -> None:
    """Read-ahead of 1 MiB, and letting others in."""
    done = s3mount("doctor", launcher=as_nobody(), environment={"HOME": "/nonexistent"})
    assert "note  read-ahead" in done.stdout
    assert "other users" in done.stdout


@pytest.mark.parametrize(
    ("text", "is_noted"),
    [('PRUNEFS = "nfs sshfs"\n', True), ('PRUNEFS="nfs fuse.s3mount"\n', False), ("", True), (None, False)],
)
def test_updatedb_is_to_keep_out(tmp_path: Path, text: str | None, is_noted: bool) -> None:
    """Where there is one that would look into mounts."""
    path = tmp_path / "updatedb.conf"
    if text is not None:
        path.write_text(text)
    assert [one.verdict for one in _updatedb(path)] == [Verdict.NOTE] * is_noted


def test_what_does_not_work_comes_first_in_the_advice() -> None:
    """A terminal obeys nothing that a server has said."""
    found = [good("a", "fine"), note("b", "meh", "improve b"), bad("c", "no\x1b[2J", "repair c")]
    assert lines(found) == [
        "ok    a  fine",
        "note  b  meh",
        "BAD   c  no\\x1b[2J",
        "",
        "what to change:",
        "  c: repair c",
        "  b: improve b",
    ]
    assert lines([good("a", "fine")]) == ["ok  a  fine"]
