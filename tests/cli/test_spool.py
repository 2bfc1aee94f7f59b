"""`s3mount spool`, on what real mounts have left on real servers, beside them and without them."""

from __future__ import annotations

import errno
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from s3mount.core.exits import Exit
from s3mount.core.spool_record import EDGES, INTERRUPTED, NO_KEY
from s3mount.data.journal import JOURNAL_NAME
from s3mount.data.journal_rows import read_records
from s3mount.data.spool import SpoolDir
from tests.cli.command import ROOT, Outcome, s3mount
from tests.cli.place import needs_root_and_fuse
from tests.support.bucket import Bucket
from tests.support.counting_proxy import Answer, Close, CountingProxy, Hold
from tests.support.killing import beside
from tests.support.mounting import Mount, mounts_below
from tests.support.servers import Server
from tests.support.waiting import eventually

pytestmark = needs_root_and_fuse

MIB = 1 << 20
EXPECTED = (
    "upload of",
    "was changed elsewhere",
    "is not in the bucket",
    "of an earlier mount",
    "stays in the spool",
    "cannot be sent",
)


@dataclass
class Spooled:
    """A mount, what it leaves in its spool, and the command that looks at it."""

    mount: Mount
    bucket: Bucket
    proxy: CountingProxy
    server: Server

    def run(self, *arguments: str | Path) -> Outcome:
        """Run ``s3mount spool ARGUMENTS`` on the mount's spool."""
        return s3mount("spool", *arguments, "--spool-dir", self.mount.spool, environment=self.environment())

    def environment(self) -> dict[str, str]:
        """Return where keys and spools are found."""
        return {**self.server.environment(), "XDG_STATE_HOME": str(self.mount.spool.parent / "state")}

    def files(self) -> list[dict[str, object]]:
        """Return what ``list --json`` says of the files."""
        return self._listed("files")

    def jobs(self) -> list[dict[str, object]]:
        """Return what ``list --json`` says of the renames of directories."""
        return self._listed("jobs")

    def _listed(self, what: str) -> list[dict[str, object]]:
        outcome = self.run("list", "--json")
        assert outcome.exit_code == 0, outcome.stderr
        (spool,) = json.loads(outcome.stdout)["spools"]
        return list(spool[what])

    @property
    def directory(self) -> Path:
        """The mount's own spool directory."""
        (path,) = self.mount.spool.glob(f"{self.bucket.name}-*")
        return path

    def lose(self, name: str = "f", body: bytes = b"mine") -> int:
        """Write a new file that loses against somebody else's; return its descriptor."""
        descriptor = os.open(self.mount.path / name, os.O_RDWR | os.O_CREAT)
        os.write(descriptor, body)
        self.bucket.put(name, b"theirs")
        with pytest.raises(OSError) as caught:
            os.fsync(descriptor)
        assert caught.value.errno == errno.ESTALE
        return descriptor

    def end(self) -> None:
        """Unmount; something may be left."""
        self.mount.stop(check=False)

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Let no write reach the server while the block runs."""
        with ExitStack() as stack:
            for operation in ("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"):
                stack.enter_context(self.proxy.rule(Close(), operation=operation))
            yield

    def write_unsent(self, name: str = "f", body: bytes = b"mine") -> None:
        """Write a file whose upload fails, since the server cannot be reached."""
        with self.unreachable(), pytest.raises(OSError):
            (self.mount.path / name).write_bytes(body)


@pytest.fixture
def spooled(minio: Server, tmp_path: Path) -> Iterator[Spooled]:
    """A fresh bucket on MinIO, mounted behind a proxy."""
    with CountingProxy(minio.endpoint_url) as proxy:
        mount = Mount(
            minio,
            minio.fresh_bucket(),
            tmp_path,
            ("--ttl=0", "--negative-ttl=0", "--attempts=1", "--part-size=5M", "--drain-timeout=2s"),
            endpoint_url=proxy.endpoint_url,
            expected=EXPECTED,
        )
        with mount:
            yield Spooled(mount, Bucket(minio, mount.bucket), proxy, minio)
            mount.stop(check=False)
    assert mounts_below(tmp_path) == []


def close(descriptor: int) -> None:
    """Close what has lost: it says ESTALE as often as it is asked."""
    with pytest.raises(OSError) as caught:
        os.close(descriptor)
    assert caught.value.errno == errno.ESTALE


def is_refused(outcome: Outcome, *parts: str, code: int = Exit.NOT_DRAINED) -> bool:
    """Whether a command said so, in one line, and did nothing."""
    assert outcome.exit_code == code, outcome
    for part in parts:
        assert part in outcome.line
    return True


# --- conflicts


@pytest.mark.parametrize("is_mounted", [True, False], ids=["mounted", "unmounted"])
def test_a_conflict_is_listed_and_stored_beside_theirs(spooled: Spooled, is_mounted: bool) -> None:
    """The list says what happened; a plain push replaces nothing, --as stores it under another key."""
    close(spooled.lose())
    if not is_mounted:
        spooled.end()
    (file,) = spooled.files()
    assert (file["id"], file["state"], file["key"], file["size"]) == (1, "conflict", "f", 4)
    text = spooled.run("list").stdout
    assert "conflict  4 bytes" in text and "1 file, 4 bytes, not in the bucket" in text
    assert ("mounted at" in text) == is_mounted or "not mounted" in text
    assert is_refused(spooled.run("push", "1"), "file 1 (f): the bucket has another writer's object", "--as")
    assert is_refused(spooled.run("push", "--all"), "the bucket has another writer's object there")
    assert is_refused(spooled.run("push", "1", "--as", "f"), "the bucket has another writer's object")
    spooled.bucket.put("taken", b"x")
    assert is_refused(spooled.run("push", "1", "--as", "taken"), "the bucket has an object taken already")
    assert spooled.files() == [file]
    outcome = spooled.run("push", "1", "--as", "f.mine")
    assert outcome.exit_code == 0, outcome
    assert "file 1 is in the bucket: s3://" in outcome.stdout
    assert spooled.bucket.files() == {"f": b"theirs", "f.mine": b"mine", "taken": b"x"}
    assert spooled.files() == []
    assert list(spooled.directory.glob("*.data")) == []
    if is_mounted:
        assert (spooled.mount.path / "f.mine").read_bytes() == b"mine"


@pytest.mark.parametrize("is_mounted", [True, False], ids=["mounted", "unmounted"])
def test_a_conflict_replaces_theirs_when_told_to(spooled: Spooled, is_mounted: bool) -> None:
    """With --overwrite, by number or all of them; the mount shows it then."""
    close(spooled.lose("a"))
    close(spooled.lose("b", b"mine too"))
    if not is_mounted:
        spooled.end()
    assert spooled.run("push", "1", "--overwrite").exit_code == 0
    assert spooled.run("push", "--all", "--overwrite").exit_code == 0
    assert spooled.bucket.files() == {"a": b"mine", "b": b"mine too"}
    assert spooled.files() == []
    if is_mounted:
        assert (spooled.mount.path / "a").read_bytes() == b"mine"
        # Nothing is left that unmounting would have to speak of.
        spooled.mount.stop()


def test_a_file_that_a_program_has_open_is_left_to_it(spooled: Spooled) -> None:
    """Neither sent nor deleted beside the mount, and both once it is closed."""
    descriptor = spooled.lose()
    try:
        assert spooled.files()[0]["is_open"]
        for words in (("push", "1", "--overwrite"), ("discard", "1", "--yes")):
            assert is_refused(spooled.run(*words), "file 1 (f): a program has it open in the mount at")
    finally:
        close(descriptor)
    assert not spooled.files()[0]["is_open"]
    assert spooled.run("push", "1", "--overwrite").exit_code == 0
    assert spooled.bucket.get("f") == b"mine"


# --- a server that cannot be reached


def test_what_the_mount_sends_by_itself_is_left_to_it(spooled: Spooled) -> None:
    """It is listed; push and discard say whose it is; export copies it."""
    with spooled.unreachable():
        with pytest.raises(OSError):
            (spooled.mount.path / "f").write_bytes(b"mine")
        (file,) = spooled.files()
        assert (file["state"], file["key"], file["is_open"]) in [
            ("queued", "f", True),
            ("uploading", "f", True),
        ]
        for words in (("push", "1"), ("push", "--all"), ("discard", "1", "--yes")):
            assert is_refused(spooled.run(*words), "the mount at", "sends it by itself")
        target = spooled.mount.spool.parent / "copy"
        outcome = spooled.run("export", "1", target)
        assert outcome.exit_code == 0, outcome
        assert target.read_bytes() == b"mine"
        spooled.end()
    assert spooled.bucket.keys() == []


def test_what_was_left_is_sent_once_the_server_is_back(spooled: Spooled) -> None:
    """Until then push says why not, and the files stay; a failure of one does not keep the others."""
    with spooled.unreachable():
        for name in ("a", "b"):
            with pytest.raises(OSError):
                (spooled.mount.path / name).write_bytes(name.encode())
        spooled.end()
        outcome = spooled.run("push", "--all")
        assert outcome.exit_code == Exit.NOT_DRAINED
        lines = [line for line in outcome.stderr.splitlines() if line.startswith("s3mount: file ")]
        assert len(lines) == 2 and all("it stays in the spool; try again" in line for line in lines)
    assert [file["key"] for file in spooled.files()] == ["a", "b"]
    with spooled.proxy.rule(Close(), operation="PutObject", key="a"):
        assert spooled.run("push", "--all").exit_code == Exit.NOT_DRAINED
    assert spooled.bucket.files() == {"b": b"b"}
    outcome = spooled.run("push", "1")
    assert (outcome.exit_code, spooled.bucket.files()) == (0, {"a": b"a", "b": b"b"})
    assert spooled.run("list").stdout.endswith("The spool is empty: the bucket has everything.\n")
    assert spooled.run("push", "--all").stdout == "s3mount: the spool is empty\n"


def test_somebody_elses_newer_object_is_not_replaced_by_a_late_push(spooled: Spooled) -> None:
    """The file is listed as a conflict from then on."""
    with spooled.unreachable():
        with pytest.raises(OSError):
            (spooled.mount.path / "f").write_bytes(b"mine")
        spooled.end()
    spooled.bucket.put("f", b"theirs")
    assert is_refused(spooled.run("push", "1"), "somebody else has stored another object there")
    assert spooled.bucket.get("f") == b"theirs"
    assert [file["state"] for file in spooled.files()] == ["conflict"]


def test_parts_that_the_mount_has_sent_are_not_sent_again(spooled: Spooled) -> None:
    """Only the request that publishes them was missing."""
    body = os.urandom(12 * MIB)
    with spooled.proxy.rule(Close(), operation="CompleteMultipartUpload"):
        with pytest.raises(OSError):
            (spooled.mount.path / "f").write_bytes(body)
        spooled.end()
    spooled.proxy.clear()
    outcome = spooled.run("push", "1")
    assert outcome.exit_code == 0, outcome
    assert spooled.bucket.get("f") == body
    assert spooled.proxy.counts()["UploadPart"] == 0
    assert spooled.bucket.client.list_multipart_uploads(Bucket=spooled.bucket.name).get("Uploads", []) == []


def test_a_server_that_lies_about_storing_a_file_does_not_cost_it(spooled: Spooled) -> None:
    """The file is taken from the spool only when the bucket has been seen to have it."""
    with spooled.unreachable():
        with pytest.raises(OSError):
            (spooled.mount.path / "f").write_bytes(b"mine")
        spooled.end()
    lie = Answer(200, headers={"ETag": '"d41d8cd98f00b204e9800998ecf8427e"'})
    with spooled.proxy.rule(lie, operation="PutObject", key="f"):
        outcome = spooled.run("push", "1")
    assert outcome.exit_code == Exit.NOT_DRAINED
    assert spooled.bucket.keys() == []
    assert [file["key"] for file in spooled.files()] == ["f"]


def test_a_push_shows_how_far_it_is_at_a_terminal_and_a_line_for_each_file_elsewhere(
    spooled: Spooled,
) -> None:
    """The bar is on the standard error; what a program reads from the output stays in it."""
    with spooled.unreachable():
        for name in ("a", "b"):
            with pytest.raises(OSError):
                (spooled.mount.path / name).write_bytes(bytes(12 * MIB))
        spooled.end()
    spooled.proxy.clear()
    held = Hold()
    ours, theirs = pty.openpty()
    shown = b""
    with (
        spooled.proxy.rule(held, operation="CompleteMultipartUpload", key="b"),
        subprocess.Popen(
            [sys.executable, "-m", "s3mount", "spool", "push", "--all", "--spool-dir", spooled.mount.spool],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={
                **os.environ,
                "TERM": "xterm",
                "COLUMNS": "100",
                "PYTHONPATH": str(ROOT),
                **spooled.environment(),
            },
        ) as process,
    ):
        os.close(theirs)
        # All bytes are out, and the second file is not published yet.
        while not (b"1 of 2 files" in shown and b"24.0/24.0 MiB" in shown):
            shown += os.read(ours, 65536)
        held.release()
        assert process.stdout is not None
        said = process.stdout.read()
        assert process.wait(60) == 0
    os.close(ours)
    source = f"s3://{spooled.bucket.name}"
    assert said.decode().splitlines() == [
        f"s3mount: file {number} is in the bucket: {source}/{name} (12.0 MiB)"
        for number, name in ((1, "a"), (2, "b"))
    ]


def test_a_push_in_a_pipe_says_one_line_for_each_file(spooled: Spooled) -> None:
    """And nothing else: no bar, no terminal's commands."""
    with spooled.unreachable():
        for name in ("a", "b"):
            spooled.write_unsent(name)
        spooled.end()
    outcome = spooled.run("push", "--all")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert outcome.stdout.splitlines() == [
        f"s3mount: file {number} is in the bucket: s3://{spooled.bucket.name}/{name} (4 bytes)"
        for number, name in ((1, "a"), (2, "b"))
    ]


