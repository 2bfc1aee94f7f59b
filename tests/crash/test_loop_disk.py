"""The disk whose power can be cut forgets what was not synced, and nothing else."""

from __future__ import annotations

import os
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
