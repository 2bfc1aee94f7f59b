"""Bytes in the spool that a restart of the machine may have spoiled are recognised, kept, and never sent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from s3mount.core.spool_record import SpoolState
from tests.crash.chain import EXPECTED, WatchedMount
from tests.crash.kept import directory_of, records, wait_until
from tests.crash.power import another_boot, shared_directory
from tests.crash.syscalls import SyscallWatch
from tests.crash.works import content
from tests.support.bucket import Bucket
from tests.support.mounting import mounts_below
from tests.support.servers import Server

NEW = content("new", 1, 200_000)
OLD = content("old", 1, 1000)
WRITER = "import sys; open(sys.argv[1], 'wb', buffering=0).write(open(sys.argv[2], 'rb').read())"


@dataclass
class Interrupted:
    """A mount that died while it sent NEW over OLD."""

    mount: WatchedMount
    bucket: Bucket
    base: Path

    @property
    def data_file(self) -> Path:
        """The file in the spool."""
        (record,) = records(self.mount.spool)
        assert (record.state, record.is_synced) == (SpoolState.UPLOADING, False)
        return directory_of(self.mount.spool) / record.file_name

    def boot(self, name: str) -> None:
        """Mount again; *name* tells one boot of the machine from another."""
        self.mount.prefix = tuple(another_boot(self.base / name))
        self.mount.start()

    def settle(self) -> list[SpoolState]:
        """Return the states of what is in the spool once nothing is to be sent or compared any more."""
        waits = (SpoolState.QUEUED, SpoolState.UPLOADING)
        wait_until(lambda: not any(one.state in waits for one in records(self.mount.spool)), "nothing waits")
        return [record.state for record in records(self.mount.spool)]


@pytest.fixture
def interrupted(minio: Server, tmp_path: Path) -> Iterator[Interrupted]:
    """Half of NEW is on its way when the daemon dies, in the boot named "first"."""
    bucket = Bucket(minio, minio.fresh_bucket())
    bucket.put("f", OLD)
    source = tmp_path / "source"
    source.write_bytes(NEW)
    with ExitStack() as stack:
        stack.enter_context(shared_directory(tmp_path))
        mount = WatchedMount(minio, bucket.name, tmp_path, expected=EXPECTED)
        watch = stack.enter_context(SyscallWatch(mount.spool))
        mount.prefix = (*another_boot(tmp_path / "first"), *watch.prefix())
        stack.enter_context(mount)
        watch.arm_bytes(len(NEW))
        subprocess.run(
            [sys.executable, "-c", WRITER, mount.path / "f", source], capture_output=True, timeout=60
        )
        assert watch.fired is not None
        mount.bury()
        yield Interrupted(mount, bucket, tmp_path)
    assert mounts_below(tmp_path) == []


def test_what_only_the_process_lost_is_sent(interrupted: Interrupted) -> None:
    """The machine has not restarted: the bytes are as they were."""
    assert interrupted.data_file.read_bytes() == NEW
    interrupted.boot("first")
    assert interrupted.settle() == []
    assert interrupted.bucket.get("f") == NEW


@pytest.mark.parametrize("garbage", [NEW[:100_000] + bytes(100_000), NEW])
def test_after_a_restart_bytes_that_were_not_synced_are_kept_and_not_sent(
    interrupted: Interrupted, garbage: bytes
) -> None:
    """Zeros in its midst, and also what is right by chance: nobody can know."""
    interrupted.data_file.write_bytes(garbage)
    path = interrupted.data_file
    interrupted.boot("second")
    assert interrupted.settle() == [SpoolState.PARKED]
    assert interrupted.bucket.get("f") == OLD
    assert (interrupted.mount.path / "f").read_bytes() == OLD
    assert path.read_bytes() == garbage


def test_after_a_restart_bytes_that_the_bucket_has_already_go(interrupted: Interrupted) -> None:
    """The server had carried the request out: nothing waits for the user."""
    interrupted.bucket.put("f", NEW)
    interrupted.boot("second")
    assert interrupted.settle() == []
    assert interrupted.bucket.get("f") == NEW