# --- a mount that was killed


def interrupted(spooled: Spooled, position: int = 0, body: bytes = b"half") -> None:
    """Kill the mount while a program is writing `f`."""
    descriptor = os.open(spooled.mount.path / "f", os.O_WRONLY | os.O_CREAT)
    os.pwrite(descriptor, body, position)
    spooled.mount.kill()
    with pytest.raises(OSError):
        os.close(descriptor)


def test_what_was_interrupted_is_sent_only_by_its_number(spooled: Spooled) -> None:
    """Half a file is no file that anybody has asked for; export shows what there is."""
    interrupted(spooled)
    (file,) = spooled.files()
    assert (file["state"], file["cause"], file["size"]) == ("parked", INTERRUPTED, 4)
    target = spooled.mount.spool.parent / "copy"
    assert spooled.run("export", "1", target).exit_code == 0
    assert target.read_bytes() == b"half"
    assert is_refused(spooled.run("export", "1", target), "it exists already", code=Exit.USAGE)
    assert is_refused(spooled.run("push", "--all"), INTERRUPTED, "push it by its number")
    assert spooled.bucket.keys() == []
    assert spooled.run("push", "1").exit_code == 0
    assert spooled.bucket.files() == {"f": b"half"}
    assert spooled.files() == []


@pytest.mark.parametrize("action", ["push", "export"])
def test_bytes_that_were_not_changed_come_from_the_object(spooled: Spooled, action: str) -> None:
    """Only a stretch in the middle was written; the rest is fetched from the version that was opened."""
    old = os.urandom(3 * MIB)
    spooled.bucket.put("f", old, Metadata={"colour": "blue"})
    new = b"n" * 8192
    interrupted(spooled, MIB, new)
    wanted = old[:MIB] + new + old[MIB + len(new) :]
    if action == "push":
        outcome = spooled.run("push", "1")
        assert outcome.exit_code == 0, outcome
        assert spooled.bucket.get("f") == wanted
        assert spooled.bucket.metadata("f")["colour"] == "blue"
        assert EDGES in outcome.stderr
    else:
        target = spooled.mount.spool.parent / "copy"
        outcome = spooled.run("export", "1", target)
        assert outcome.exit_code == 0, outcome
        assert target.read_bytes() == wanted


