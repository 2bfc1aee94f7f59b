"""One reader or writer of the stress test, a process of its own, for a given time.

Its arguments are ROLE NUMBER DIRECTORY SECONDS; what it prints is what it did. It ends with an error at
the first wrong byte. Files are of three kinds, each telling by itself which bytes are right:

``wN-r*``  replaced by rename: who opens one reads one whole version
``wN-p``   written in place: every line is one of a version, at its own place
``bigN``   never changed: every eight bytes say where they stand
"""

from __future__ import annotations

import errno
import os
import random
import sys
import time
from array import array
from collections import Counter
from pathlib import Path

WRITERS = 8
BIG_FILES = 4
BIG_SIZE = 24 * 1024 * 1024
LINE = 64
#: A multiple of LINE: no line is torn between two writes.
PIECE = 1500 * LINE


def line(name: str, version: int, number: int) -> bytes:
    """Return line *number* of *version* of file *name*."""
    said = f"{name} {version} {number} ".encode()
    return (said * LINE)[: LINE - 1] + b"\n"


def whole(name: str, version: int) -> bytes:
    """Return a whole version, of 1 KiB to 6 MiB: of one block or many, of one PUT or several parts."""
    chances = (16, 100, 1_000, 10_000, 10_000, 50_000, 98_304)
    lines = random.Random(f"{name} {version}").choice(chances)
    return b"".join(line(name, version, number) for number in range(lines))


def big(number: int, start: int, size: int) -> bytes:
    """Return *size* bytes of big file *number* from *start*."""
    first, last = start // 8, -(-(start + size) // 8)
    data = array("Q", range(first + (number << 40), last + (number << 40))).tobytes()
    return data[start - first * 8 :][:size]


def write(number: int, directory: Path, until: float) -> Counter[str]:
    """Write version after version of a few files, by all the ways that programs do."""
    rng = random.Random(number)
    done: Counter[str] = Counter()
    version = 0
    while time.monotonic() < until:
        version += 1
        way = rng.choice(("rename", "rename", "truncate", "fsync", "pieces"))
        name = f"w{number}-r{version % 2}" if way == "rename" else f"w{number}-p"
        data, path = whole(name, version), directory / name
        if way == "rename":
            (directory / f"{name}.new").write_bytes(data)
            (directory / f"{name}.new").rename(path)
        elif way == "pieces":
            with path.open("wb", buffering=0) as file:
                for start in range(0, len(data), PIECE):
                    file.write(data[start : start + PIECE])
        else:
            with path.open("wb") as file:
                file.write(data)
                if way == "fsync":
                    file.flush()
                    os.fsync(file.fileno())
        # Only this process writes it, so what it reads back is what it wrote.
        assert path.read_bytes() == data, f"{name}: version {version} reads back wrong"
        assert path.stat().st_size == len(data)
        done[way] += 1
        if version % 7 == 0:
            path.unlink()
            assert not path.exists()
            done["unlink"] += 1
    return done


def read(number: int, directory: Path, until: float) -> Counter[str]:
    """Read what others write, and big files that nobody does, by all the ways that programs do."""
    rng = random.Random(1000 + number)
    done: Counter[str] = Counter()
    while time.monotonic() < until:
        way = rng.choice(("renamed", "renamed", "in place", "random", "stream", "list"))
        if way == "list":
            with os.scandir(directory) as entries:
                names = {entry.name for entry in entries}
            assert {f"big{which}" for which in range(BIG_FILES)} <= names
        elif way in ("random", "stream"):
            read_big(rng, directory, way)
        else:
            kind = f"r{rng.randrange(2)}" if way == "renamed" else "p"
            way = read_changing(directory / f"w{rng.randrange(WRITERS)}-{kind}", way)
        done[way] += 1
    return done


def read_changing(path: Path, way: str) -> str:
    """Read one of the files that change; return what came of it."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return "absent"
    except OSError as exc:
        # Between the look-up and the open it was replaced, and replaced again when the kernel retried.
        assert exc.errno == errno.ESTALE, exc
        return "ESTALE"
    assert len(data) % LINE == 0, f"{path.name}: {len(data)} bytes"
    versions = set()
    for number in range(len(data) // LINE):
        found = data[number * LINE : (number + 1) * LINE]
        version = int(found.split(b" ", 2)[1])
        versions.add(version)
        assert found == line(path.name, version, number), f"{path.name}: line {number} is {found!r}"
    if way == "renamed":
        assert len(versions) == 1, f"{path.name}: a mixture of {versions}"
        assert data == whole(path.name, versions.pop()), f"{path.name} is incomplete"
    return way


def read_big(rng: random.Random, directory: Path, way: str) -> None:
    """Read a part of a file that does not change."""
    which = rng.randrange(BIG_FILES)
    with (directory / f"big{which}").open("rb", buffering=0) as file:
        if way == "random":
            for _ in range(10):
                start, size = rng.randrange(BIG_SIZE), rng.choice((1, 4096, 65_536))
                size = min(size, BIG_SIZE - start)
                assert os.pread(file.fileno(), size, start) == big(which, start, size), (
                    f"big{which} at {start}"
                )
            return
        start = rng.randrange(0, BIG_SIZE // 2)
        file.seek(start)
        for _ in range(16):
            data = file.read(131_072)
            assert data == big(which, start, len(data)), f"big{which} at {start}"
            start += len(data)


def main() -> None:
    """Do as the arguments say."""
    role, number, directory, seconds = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
    work = {"read": read, "write": write}[role]
    print(dict(work(number, directory, time.monotonic() + seconds)))


if __name__ == "__main__":
    main()
