"""In write-back mode a file is closed, not yet sent, and being changed again when the daemon dies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.chain import EXPECTED, WatchedMount
from tests.crash.kept import is_drained, kept_below, wait_until
from tests.crash.works import content
from tests.support.bucket import Bucket
from tests.support.servers import Server

CLOSED = content("f", 1, 10_000)
#: Opens a file as told, writes, and is still at it when it is killed.
WRITER = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_WRONLY | int(sys.argv[2]))
os.write(descriptor, b"x" * 100)
print("written", flush=True)
sys.stdin.read()
"""

Result = tuple[bytes, bytes]
"""What the bucket has then, and what the spool."""


@pytest.fixture
def interrupt(minio: Server, tmp_path: Path) -> Callable[[int], Result]:
    """Let the daemon die while a program that has opened the closed file with some flags writes to it."""

    def play(flags: int) -> Result:
        bucket = Bucket(minio, minio.fresh_bucket())
        bucket.put("f", b"older")
        mount = WatchedMount(minio, bucket.name, tmp_path, ["--write-back=1h"], expected=EXPECTED)
        with mount:
            (mount.path / "f").write_bytes(CLOSED)
            command = [sys.executable, "-c", WRITER, str(mount.path / "f"), str(flags)]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
                assert writer.stdout is not None
                assert writer.stdout.readline() == b"written\n"
                mount.bury()
                writer.kill()
            mount.start()
            wait_until(lambda: is_drained(mount.spool), "the spool is drained")
            kept = kept_below(mount.spool, "")
            return bucket.get("f"), b"".join(one.data for one in kept)

    return play


def test_what_was_closed_stays_in_the_spool_with_what_was_appended(
    interrupt: Callable[[int], Result],
) -> None:
    """Nothing is lost; the bucket keeps the version before, for nobody knows what the program was at."""
    assert interrupt(os.O_APPEND) == (b"older", CLOSED + b"x" * 100)


@pytest.mark.xfail(reason="the one copy of what was closed is truncated in place")
def test_what_was_closed_is_not_lost_to_a_program_that_writes_it_anew(
    interrupt: Callable[[int], Result],
) -> None:
    """The close was answered: the bucket gets that version, or the spool still has it."""
    assert CLOSED in interrupt(os.O_TRUNC)