def test_bytes_that_are_gone_are_said_to_be(spooled: Spooled) -> None:
    """Neither push nor export makes up bytes; --partial writes zeros and prints where."""
    spooled.bucket.put("f", b"o" * 3 * MIB)
    interrupted(spooled, MIB, b"n" * MIB)
    spooled.bucket.put("f", b"theirs")
    target = spooled.mount.spool.parent / "copy"
    assert is_refused(spooled.run("push", "1", "--overwrite"), "bytes of it are missing", "--partial")
    assert is_refused(spooled.run("export", "1", target), "the object that has them is gone", "--partial")
    assert not target.exists()
    outcome = spooled.run("export", "1", target, "--partial")
    assert outcome.exit_code == 0, outcome
    assert target.read_bytes() == bytes(MIB) + b"n" * MIB + bytes(MIB)
    assert f"bytes 0-{MIB} of {3 * MIB} are zeros" in outcome.stdout
    assert f"bytes {2 * MIB}-{3 * MIB} of {3 * MIB} are zeros" in outcome.stdout
    assert spooled.bucket.get("f") == b"theirs"


@contextmanager
def exporting(spooled: Spooled, target: Path) -> Iterator[list[tuple[int, str]]]:
    """Copy the only file to *target*; the block runs while what is missing is being asked for.

    Gives where exit code and standard error are then.
    """
    outcome: list[tuple[int, str]] = []
    hold = Hold()
    (found,) = spooled.files()
    words = ["spool", "export", str(found["id"]), str(target), "--spool-dir", str(spooled.mount.spool)]
    with (
        spooled.proxy.rule(hold, operation="GetObject"),
        subprocess.Popen(
            [sys.executable, "-m", "s3mount", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **spooled.environment()},
        ) as process,
    ):
        hold.wait_held(60)
        yield outcome
        hold.release()
        _, said = process.communicate(timeout=60)
        outcome.append((process.returncode, said))


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed again", "open"])
def test_a_file_that_waits_is_copied_out_as_it_was_closed(spooled: Spooled, is_closed: bool) -> None:
    """Whatever a program does to it meanwhile."""
    spooled.bucket.put("f", b"o" * 3 * MIB)
    spooled.mount.remount("--write-back=1h")
    descriptor = os.open(spooled.mount.path / "f", os.O_WRONLY)
    os.pwrite(descriptor, b"n" * 8192, MIB)
    os.close(descriptor)
    target = spooled.mount.spool.parent / "copy"
    with exporting(spooled, target) as outcome:
        descriptor = os.open(spooled.mount.path / "f", os.O_WRONLY)
        os.pwrite(descriptor, b"m" * 8192, MIB)
        if is_closed:
            os.close(descriptor)
    if not is_closed:
        os.close(descriptor)
    assert outcome == [(0, "")]
    assert target.read_bytes() == b"o" * MIB + b"n" * 8192 + b"o" * (2 * MIB - 8192)


