"""Processes that read and write a mount for a while and check every byte.

Run as ``python -m tests.support.stress ROLE DIRECTORY NUMBER SECONDS SEED``; prints how many rounds it
did, or what was wrong, and ends with 1 then. Processes of their own, so that a hung mount cannot hang
the test, and so that many really work at once.
"""

from __future__ import annotations

import os
import random
import struct
import sys
import time
from pathlib import Path

WORD = struct.Struct(">QQ")
BIG_FILES = 4
BIG_BYTES = 24 * 1024 * 1024
SMALL_MAX_BYTES = 3 * 1024 * 1024


def content(identity: int, start: int, stop: int) -> bytes:
    """Return bytes *start* to *stop* of the file *identity*: each 16 bytes say whose and where they are."""
    first, last = start // WORD.size, -(-stop // WORD.size)
    whole = b"".join(WORD.pack(identity, word) for word in range(first, last))
    return whole[start - first * WORD.size : stop - first * WORD.size]


def version(identity: int, number: int, size: int) -> bytes:
    """Return a whole small file: version *number* of *identity*, telling its own size."""
    return WORD.pack(identity, number) + WORD.pack(size, size) + content(number, 0, size)


def check_version(identity: int, data: bytes) -> int:
    """Return the number of the version that *data* is. Raises: AssertionError if it is not one, whole."""
    assert len(data) >= 2 * WORD.size, f"{len(data)} bytes, shorter than any version"
    owner, number = WORD.unpack_from(data, 0)
    size, again = WORD.unpack_from(data, WORD.size)
    assert owner == identity, f"file {identity} has the bytes of {owner}"
    assert size == again == len(data) - 2 * WORD.size, f"version {number} of {size} bytes has {len(data)}"
    assert data[2 * WORD.size :] == content(number, 0, size), f"version {number} is mixed"
    return number


def read_big(directory: Path, number: int, seconds: float, rng: random.Random) -> int:
    """Read random stretches, and now and then all, of files that nobody changes."""
    rounds, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        identity = rng.randrange(BIG_FILES)
        with (directory / f"big{identity}").open("rb") as file:
            for _ in range(8):
                start = 0 if rng.random() < 0.2 else rng.randrange(BIG_BYTES)
                size = 4 * 1024 * 1024 if rng.random() < 0.2 else rng.randrange(1, 200_000)
                file.seek(start)
                data = file.read(size)
                stop = min(start + size, BIG_BYTES)
                assert data == content(identity, start, stop), f"big{identity} [{start}, {stop}) is wrong"
        rounds += 1
    return rounds


def read_small(directory: Path, number: int, seconds: float, rng: random.Random) -> int:
    """Read files while others replace them: each read gives one whole version, none older than before."""
    rounds, end = 0, time.monotonic() + seconds
    newest: dict[int, int] = {}
    while time.monotonic() < end:
        identity = rng.randrange(8)
        try:
            data = (directory / f"small{identity}").read_bytes()
        except FileNotFoundError:
            continue
        found = check_version(identity, data)
        assert found >= newest.get(identity, 0), (
            f"small{identity} went back from {newest[identity]} to {found}"
        )
        newest[identity] = found
        rounds += 1
    return rounds


def write(directory: Path, number: int, seconds: float, rng: random.Random) -> int:
    """Replace one file with version after version, through a temporary file and a rename."""
    rounds, end = 0, time.monotonic() + seconds
    target, temporary = directory / f"small{number}", directory / f".small{number}.tmp"
    while time.monotonic() < end:
        rounds += 1
        data = version(
            number, rounds, rng.randrange(SMALL_MAX_BYTES) if rng.random() < 0.3 else rng.randrange(9999)
        )
        with temporary.open("wb") as file:
            for start in range(0, len(data), 65536):
                file.write(data[start : start + 65536])
            if rng.random() < 0.3:
                file.flush()
                os.fsync(file.fileno())
        temporary.rename(target)
        assert check_version(number, target.read_bytes()) == rounds
    return rounds


ROLES = {"read_big": read_big, "read_small": read_small, "write": write}


def main() -> None:
    role, directory, number, seconds, seed = sys.argv[1:]
    rng = random.Random(f"{seed} {role} {number}")
    try:
        print(ROLES[role](Path(directory), int(number), float(seconds), rng))
    except Exception as exc:  # noqa: BLE001  # whatever it is, the test shows it
        sys.exit(f"{role} {number}: {exc!r}")


if __name__ == "__main__":
    main()
