"""What programs did when other mounts broke: killed, slow, interrupted, in a hurry, short of memory."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from tests.conftest import ServerPool
from tests.faults.conftest import KIB, MIB, Faulty, MakeFaulty, errno_of, write
from tests.mounted.conftest import MakeMount
from tests.support.bucket import Bucket
from tests.support.mounting import Tools

ALPHABET = "ab/./..%=_-+ &?#~\\\"'*|<>:;@,$\n\téß😀\u0301" + "".join(map(chr, range(1, 32)))


def test_a_daemon_killed_after_create_leaves_no_object(make_faulty: MakeFaulty) -> None:
    """No empty stub appears for a file that was created, written and never closed."""
    faulty = make_faulty(expected=["of an earlier mount"])
    descriptor = os.open(faulty.path / "new", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"half")
    faulty.mount.kill()
    assert errno_of(lambda: os.close(descriptor)) != 0
    assert faulty.bucket.keys() == []
    faulty.mount.start()
    write(faulty.path / "other", b"works")
    assert faulty.bucket.get("other") == b"works"
    assert faulty.bucket.keys() in (["other"], ["new", "other"])


def test_a_writer_slower_than_every_deadline(make_faulty: MakeFaulty) -> None:
    """A file that is kept open for longer than any timeout, with writes now and then, is uploaded whole."""
    faulty = make_faulty("--operation-timeout=1s", "--read-timeout=500ms")
    began = time.monotonic()
    pieces = []
    with open(faulty.path / "f", "wb", buffering=0) as file:
        while time.monotonic() < began + 3:
            pieces.append(os.urandom(KIB))
            file.write(pieces[-1])
            time.sleep(0.05)  # the writer's own slowness, which nothing waits for
    assert faulty.bucket.get("f") == b"".join(pieces)


def test_signals_during_ls(faulty: Faulty) -> None:
    """A timer that goes off a thousand times a second: every listing is whole, and none fails with EINTR."""
    faulty.bucket.put_many({f"d/{n:04}": b"" for n in range(1500)})
    program = (
        "import os, signal\n"
        "count = 0\n"
        "def on(number, frame):\n"
        "    global count\n"
        "    count += 1\n"
        "signal.signal(signal.SIGALRM, on)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\n"
        "for _ in range(10):\n"
        "    assert len(os.listdir('d')) == 1500\n"
        "    assert os.stat('d/0007').st_size == 0\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
        "print(count)\n"
    )
    assert int(faulty.run(sys.executable, "-c", program)) > 0


def test_fstat_after_fsync_and_reopen_after_close(faulty: Faulty) -> None:
    """fstat says the new size after fsync, a file opened right after close is that file, thirty times."""
    for size in range(1, 31):
        descriptor = os.open(faulty.path / "f", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.write(descriptor, b"x" * size)
        os.fsync(descriptor)
        assert os.fstat(descriptor).st_size == size
        os.close(descriptor)
        descriptor = os.open(faulty.path / "f", os.O_RDONLY)
        assert os.read(descriptor, 100) == b"x" * size
        assert os.fstat(descriptor).st_size == size
        os.close(descriptor)


def test_a_file_truncated_and_closed_at_once(faulty: Faulty) -> None:
    """`: > file` in a loop, with a reader that looks at once: size 0 each time, no error."""
    for turn in range(20):
        write(faulty.path / "f", b"something")
        os.close(os.open(faulty.path / "f", os.O_WRONLY | os.O_TRUNC))
        assert (faulty.path / "f").stat().st_size == 0, turn
        assert (faulty.path / "f").read_bytes() == b""
    assert faulty.bucket.get("f") == b""


def test_a_script_runs_while_memory_is_short(make_faulty: MakeFaulty) -> None:
    """Programs start and run from the mount while readers evict every block over and over."""
    faulty = make_faulty("--memory=16MiB", "--operation-timeout=60s")
    big = random.Random(1).randbytes(MIB) * 48
    script = "#!/bin/sh\n# " + "padding" * 20_000 + "\necho ran\n"
    faulty.bucket.put_many({"big": big, "script": script.encode()})
    os.chmod(faulty.path / "script", 0o755)
    stop = threading.Event()
    failures: list[Exception] = []

    def read() -> None:
        try:
            while not stop.is_set():
                with open(faulty.path / "big", "rb", buffering=0) as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    assert sum(iter(lambda: len(file.read(MIB)), 0)) == len(big)
        except (OSError, AssertionError) as exc:
            failures.append(exc)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(10):
            assert faulty.run("./script") == "ran\n"
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert failures == []


@pytest.mark.parametrize(("server_name", "seed"), [("moto", 1), ("minio", 2)])
def test_random_keys_are_all_there(
    server_pool: ServerPool, make_mount: MakeMount, server_name: str, seed: int
) -> None:
    """Keys of random characters, dots and slashes: ls never fails, each file shows once with its bytes."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    server = server_pool.get(server_name)
    bucket = Bucket(server, server.fresh_bucket())
    for _ in range(120):
        key = "".join(rng.choice(ALPHABET) for _ in range(rng.randint(1, rng.choice([4, 12, 60]))))
        try:
            bucket.put(key, key.encode())
        except (ClientError, BotoCoreError, HTTPClientError) as exc:  # no key of this server's
            print(f"{server_name} refuses {key!r}: {type(exc).__name__}")
    # MinIO stores some under another key than it was given.
    keys = bucket.keys()
    there = [bucket.get(key).decode() for key in keys]
    assert len(there) > 50
    mount = make_mount(server, bucket.name)
    found = []
    for directory, _, names in os.walk(mount.path, onerror=_raise):
        found += [(Path(directory) / name).read_bytes().decode() for name in names]
    assert sorted(found) == sorted(there)
    Tools(mount).run("ls", "-lR")
    subprocess.run(["rm", "-r", "--", *os.listdir(mount.path)], cwd=mount.path, check=True, timeout=120)
    assert os.listdir(mount.path) == []
    assert bucket.keys() == []


def _raise(error: OSError) -> None:
    raise error