def test_a_file_that_changes_while_it_is_copied_out_is_no_copy(spooled: Spooled) -> None:
    """Half of it would be of before and half of after; there is no target then.

    It has no version that is to be sent: bytes of it were refused, and the program goes on.
    """
    spooled.bucket.put("f", b"o" * 3 * MIB)
    spooled.mount.remount("--write-back=1h", "--spool-cap=1M")
    descriptor = os.open(spooled.mount.path / "f", os.O_WRONLY)
    os.pwrite(descriptor, b"n" * 8192, MIB)
    with pytest.raises(OSError, match="No space"):
        for start in range(2 * MIB, 4 * MIB, 1 << 16):
            os.pwrite(descriptor, b"n" * (1 << 16), start)
    with pytest.raises(OSError, match="No space"):
        os.fsync(descriptor)
    target = spooled.mount.spool.parent / "copy"
    with exporting(spooled, target) as outcome:
        os.pwrite(descriptor, b"m" * 8192, MIB)
    os.ftruncate(descriptor, MIB + 8192)
    os.close(descriptor)
    ((exit_code, said),) = outcome
    assert exit_code == Exit.NOT_DRAINED, said
    assert "a program has changed it meanwhile; try again" in said
    assert not target.exists()


def test_a_file_being_written_is_listed_and_left_alone(spooled: Spooled) -> None:
    """Its size is that of the bytes that are here."""
    with open(spooled.mount.path / "f", "wb", buffering=0) as file:
        file.write(b"half")
        (found,) = spooled.files()
        assert (found["state"], found["size"], found["is_open"]) == ("writing", 4, True)
        target = spooled.mount.spool.parent / "copy"
        for words in (("push", "1"), ("discard", "1", "--yes"), ("export", "1", target)):
            assert is_refused(spooled.run(*words), "it is being written through the mount at")
        assert not target.exists()
    assert spooled.bucket.get("f") == b"half"


