"""Spool directories for tests: opened, left by a mount that died, and looked at."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from s3mount.core.objects import ByteRange, ObjectHeaders, ObjectStat
from s3mount.core.spool_record import SpoolRecord
from s3mount.data import disk
from s3mount.data.journal_rows import read_records
from s3mount.data.spool import SpoolDir

ROOT = Path(__file__).parents[2]
KIB = 1 << 10
MIB = 1 << 20
HEADERS = ObjectHeaders(content_type="text/x-odd", metadata={"mode": "33188"})


@contextmanager
def spool_at(
    path: Path,
    *,
    cap_bytes: int | None = None,
    free_floor_bytes: int = 0,
    mountpoint: str = "",
    source: str = "",
) -> Iterator[SpoolDir]:
    """Open a spool directory, and close it as a mount does that ends."""
    spool = SpoolDir(
        str(path),
        cap_bytes=cap_bytes,
        free_floor_bytes=free_floor_bytes,
        mountpoint=mountpoint,
        source=source,
    )
    try:
        yield spool
    finally:
        spool.close()


def play(
    path: Path,
    main: Callable[[SpoolDir], Awaitable[None]],
    cap_bytes: int | None = None,
    free_floor_bytes: int = 0,
) -> None:
    """Run *main* with a spool directory."""
    with spool_at(path, cap_bytes=cap_bytes, free_floor_bytes=free_floor_bytes) as spool:
        trio.run(main, spool)


CHILD = """
import os, signal, sys, trio
from pathlib import Path
from tests.data.spools import *
from s3mount.core.objects import *
from s3mount.core.spool_record import *
from s3mount.data.spool import SpoolDir

async def main():
    spool = SpoolDir(sys.argv[1], cap_bytes=None, free_floor_bytes=0, mountpoint="/mnt/x", source="bucket")
    {body}
    os.kill(os.getpid(), signal.SIGKILL)

trio.run(main)
"""


def die_with(path: Path, body: str) -> None:
    """Run *body*, with an open ``spool``, in a process that then kills itself."""
    code = CHILD.replace("{body}", body.strip().replace("\n", "\n    "))
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, timeout=120, check=False)
    assert done.returncode == -9


def power_cut(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the machine seem to have restarted since."""
    other = tmp_path / "boot_id"
    other.write_text("00000000-aaaa-4bbb-8ccc-dddddddddddd\n")
    monkeypatch.setattr(disk, "BOOT_ID", str(other))


def data_files(path: str | Path) -> list[str]:
    """Return the names of the files with users' bytes."""
    return sorted(name for name in os.listdir(path) if name.endswith(".data"))


def only_record(path: Path) -> SpoolRecord:
    """Return the one row that another process would see."""
    (found,) = read_records(str(path))
    return found


async def nothing(span: ByteRange) -> bytes:
    """Stand for the object underneath where none is to be asked."""
    raise AssertionError(f"{span} was asked for")


def stat(size: int, key: str = "k", etag: str = '"etag"') -> ObjectStat:
    """Describe an object."""
    return ObjectStat(key, size, etag, 0)


class Base:
    """The object underneath: gives exact bytes, records what was asked, waits where told."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.stat = ObjectStat("k", len(body), '"etag"', 0)
        self.asked: list[ByteRange] = []
        self.gate: Callable[[ByteRange], Awaitable[None]] | None = None

    async def fetch(self, span: ByteRange) -> bytes:
        """Return the bytes of *span*."""
        assert span.stop <= len(self.body)
        self.asked.append(span)
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate(span)
        return self.body[span.start : span.stop]


def random_bytes(size: int, seed: int = 1) -> bytes:
    """Return bytes in which every place looks different."""
    return random.Random(seed).randbytes(size)


def content(path: str) -> bytes:
    """Return what is in a file on disk."""
    with open(path, "rb") as file:
        return file.read()
