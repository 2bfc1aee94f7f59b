"""``s3mount wait``, ``flush``, ``explain``, ``refresh``, ``evict``: what they promise, on a real mount."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from s3mount.core.exits import Exit
from tests.cli.command import ROOT, s3mount
from tests.mounted.conftest import MakeMount
from tests.mounted.test_status import listed, status_of
from tests.support.bucket import Bucket
from tests.support.counting_proxy import Close, CountingProxy, Hold
from tests.support.fault_actions import ACCESS_DENIED
from tests.support.mounting import Mount
from tests.support.servers import Server


@pytest.fixture
def late(make_mount: MakeMount, minio: Server, proxy: CountingProxy) -> Mount:
    """A mount in write-back mode that sends nothing by itself for an hour."""
    return make_mount(
        minio,
        None,
        "--write-back=1h",
        endpoint_url=proxy.endpoint_url,
        expected=["is not in the bucket yet"],
    )


def keys_of(mount: Mount) -> list[str]:
    """Return the keys that the bucket has."""
    found = mount.server.client().list_objects_v2(Bucket=mount.bucket).get("Contents", [])
    return sorted(one["Key"] for one in found)


def outcome(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """Run a command with --json; return its exit code and what it printed."""
    done = s3mount(*arguments, "--json")
    assert done.stdout, done.stderr
    return done.exit_code, json.loads(done.stdout)


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start a command."""
    return subprocess.Popen(
        [sys.executable, "-m", "s3mount", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_wait_returns_when_the_bucket_has_the_file(late: Mount) -> None:
    """Not before: `flush` in another process is what sends it."""
    (late.path / "d").mkdir()
    (late.path / "d" / "f").write_bytes(b"text")
    code, said = outcome("wait", late.path / "d" / "f", "--timeout", "100ms")
    assert code == Exit.NOT_DRAINED
    (left,) = said["left"]
    assert (left["path"], left["state"], left["size_bytes"]) == ("/d/f", "queued", 4)
    assert said["is_over"] is False
    waiting = started("wait", late.path / "d")
    assert outcome("flush", late.path) == (
        0,
        {"is_done": True, "files": 1, "left": [], "held": [], "is_over": False, "open": []},
    )
    text, _ = waiting.communicate(timeout=60)
    assert (waiting.returncode, text) == (0, "")
    assert keys_of(late) == ["d/", "d/f"]
    assert outcome("wait", late.path)[1] == {
        "is_done": True,
        "files": 0,
        "left": [],
        "held": [],
        "is_over": False,
    }


def test_wait_for_what_is_not_there_says_so(late: Mount) -> None:
    """It is no file that the bucket has."""
    done = s3mount("wait", late.path / "missing")
    assert done.exit_code == Exit.FAILURE
    assert "no entry b'missing'" in done.line


def test_wait_waits_for_a_file_that_is_still_open(late: Mount) -> None:
    """Until its close, and the upload after it; `flush` leaves it alone, and says so."""
    with (late.path / "f").open("wb") as file:
        file.write(b"half")
        file.flush()
        code, said = outcome("flush", late.path)
        assert (code, said["files"]) == (0, 0)
        assert [one["path"] for one in said["open"]] == ["/f"]
        assert "/f is open for writing, and left alone" in s3mount("flush", late.path).stdout
        assert keys_of(late) == []
        code, said = outcome("wait", late.path / "f", "--timeout", "100ms")
        assert (code, said["left"][0]["is_open"]) == (Exit.NOT_DRAINED, True)
    assert s3mount("flush", late.path).stdout == "s3mount: 1 file sent\n"
    assert keys_of(late) == ["f"]


def test_flush_of_a_directory_waits_for_what_is_below_it(late: Mount, proxy: CountingProxy) -> None:
    """And not for the others, which are sent as well."""
    (late.path / "d").mkdir()
    (late.path / "d" / "f").write_bytes(b"1")
    (late.path / "other").write_bytes(b"2")
    hold = Hold()
    with proxy.rule(hold, operation="PutObject", key="other"):
        code, said = outcome("flush", late.path / "d")
        assert (code, said["files"]) == (0, 1)
        assert "d/f" in keys_of(late)
        hold.release()
    assert outcome("wait", late.path)[0] == 0


def test_a_flush_that_fails_says_why(late: Mount, proxy: CountingProxy) -> None:
    """It does not wait for the tries that follow, and nothing is lost."""
    (late.path / "f").write_bytes(b"text")
    with proxy.rule(ACCESS_DENIED, operation="PutObject"):
        code, said = outcome("flush", late.path)
        assert (code, said["is_over"]) == (Exit.NOT_DRAINED, True)
        (left,) = said["left"]
        assert (left["path"], left["state"]) == ("/f", "failed")
        assert "AccessDenied" in left["error"]
        done = s3mount("flush", late.path)
        assert done.exit_code == Exit.NOT_DRAINED
        assert "s3mount: /f is not in the bucket: failed" in done.stdout
    assert outcome("flush", late.path)[0] == 0
    assert keys_of(late) == ["f"]


def test_a_flush_without_a_server_does_not_wait_for_it(late: Mount, proxy: CountingProxy) -> None:
    """Once the mount knows that there is none; `wait` does, and ends when the server is back."""
    late.expected.append("does not answer; what needs it fails at once until it does")
    (late.path / "f").write_bytes(b"text")
    with proxy.rule(Close()):
        flushing = started("flush", late.path)
        number = 0
        while listed(late)["state"] != "no server":
            number += 1
            with pytest.raises(OSError):
                os.stat(late.path / f"never-listed/{number}")
        flushing.communicate(timeout=60)
        assert flushing.returncode == Exit.NOT_DRAINED
        code, said = outcome("flush", late.path)
        assert (code, said["is_over"], len(said["left"])) == (Exit.NOT_DRAINED, True, 1)
        waiting = started("wait", late.path / "f")
        assert outcome("wait", late.path / "f", "--timeout", "200ms")[0] == Exit.NOT_DRAINED
    waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert keys_of(late) == ["f"]


def test_wait_ends_where_a_file_has_lost(late: Mount) -> None:
    """Against another writer's object: no time makes that good."""
    late.expected.append("was changed elsewhere")
    (late.path / "f").write_bytes(b"ours")
    late.server.client().put_object(Bucket=late.bucket, Key="f", Body=b"theirs")
    waiting = started("wait", late.path / "f", "--json")
    code, said = outcome("flush", late.path)
    text, _ = waiting.communicate(timeout=60)
    assert code == waiting.returncode == Exit.NOT_DRAINED
    # Also who comes later, and whom the name leads to their object.
    for found in (said, json.loads(text), outcome("wait", late.path)[1]):
        (lost,) = found["left"] + found["held"]
        assert (found["is_over"], lost["key"], lost["state"]) == (True, "f", "conflict")
    assert "waits for you" in s3mount("wait", late.path / "f").stdout
    assert status_of(late)["spool"]["held"] == 1
    assert status_of(late)["spool"]["held_files"][0]["key"] == "f"
    late.ends_with = Exit.NOT_DRAINED


def test_explain_has_the_servers_words_and_what_to_do(
    make_mount: MakeMount, minio: Server, proxy: CountingProxy
) -> None:
    """By path, by the directory above, and by the error's name; equal ones are counted."""
    mount = make_mount(minio, endpoint_url=proxy.endpoint_url, expected=["upload of /d/f failed"])
    (mount.path / "d").mkdir()
    with proxy.rule(ACCESS_DENIED, operation="PutObject"):
        for _ in range(2):
            with pytest.raises(PermissionError):
                (mount.path / "d" / "f").write_bytes(b"text")
        code, by_path = outcome("explain", mount.path / "d" / "f")
        text = s3mount("explain", mount.path / "d").stdout
    (error,) = [one for one in by_path["errors"] if one["operation"] == "flush"]
    assert (error["error"], error["count"], error["request"]) == ("EACCES", 2, "PutObject")
    assert "flush /d/f: EACCES, 2 times" in text
    assert "PutObject d/f: HTTP 403 AccessDenied: injected" in text
    assert "look at the policy" in text
    assert "/d/f is not in the bucket: failed" in text
    assert code == 0
    by_errno = outcome("explain", "EACCES", "--of", mount.path)[1]["errors"]
    assert {one["path"] for one in by_errno} == {"/d/f"}
    assert outcome("explain", "EIO", "--of", mount.path)[1]["errors"] == []
    assert "no errors are remembered" in s3mount("explain", mount.path / "other").stdout
    assert outcome("flush", mount.path)[0] == 0
    done = s3mount("explain", "ENOSUCHERROR", "--of", mount.path)
    assert (done.exit_code, done.line.partition(":")[0]) == (Exit.USAGE, "error ENOSUCHERROR")


def test_explain_does_not_know_what_is_ordinary(make_mount: MakeMount, minio: Server) -> None:
    """That a file is not there is no error worth remembering."""
    mount = make_mount(minio)
    for number in range(10):
        assert not (mount.path / f"missing-{number}").exists()
    with pytest.raises(IsADirectoryError):
        (mount.path).open("wb")
    assert outcome("explain", mount.path)[1] == {"errors": [], "uploads": []}


def test_refresh_shows_what_others_did_whatever_the_ttl_is(
    make_mount: MakeMount, real_server: Server
) -> None:
    """New, changed and deleted objects: the kernel is told as well."""
    bucket = Bucket(real_server, real_server.fresh_bucket())
    bucket.put_many({"d/changed": b"1", "d/gone": b"2"})
    mount = make_mount(real_server, bucket.name, "--ttl", "1h", "--negative-ttl", "1h")
    directory = mount.path / "d"
    assert sorted(os.listdir(directory)) == ["changed", "gone"]
    assert not (directory / "new").exists()
    bucket.put_many({"d/changed": b"longer", "d/new": b"3"})
    real_server.client().delete_object(Bucket=bucket.name, Key="d/gone")
    assert (directory / "changed").stat().st_size == 1
    done = s3mount("refresh", directory)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    assert (directory / "changed").stat().st_size == 6
    assert not (directory / "gone").exists()
    assert (directory / "new").read_bytes() == b"3"
    assert sorted(os.listdir(directory)) == ["changed", "new"]


def test_evict_drops_the_blocks_and_no_more(
    make_mount: MakeMount, minio: Server, proxy: CountingProxy
) -> None:
    """The next reader fetches them again; what is not in the bucket stays."""
    bucket = Bucket(minio, minio.fresh_bucket())
    bucket.put_many({"d/f": b"x" * 5000, "d/g": b"y" * 5000})
    mount = make_mount(minio, bucket.name, "--write-back=1h", endpoint_url=proxy.endpoint_url)
    (mount.path / "d" / "unsent").write_bytes(b"only here")
    for name in ("f", "g"):
        assert len((mount.path / "d" / name).read_bytes()) == 5000
    assert proxy.counts()["GetObject"] == 2
    assert s3mount("evict", mount.path / "d" / "f").exit_code == 0
    for name in ("f", "g"):
        assert len((mount.path / "d" / name).read_bytes()) == 5000
    assert proxy.counts()["GetObject"] == 3
    assert s3mount("evict", mount.path).exit_code == 0
    assert (mount.path / "d" / "unsent").read_bytes() == b"only here"
    assert len((mount.path / "d" / "g").read_bytes()) == 5000
    assert proxy.counts()["GetObject"] == 4
    assert outcome("flush", mount.path)[0] == 0


def test_warm_reads_a_tree_so_that_nobody_waits_for_it(
    make_mount: MakeMount, minio: Server, proxy: CountingProxy
) -> None:
    """Afterwards a read, and an ls, ask for nothing; links are not followed."""
    bucket = Bucket(minio, minio.fresh_bucket())
    bucket.put_many({f"d/{number}/f": bytes([number]) * 300_000 for number in range(5)})
    mount = make_mount(minio, bucket.name, "--ttl=1h", endpoint_url=proxy.endpoint_url)
    (mount.path / "d" / "loop").symlink_to("..")
    done = s3mount("warm", mount.path / "d")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "s3mount: 5 files read, 1.4 MiB\n"
    before = proxy.counts()
    for number in range(5):
        assert (mount.path / "d" / str(number) / "f").read_bytes() == bytes([number]) * 300_000
    assert sorted(os.listdir(mount.path / "d")) == ["0", "1", "2", "3", "4", "loop"]
    assert proxy.counts() == before


def test_warm_says_what_it_could_not_read(
    make_mount: MakeMount, minio: Server, proxy: CountingProxy, tmp_path: Path
) -> None:
    """And reads the rest; outside of a mount there is nothing to warm."""
    bucket = Bucket(minio, minio.fresh_bucket())
    bucket.put_many({"d/good": b"1" * 10, "d/bad": b"2" * 10})
    mount = make_mount(minio, bucket.name, endpoint_url=proxy.endpoint_url)
    with proxy.rule(ACCESS_DENIED, operation="GetObject", key="d/bad"):
        done = s3mount("warm", mount.path / "d")
    assert done.exit_code == Exit.FAILURE
    assert done.line == f"{mount.path}/d/bad: Permission denied"
    assert done.stdout == "s3mount: 1 file read, 10 bytes\n"
    assert s3mount("warm", tmp_path).exit_code == Exit.MOUNTPOINT