# --- discard


@pytest.mark.parametrize("is_mounted", [True, False], ids=["mounted", "unmounted"])
def test_discard_deletes_when_told_to(spooled: Spooled, is_mounted: bool) -> None:
    """Without a terminal to ask at, only with --yes."""
    close(spooled.lose())
    if not is_mounted:
        spooled.end()
    assert is_refused(spooled.run("discard", "1"), "there is no terminal", "--yes", code=Exit.USAGE)
    outcome = spooled.run("discard", "1", "--yes")
    assert (outcome.exit_code, outcome.stdout) == (0, "s3mount: file 1 (f) (4 bytes, conflict) is deleted\n")
    assert spooled.files() == []
    assert list(spooled.directory.glob("*.data")) == []
    assert is_refused(spooled.run("discard", "1", "--yes"), "there is none of this number", code=Exit.USAGE)


def ask(spooled: Spooled, answer: bytes, name: str = "1") -> tuple[int, str]:
    """Discard *name* at a terminal, answering *answer*; return the exit code and what was shown."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer)
        words = ["spool", "discard", name, "--spool-dir", str(spooled.mount.spool)]
        done = subprocess.run(
            [sys.executable, "-m", "s3mount", *words],
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(ROOT), **spooled.environment()},
        )
    finally:
        os.close(ours)
        os.close(theirs)
    return done.returncode, done.stdout


def test_discard_asks_at_a_terminal(spooled: Spooled) -> None:
    """It names the file, its size and state, and takes nothing but yes for yes."""
    close(spooled.lose())
    spooled.end()
    for answer in (b"n\n", b"\n", b"what\n", b"\x04"):
        code, shown = ask(spooled, answer)
        assert code == Exit.NOT_DRAINED
        assert shown.startswith(
            "Delete file 1 (f) (4 bytes, conflict)? No other place has these bytes. [y/N]"
        )
        assert len(spooled.files()) == 1
    assert ask(spooled, b"y\n")[0] == 0
    assert spooled.files() == []


def test_an_upload_that_was_begun_for_a_discarded_file_is_aborted(spooled: Spooled) -> None:
    """Not by discard, which talks to no server, but by whoever works with the bucket next."""
    with spooled.proxy.rule(Close(), operation="CompleteMultipartUpload"):
        with pytest.raises(OSError):
            (spooled.mount.path / "f").write_bytes(bytes(12 * MIB))
        spooled.end()
    uploads = spooled.bucket.client.list_multipart_uploads
    assert len(uploads(Bucket=spooled.bucket.name)["Uploads"]) == 1
    assert spooled.run("discard", "1", "--yes").exit_code == 0
    spooled.mount.start()
    (spooled.mount.path / "g").write_bytes(bytes(12 * MIB))
    assert uploads(Bucket=spooled.bucket.name).get("Uploads", []) == []


# --- renames of directories


def test_a_rename_under_way_is_listed_with_how_far_it_is(spooled: Spooled) -> None:
    """While it copies, while it deletes, and after kill -9; once it is done there is nothing to show."""
    (spooled.mount.path / "d").mkdir()
    for number in range(20):
        (spooled.mount.path / "d" / str(number)).write_bytes(b"x")

    def rename(old: str, new: str) -> None:
        os.rename(spooled.mount.path / old, spooled.mount.path / new)

    held = Hold()
    with (
        spooled.proxy.rule(held, operation="CopyObject", first=11),
        beside(lambda: rename("d", "n")) as result,
    ):
        held.wait_held(30)
        eventually(lambda: spooled.jobs()[0]["done"], 11)
        (job,) = spooled.jobs()
        assert (job["kind"], job["old"], job["new"], job["phase"]) == ("rename", "d/", "n/", "copying")
        assert (job["total"], job["cause"]) == (21, "")
        text = spooled.run("list").stdout
        assert "copying  11 of 21  " in text and "d/ -> n/" in text
        assert "1 rename of a directory is not finished" in text
        assert "bucket has everything" not in text
        spooled.mount.kill()
        held.release()
    assert isinstance(result[0], OSError)
    assert "copying  11 of 21  " in spooled.run("list").stdout
    spooled.mount.start()
    eventually(spooled.jobs, [])
    text = spooled.run("list").stdout
    assert text.endswith("The spool is empty: the bucket has everything.\n")
    assert sorted(os.listdir(spooled.mount.path / "n")) == sorted(map(str, range(20)))
    held = Hold()
    with spooled.proxy.rule(held, operation="DeleteObjects"), beside(lambda: rename("n", "d")) as result:
        held.wait_held(30)
        assert "deleting  0 of 21  " in spooled.run("list").stdout
        held.release()
    assert result == [None]
    assert spooled.jobs() == []


@contextmanager
def renaming(spooled: Spooled, objects: int, operation: str, *, first: int) -> Iterator[None]:
    """Rename `d`, of *objects* files and its marker, to `n`, held at the *first* *operation* and after."""
    (spooled.mount.path / "d").mkdir()
    for number in range(objects):
        (spooled.mount.path / "d" / str(number)).write_bytes(b"x")
    held = Hold()
    with (
        spooled.proxy.rule(held, operation=operation, first=first),
        beside(lambda: os.rename(spooled.mount.path / "d", spooled.mount.path / "n")),
    ):
        held.wait_held(30)
        yield
        held.release()


def names_below(spooled: Spooled, prefix: str) -> set[str]:
    """Return the names of the objects below a prefix of the bucket."""
    return {key.removeprefix(prefix) for key in spooled.bucket.keys(prefix)}


def test_a_rename_whose_bucket_is_gone_for_good_is_given_up(spooled: Spooled) -> None:
    """Not while the mount works on it; without one, and without asking any server."""
    with renaming(spooled, 20, "CopyObject", first=11):
        eventually(lambda: spooled.jobs()[0]["done"], 11)
        assert spooled.jobs()[0]["id"] == "r1"
        refused = spooled.run("discard", "r1", "--yes")
        assert is_refused(
            refused, "rename r1 (d/ -> n/): the mount at", "goes on with it by itself", "unmount"
        )
        spooled.mount.kill()
    connections = spooled.proxy.accepted
    assert is_refused(spooled.run("discard", "r1"), "there is no terminal", code=Exit.USAGE)
    assert is_refused(spooled.run("discard", "r2", "--yes"), "rename r2: there is none", code=Exit.USAGE)
    outcome = spooled.run("discard", "r1", "--yes")
    assert outcome.exit_code == 0, outcome
    assert outcome.stdout == (
        "s3mount: rename r1 (d/ -> n/) (copying, 11 of 21) is given up: as far as the bucket is there, d/ "
        "has everything, and nothing of it was deleted; 11 of its objects, or some more, are copied to n/ as "
        "well\n"
    )
    assert spooled.run("list").stdout.endswith("The spool is empty: the bucket has everything.\n")
    assert is_refused(spooled.run("discard", "r1", "--yes"), "there is none", code=Exit.USAGE)
    assert spooled.proxy.accepted == connections


def test_a_rename_that_was_copying_is_given_up_with_all_at_the_old_name(spooled: Spooled) -> None:
    """As was said. The next mount shows both names as the bucket has them, and neither is busy."""
    with renaming(spooled, 6, "CopyObject", first=3):
        eventually(lambda: spooled.jobs()[0]["done"], 3)
        spooled.mount.kill()
    code, shown = ask(spooled, b"n\n", "r1")
    assert (code, len(spooled.jobs())) == (Exit.NOT_DRAINED, 1)
    assert shown.startswith(
        "Give up rename r1 (d/ -> n/) (copying, 3 of 7)? As far as the bucket is there, d/ has"
    )
    assert shown.endswith("stays in the spool\n")
    assert ask(spooled, b"y\n", "r1")[0] == 0
    assert spooled.jobs() == []
    everything = {"", *map(str, range(6))}
    assert names_below(spooled, "d/") == everything
    copied = names_below(spooled, "n/")
    assert copied <= everything and len(copied) >= 3
    spooled.mount.start()
    for name in ("d", "n"):
        assert set(os.listdir(spooled.mount.path / name)) == names_below(spooled, f"{name}/") - {""}
        (spooled.mount.path / name / "new").write_bytes(b"x")
    assert names_below(spooled, "d/") == everything | {"new"}


def test_a_rename_that_was_deleting_is_given_up_with_all_at_the_new_name(spooled: Spooled) -> None:
    """As was said; with a file beside it that the same command discards."""
    close(spooled.lose("f"))
    with renaming(spooled, 6, "DeleteObjects", first=1):
        assert spooled.jobs()[0]["phase"] == "deleting"
        spooled.mount.kill()
    outcome = spooled.run("discard", "r1", "1", "--yes")
    assert outcome.exit_code == 0, outcome
    assert "file 1 (f) (4 bytes, conflict) is deleted\n" in outcome.stdout
    assert (
        "is given up: as far as the bucket is there, n/ has everything; 0 of the 7 objects" in outcome.stdout
    )
    assert (spooled.files(), spooled.jobs()) == ([], [])
    everything = {"", *map(str, range(6))}
    assert names_below(spooled, "n/") == everything
    assert names_below(spooled, "d/") <= everything


# --- finding, and what cannot be read


def test_the_spool_is_found_by_mountpoint_bucket_and_directory(spooled: Spooled) -> None:
    """And without any of them; what is not known is an error."""
    close(spooled.lose())
    environment = spooled.environment()
    ways = [str(spooled.mount.path), spooled.bucket.name, f"s3://{spooled.bucket.name}/"]
    ways += [str(spooled.directory), str(spooled.mount.spool)]
    for where in ways:
        outcome = s3mount("spool", "list", where, environment=environment)
        assert outcome.exit_code == 0, outcome
        assert outcome.stdout.count("conflict") == 1, where
        assert str(spooled.directory) in outcome.stdout
    everything = s3mount("spool", "list", environment=environment)
    assert str(spooled.directory) in everything.stdout
    assert (
        s3mount("spool", "push", "1", "--overwrite", "--of", ways[0], environment=environment).exit_code == 0
    )
    for words in (["list", "no-such-bucket"], ["list", "--spool-dir", "/proc"]):
        assert s3mount("spool", *words, environment=environment).exit_code == Exit.USAGE
    assert is_refused(spooled.run("push", "99"), "file 99: there is none of this number", code=Exit.USAGE)


def test_a_number_that_two_spools_have_must_be_said_of_which(spooled: Spooled, tmp_path: Path) -> None:
    """Nothing is sent or deleted by a guess."""
    close(spooled.lose())
    spooled.end()
    other = spooled.directory.parent / "other"
    subprocess.run(["cp", "-a", spooled.directory, other], check=True)
    assert is_refused(
        spooled.run("discard", "1", "--yes"), "one of this number in several spools", "--of", code=Exit.USAGE
    )
    outcome = s3mount("spool", "discard", "1", "--yes", "--spool-dir", other)
    assert outcome.exit_code == 0, outcome
    assert len(list(spooled.directory.glob("*.data"))) == 1


def test_files_without_a_row_and_damaged_journals_are_listed(spooled: Spooled) -> None:
    """By the names of their files; they can be exported, and sent once somebody says as what."""
    close(spooled.lose())
    spooled.end()
    (data,) = spooled.directory.glob("*.data")
    for companion in ("-wal", "-shm"):
        Path(f"{spooled.directory / JOURNAL_NAME}{companion}").unlink(missing_ok=True)
    (spooled.directory / JOURNAL_NAME).write_bytes(b"no database" * 1000)
    text = spooled.run("list").stdout
    assert "the journal is damaged" in text and data.name in text and "parked" in text
    target = spooled.mount.spool.parent / "copy"
    assert spooled.run("export", data.name, target).exit_code == 0
    assert target.read_bytes() == b"mine"
    push = ["push", data.name, "--bucket", spooled.bucket.name, "--endpoint-url", spooled.server.endpoint_url]
    refused = spooled.run(*push)
    assert refused.exit_code == Exit.NOT_DRAINED and "--as KEY" in refused.stderr
    outcome = spooled.run(*push, "--as", "rescued")
    assert outcome.exit_code == 0, outcome
    assert spooled.bucket.get("rescued") == b"mine"


def test_a_directory_that_is_no_spool_is_left_alone(tmp_path: Path) -> None:
    """Other programs' files end in .data, too."""
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    (other / "model.data").write_bytes(b"")
    for words in (["list", tmp_path], ["list", other], ["push", "--all", "--of", other]):
        outcome = s3mount("spool", *words, environment={"XDG_STATE_HOME": str(tmp_path / "state")})
        assert is_refused(outcome, "there is none that is known", code=Exit.USAGE)
    assert os.listdir(other) == ["model.data"]


