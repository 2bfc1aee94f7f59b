"""In write-back mode a file is closed, not yet sent, and being changed again when the daemon dies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.command import s3mount
from tests.crash.chain import EXPECTED, WatchedMount
from tests.crash.kept import directory_of, is_drained, kept_below, records, wait_until
from tests.crash.works import content
from tests.support.bucket import Bucket
from tests.support.servers import Server

CLOSED = content("f", 1, 10_000)
BLOCK = 4096
#: Opens a file as told, writes at the beginning or, appending, at the end, and is at it for ever.
WRITER = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_WRONLY | int(sys.argv[2]))
os.lseek(descriptor, int(sys.argv[3]), os.SEEK_SET)
os.write(descriptor, b"x" * 100)
print("written", flush=True)
sys.stdin.read()
"""
Result = tuple[bytes, bytes]
"""What the bucket has then, and what the spool."""


class Rewrites:
    """A mount in write-back mode whose bucket has an older file ``f``."""

    def __init__(self, server: Server, base: Path, older: bytes = b"older") -> None:
        self.server = server
        self.bucket = Bucket(server, server.fresh_bucket())
        self.bucket.put("f", older)
        self.mount = WatchedMount(
            server, self.bucket.name, base, ["--write-back=1h"], expected=(*EXPECTED, "wait for you")
        )

    @property
    def path(self) -> Path:
        """The file."""
        return self.mount.path / "f"

    @contextmanager
    def writing(self, flags: int = 0, offset: int = 0) -> Iterator[None]:
        """Let a program be at the file, from its first write on until the daemon is dead."""
        command = [sys.executable, "-c", WRITER, str(self.path), str(flags), str(offset)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
            try:
                assert writer.stdout is not None
                assert writer.stdout.readline() == b"written\n"
                yield
                self.mount.bury()
            finally:
                writer.kill()

    def mount_again(self) -> None:
        """Let the next mount send what it sends by itself."""
        self.mount.start()
        wait_until(lambda: is_drained(self.mount.spool), "the spool is drained")

    def kept(self) -> list[tuple[str, bytes]]:
        """Return names and bytes of what is left in the spool."""
        return [(one.name, one.data) for one in kept_below(self.mount.spool, "")]


@pytest.fixture
def rewrites(minio: Server, tmp_path: Path) -> Iterator[Rewrites]:
    """A small old file."""
    rewrites = Rewrites(minio, tmp_path)
    with rewrites.mount:
        yield rewrites


@pytest.mark.parametrize(
    ("flags", "edited"),
    [
        (os.O_TRUNC, b"x" * 100),
        (os.O_APPEND, CLOSED + b"x" * 100),
        (0, b"x" * 100 + CLOSED[100:]),
    ],
    ids=["anew", "appending", "in place"],
)
def test_what_was_closed_is_not_lost_to_a_program_that_changes_it_again(
    rewrites: Rewrites, flags: int, edited: bytes
) -> None:
    """The bucket gets what was closed; the edit, which may be half of something, is in the spool."""
    rewrites.path.write_bytes(CLOSED)
    with rewrites.writing(flags):
        pass
    rewrites.mount_again()
    assert rewrites.bucket.get("f") == CLOSED
    assert rewrites.kept() == [("f", edited)]


def test_what_was_closed_and_is_being_changed_is_sent_under_its_new_name(rewrites: Rewrites) -> None:
    """A rename takes both versions along."""
    rewrites.path.write_bytes(CLOSED)
    with rewrites.writing(os.O_TRUNC):
        os.rename(rewrites.path, rewrites.mount.path / "g")
    rewrites.mount_again()
    assert rewrites.bucket.files() == {"g": CLOSED}
    assert rewrites.kept() == [("g", b"x" * 100)]


def test_what_was_unlinked_while_it_was_being_changed_does_not_come_back(rewrites: Rewrites) -> None:
    """Neither what was closed nor the edit."""
    rewrites.path.write_bytes(CLOSED)
    with rewrites.writing(os.O_TRUNC):
        os.unlink(rewrites.path)
    rewrites.mount_again()
    assert rewrites.bucket.files() == {}
    assert rewrites.kept() == []


def test_an_interrupted_edit_of_a_large_file_can_be_sent_after_what_was_closed_before_it(
    minio: Server, tmp_path: Path
) -> None:
    """What neither of the two has written comes from the object that the first has become by then."""
    older = content("f", 0, 5 * BLOCK)
    rewrites = Rewrites(minio, tmp_path, older)
    with rewrites.mount as mount:
        descriptor = os.open(rewrites.path, os.O_WRONLY)
        os.pwrite(descriptor, b"c" * BLOCK, BLOCK)
        os.close(descriptor)
        with rewrites.writing(offset=3 * BLOCK):
            pass
        rewrites.mount_again()
        closed = older[:BLOCK] + b"c" * BLOCK + older[2 * BLOCK :]
        assert rewrites.bucket.get("f") == closed
        (record,) = records(mount.spool)
        mount.stop()
        done = s3mount(
            "spool",
            "push",
            str(record.id),
            "--spool-dir",
            str(directory_of(mount.spool)),
            environment={**minio.environment(), "XDG_STATE_HOME": str(tmp_path / "state")},
        )
        assert done.exit_code == 0, done.stderr
        found = rewrites.bucket.get("f")
    assert found[: 3 * BLOCK] == closed[: 3 * BLOCK]
    assert found[3 * BLOCK :][:100] == b"x" * 100
    assert found[4 * BLOCK :] == closed[4 * BLOCK :]
