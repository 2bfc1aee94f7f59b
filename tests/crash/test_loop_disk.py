"""The disk whose power can be cut forgets what was not synced, and nothing else."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

from tests.crash.loop_disk import loop_disk


def write(path: Path, data: bytes, *, syncs: bool) -> None:
    """Write a file, and sync it and its directory or not."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        if syncs:
            os.fsync(file.fileno())
    if syncs:
        fd = os.open(path.parent, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)


def test_only_what_was_synced_survives_a_power_cut(tmp_path: Path) -> None:
    """A synced file is whole afterwards; one that was not, and one written after the cut, are not there."""
    with loop_disk(tmp_path, 64 << 20) as disk:
        write(disk.path / "synced", b"x" * 100_000, syncs=True)
        write(disk.path / "not-synced", b"y" * 100_000, syncs=False)
        assert (disk.path / "not-synced").read_bytes() == b"y" * 100_000
        disk.cut_power()
        disk.power_on()
        left = {path.name: path.read_bytes() for path in disk.path.iterdir() if path.is_file()}
        assert left == {"synced": b"x" * 100_000}
        write(disk.path / "later", b"z", syncs=True)
        disk.check()
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def test_the_power_is_on_only_when_no_other_mount_namespace_has_the_disk(tmp_path: Path) -> None:
    """One made beside the test, or left by the killed daemon for a moment: the next mount met EIO."""
    with loop_disk(tmp_path, 64 << 20) as disk:
        command = ["unshare", "--mount", "--propagation", "private", "cat"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdin is not None and other.stdout is not None
            other.stdin.write(b"are you there?\n")
            other.stdin.flush()
            assert other.stdout.readline() == b"are you there?\n"
            disk.cut_power()
            disk.unmount()
            disk.mount()
            assert not disk.has_power()
            turning_on = threading.Thread(target=disk.power_on)
            turning_on.start()
            other.stdin.close()
            turning_on.join()
        assert disk.has_power()
        disk.check()