def test_an_orphan_is_listed(spooled: Spooled) -> None:
    """A file that the journal does not know."""
    spooled.end()
    (spooled.directory / "orphan.data").write_bytes(b"whose?")
    (file,) = spooled.files()
    assert (file["id"], file["key"], file["size"], file["cause"]) == (None, None, 6, NO_KEY)


def test_two_commands_do_not_work_in_one_spool(spooled: Spooled) -> None:
    """The second is told of the first; looking is always possible."""
    close(spooled.lose())
    spooled.end()
    with closing(SpoolDir(str(spooled.directory), cap_bytes=None, free_floor_bytes=0)):
        outcome = spooled.run("discard", "1", "--yes")
        assert is_refused(outcome, f"is in use by process {os.getpid()}", code=Exit.CACHE_DIR)
        assert "try again when it has ended" in outcome.line
        assert "a command is at work there" in spooled.run("list").stdout
    assert spooled.run("discard", "1", "--yes").exit_code == 0


def test_a_push_to_another_bucket_must_be_meant(spooled: Spooled) -> None:
    """The journal knows whose the files are; --elsewhere says that it is meant."""
    close(spooled.lose())
    spooled.end()
    other = Bucket(spooled.server, spooled.server.fresh_bucket())
    push = ("push", "1", "--overwrite", "--bucket", other.name)
    assert is_refused(spooled.run(*push), f"the bucket is {other.name}", "--elsewhere", code=Exit.USAGE)
    direct = ("push", "1", "--overwrite", "--endpoint-url", spooled.server.endpoint_url)
    assert is_refused(spooled.run(*direct), "the server is http://", "--elsewhere", code=Exit.USAGE)
    assert spooled.run(*push, "--elsewhere").exit_code == 0
    assert other.files() == {"f": b"mine"}
    assert spooled.bucket.files() == {"f": b"theirs"}


