"""Directory trees to copy around, and records of them to compare."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path
from typing import NamedTuple


class Record(NamedTuple):
    """What a copy that keeps everything must keep of one entry."""

    mode: str
    mtime_ns: int
    content: bytes


def make_tree(top: Path, *, seed: int = 1, private_directory: bool = True) -> None:
    """Fill *top*, a new directory, with files of many sizes, modes and times, links and directories.

    *private_directory*: one of the directories is for its owner alone.
    """
    rng = random.Random(seed)
    sizes = (0, 1, 511, 4096, 4097, 70_000, 1_200_000)
    for place in ("", "docs", "docs/deep/er", "src", "src/with space", "ünïcode-日本"):
        directory = top / place
        directory.mkdir(parents=True, exist_ok=True)
        for number, size in enumerate(sizes[: 3 + len(place) % 5]):
            (directory / f"file{number}.bin").write_bytes(rng.randbytes(size))
    (top / "empty").mkdir()
    (top / "src" / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (top / "src" / "run.sh").chmod(0o755)
    (top / "docs" / "secret.txt").write_text("private\n")
    (top / "docs" / "secret.txt").chmod(0o600)
    (top / "docs" / "link").symlink_to("secret.txt")
    (top / "dangling").symlink_to("no/such/file")
    if private_directory:
        (top / "empty").chmod(0o700)
    # Directories last, and inner ones first: writing into one changes its time.
    for path in sorted(top.rglob("*"), reverse=True):
        time_ns = 1_500_000_000 * 10**9 + rng.randrange(10**17)
        os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)


def record(top: Path, *, directory_attributes: bool = True) -> dict[str, Record]:
    """Return what is below *top*, by relative path.

    *directory_attributes*: with the modes and times of directories too.
    """
    records = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        content = b""
        if stat.S_ISLNK(status.st_mode):
            content = os.fsencode(os.readlink(path))
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        is_bare = stat.S_ISDIR(status.st_mode) and not directory_attributes
        records[str(path.relative_to(top))] = Record(
            mode="d" if is_bare else stat.filemode(status.st_mode),
            mtime_ns=0 if is_bare else status.st_mtime_ns,
            content=content,
        )
    return records


def contents(top: Path) -> dict[str, bytes]:
    """Return the bytes of every regular file below *top*, by relative path."""
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in sorted(top.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