def test_a_push_that_is_killed_goes_on_where_it_was(spooled: Spooled) -> None:
    """The row stays, and what the server has of the file is not sent again."""
    body = os.urandom(22 * MIB)
    close(spooled.lose(body=body))
    spooled.end()
    words = ["spool", "push", "1", "--overwrite", "--spool-dir", str(spooled.mount.spool)]
    words += ["--upload-concurrency", "1"]
    with (
        spooled.proxy.rule(Close(), operation="CompleteMultipartUpload") as held,
        subprocess.Popen(
            [sys.executable, "-m", "s3mount", *words, "--attempts", "50"],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT), **spooled.environment()},
        ) as process,
    ):
        while not held.seen:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert [file["state"] for file in spooled.files()] == ["conflict"]
    spooled.proxy.clear()
    outcome = spooled.run(*words[1:4])
    assert outcome.exit_code == 0, outcome
    assert spooled.proxy.counts()["UploadPart"] == 0
    assert spooled.bucket.get("f") == body


@pytest.mark.parametrize(
    "words",
    [["push"], ["push", "1", "--all"], ["push", "1", "2", "--as", "k"], ["push", "--all", "--as", "k"], []],
    ids=" ".join,
)
def test_command_lines_that_say_too_little_or_too_much(words: Sequence[str]) -> None:
    """They are refused before anything is looked at."""
    assert s3mount("spool", *words).exit_code == Exit.USAGE


def test_names_from_the_bucket_do_not_reach_the_terminal_as_they_are(spooled: Spooled) -> None:
    """Anybody who can write to the bucket chooses keys, but no colours."""
    close(spooled.lose("red\x1b[31m\n"))
    text = spooled.run("list").stdout
    assert "red\\x1b[31m\\n" in text and "\x1b" not in text
    (record,) = read_records(str(spooled.directory))
    assert record.key == "red\x1b[31m\n"
