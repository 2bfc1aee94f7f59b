"""Reading while the server, the network or another client does its worst."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.conftest import IMPATIENT, KIB, MIB, Faulty, MakeFaulty, errno_of
from tests.support.bucket import Bucket
from tests.support.counting_proxy import Action, Close, CountingProxy, Cut, Hold
from tests.support.fault_actions import INTERNAL_ERROR, Drip, Headers, Shorten, Stall
from tests.support.killable import killable_minio
from tests.support.mounting import Mount

UNBLOCKED_S = 30
"""Longer than any deadline of these mounts, shorter than for ever."""


def content(size: int, seed: int = 1) -> bytes:
    """Return bytes in which every place looks different."""
    return random.Random(seed).randbytes(size)


def eventually(is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until *is_so*. Raises: AssertionError."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_a_server_killed_in_the_middle_of_a_get_and_started_again(tmp_path: Path) -> None:
    """The reader gets every byte once the server is back: the rest is asked for, not the beginning again."""
    data = content(6 * MIB)
    with (
        killable_minio(tmp_path / "server") as killable,
        CountingProxy(killable.server.endpoint_url) as proxy,
    ):
        bucket = Bucket(killable.server, killable.server.fresh_bucket())
        bucket.put("f", data)
        options = ["--attempts=20", "--operation-timeout=60s"]
        base = tmp_path / "m"
        base.mkdir()
        with Mount(killable.server, bucket.name, base, options, endpoint_url=proxy.endpoint_url) as mount:
            proxy.clear()
            stall = Stall(after_bytes=300 * KIB, seconds=1.0)
            with proxy.rule(stall, operation="GetObject", times=1) as rule, ThreadPoolExecutor(1) as pool:
                reading = pool.submit((mount.path / "f").read_bytes)
                eventually(lambda: bool(rule.injected))
                killable.kill()
                killable.start()
                assert reading.result() == data


@pytest.mark.parametrize("seed", [1, 2])
def test_connections_reset_at_random(make_faulty: MakeFaulty, seed: int) -> None:
    """One connection in twenty is reset, before, within or after an answer: every file is right."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    faulty = make_faulty("--attempts=10", "--operation-timeout=30s", "--part-size=5M")
    faulty.mount.expected.append("upload of")
    bodies = {f"f{n}": content(rng.choice([0, 100, 300 * KIB, 7 * MIB]), n) for n in range(30)}
    resets: list[Action] = [Close(reset=True), Cut(1000, reset=True), Cut(20, reset=True, of="head")]
    written: dict[str, bytes] = {}
    with (
        faulty.proxy.rule(resets[0], probability=0.02, seed=seed),
        faulty.proxy.rule(resets[1], probability=0.02, seed=seed + 1),
        faulty.proxy.rule(resets[2], probability=0.02, seed=seed + 2),
    ):
        for name, body in bodies.items():
            (faulty.path / name).write_bytes(body)
            written[name] = body
        for name, body in written.items():
            assert (faulty.path / name).read_bytes() == body
        faulty.mount.remount()
        for name, body in written.items():
            assert (faulty.path / name).read_bytes() == body
    assert faulty.bucket.files() == written


@pytest.mark.parametrize(
    "action",
    [
        Cut(1000),
        Cut(1000, reset=True),
        Shorten(1000),
        Headers({"Content-Length": "2000000"}),
        Headers({"Content-Range": "bytes 0-99/300000"}),
        Headers({"ETag": '"0123456789abcdef0123456789abcdef"'}),
        INTERNAL_ERROR,
    ],
    ids=["cut", "reset", "shorter", "longer", "another range", "another version", "500"],
)
def test_a_spoiled_body_is_never_kept(faulty: Faulty, action: Action) -> None:
    """Spoiled once, the reader gets the right bytes or EIO; always, EIO; afterwards the right bytes."""
    data = content(300_000)
    faulty.bucket.put("f", data)
    with faulty.proxy.rule(action, operation="GetObject"):
        for _ in range(2):
            assert errno_of((faulty.path / "f").read_bytes) in (errno.EIO, errno.ETIMEDOUT)
    assert (faulty.path / "f").read_bytes() == data
    faulty.bucket.put("g", data[::-1])
    with faulty.proxy.rule(action, operation="GetObject", times=1) as rule:
        try:
            assert (faulty.path / "g").read_bytes() == data[::-1]
        except OSError as exc:
            assert exc.errno == errno.EIO
        assert rule.injected == 1
        assert (faulty.path / "g").read_bytes() == data[::-1]


@pytest.mark.parametrize(
    "action",
    [Drip(1.0), Stall(), Stall(of="head"), Stall(after_bytes=1000)],
    ids=["drip", "0", "head", "1000"],
)
def test_a_server_that_hangs_frees_the_reader_at_the_deadline(faulty: Faulty, action: Action) -> None:
    """Slow-loris or black hole: read(2) fails in time, and other files are read and written meanwhile."""
    data = content(MIB)
    faulty.bucket.put_many({"slow": data, "cached": data, "other": data})
    assert (faulty.path / "cached").read_bytes() == data
    with (
        faulty.proxy.rule(action, operation="GetObject", key="slow") as rule,
        ThreadPoolExecutor(1) as pool,
    ):
        reading = pool.submit(errno_of, (faulty.path / "slow").read_bytes)
        eventually(lambda: bool(rule.injected))
        assert (faulty.path / "cached").read_bytes() == data
        assert (faulty.path / "other").read_bytes() == data
        (faulty.path / "new").write_bytes(b"written meanwhile")
        assert sorted(os.listdir(faulty.path)) == ["cached", "new", "other", "slow"]
        assert reading.result(UNBLOCKED_S) in (errno.EIO, errno.ETIMEDOUT)
    faulty.mount.expected.append("no result within")
    assert (faulty.path / "slow").read_bytes() == data


def test_a_frozen_server_frees_every_caller(tmp_path: Path) -> None:
    """SIGSTOP of the server: reads, ls, stat, writes and mkdir all end; with SIGCONT all is as before."""
    data = content(100 * KIB)
    with killable_minio(tmp_path / "server") as killable:
        bucket = Bucket(killable.server, killable.server.fresh_bucket())
        bucket.put_many({"f": data, "d/g": data, "cached": data})
        base = tmp_path / "m"
        base.mkdir()
        expected = ["no result within", "upload of /new failed", "is not in the bucket", "does not answer"]
        with Mount(killable.server, bucket.name, base, [*IMPATIENT, "--ttl=1h"], expected=expected) as mount:
            new = os.open(mount.path / "new", os.O_WRONLY | os.O_CREAT)
            os.write(new, b"new")
            with open(mount.path / "cached", "rb") as cached:
                assert cached.read() == data
                calls: list[Callable[[], object]] = [
                    (mount.path / "f").read_bytes,
                    lambda: os.listdir(mount.path / "d"),
                    (mount.path / "d" / "g").stat,
                    lambda: os.close(new),
                    (mount.path / "made").mkdir,
                    lambda: os.rename(mount.path / "f", mount.path / "moved"),
                ]
                with killable.frozen(), ThreadPoolExecutor(len(calls)) as pool:
                    ends = [pool.submit(errno_of, call) for call in calls]
                    cached.seek(0)
                    assert cached.read() == data
                    for number, end in enumerate(ends):
                        assert end.result(UNBLOCKED_S) in (errno.EIO, errno.ETIMEDOUT), number
            # Of what was asked for and not answered nobody knows; nothing of it may be half done.
            eventually(lambda: errno_of(lambda: os.listdir(mount.path)) == 0)
            names = set(os.listdir(mount.path))
            assert names >= {"cached", "d"}
            assert names & {"f", "moved"}
            for name in names & {"f", "moved"}:
                assert (mount.path / name).read_bytes() == data
            with open(mount.path / "new", "ab"):
                pass
            assert (mount.path / "new").read_bytes() == b"new"
        assert bucket.get("new") == b"new"


@pytest.mark.parametrize(("old", "new"), [(3 * MIB, 1 * MIB), (1 * MIB, 3 * MIB), (2 * MIB, 2 * MIB)])
def test_an_object_replaced_between_two_reads(faulty: Faulty, old: int, new: int) -> None:
    """Shorter, longer or as long: the old descriptor gives old bytes or ESTALE, a new one the new."""
    before, after = content(old, 1), content(new, 2)
    faulty.bucket.put("f", before)
    with open(faulty.path / "f", "rb", buffering=0) as file:
        assert file.read(4 * KIB) == before[: 4 * KIB]
        faulty.bucket.put("f", after)
        for at in range(0, max(old, new) + MIB, 256 * KIB):
            try:
                got = os.pread(file.fileno(), 256 * KIB, at)
            except OSError as exc:
                assert exc.errno == errno.ESTALE
                continue
            assert got == before[at : at + 256 * KIB], at
    assert (faulty.path / "f").read_bytes() == after
    assert (faulty.path / "f").stat().st_size == new


def test_a_deleted_object_under_a_memory_map(faulty: Faulty) -> None:
    """A program that maps a file whose object goes dies of SIGBUS, once; the mount lives."""
    faulty.bucket.put("f", content(3 * MIB))
    program = (
        "import mmap, sys\n"
        "file = open('f', 'rb')\n"
        "pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)\n"
        "print(pages[0], flush=True)\n"
        "sys.stdin.read(1)\n"
        "print(sum(pages[at] for at in range(0, len(pages), 4096)), flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], cwd=faulty.path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline()
        faulty.bucket.delete("f")
        output, _ = child.communicate(b"x", timeout=UNBLOCKED_S)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == -signal.SIGBUS
    assert output == b""
    assert os.listdir(faulty.path) == []


def test_a_deleted_bucket_is_an_error_and_not_an_empty_directory(faulty: Faulty) -> None:
    """ls, stat and reads say EIO: nothing looks deleted, and rsync --delete would stop."""
    faulty.bucket.put_many({"f": b"x", "d/g": b"y"})
    assert sorted(os.listdir(faulty.path)) == ["d", "f"]
    new = os.open(faulty.path / "new", os.O_WRONLY | os.O_CREAT)
    os.write(new, b"kept")
    for key in ("f", "d/g"):
        faulty.bucket.delete(key)
    faulty.bucket.client.delete_bucket(Bucket=faulty.bucket.name)
    try:
        for call in (
            lambda: os.listdir(faulty.path),
            (faulty.path / "f").read_bytes,
            (faulty.path / "d" / "g").stat,
            (faulty.path / "never").stat,
        ):
            assert errno_of(call) == errno.EIO
        faulty.mount.expected += ["upload of", "is not in the bucket"]
        assert errno_of(lambda: os.close(new)) == errno.EIO
        assert b"kept" in faulty.spooled()
    finally:
        faulty.bucket.client.create_bucket(Bucket=faulty.bucket.name)
    faulty.mount.stop()
    assert faulty.bucket.get("new") == b"kept"


def test_failures_of_names_never_look_like_absence(faulty: Faulty) -> None:
    """While HEAD and LIST fail, a file that was read is neither gone nor empty nor cut."""
    data = content(200 * KIB)
    faulty.bucket.put("d/f", data)
    path = faulty.path / "d" / "f"
    assert path.read_bytes() == data
    for action in (INTERNAL_ERROR, Close(), Close(reset=True)):
        with (
            faulty.proxy.rule(action, operation="HeadObject"),
            faulty.proxy.rule(action, operation="ListObjectsV2"),
        ):
            assert errno_of(path.stat) in (0, errno.EIO, errno.ETIMEDOUT)
            assert errno_of(lambda: os.listdir(path.parent)) in (errno.EIO, errno.ETIMEDOUT)
            try:
                assert path.read_bytes() == data
            except OSError as exc:
                assert exc.errno in (errno.EIO, errno.ETIMEDOUT)
    assert path.read_bytes() == data
    assert os.listdir(path.parent) == ["f"]
    faulty.mount.expected.append("no result within")


def test_two_hundred_open_writers_do_not_starve_ls(make_faulty: MakeFaulty) -> None:
    """ls and a read are answered while 200 files are open for writing and 40 closes wait for the server."""
    faulty = make_faulty("--operation-timeout=60s", "--read-timeout=60s")
    faulty.bucket.put("there", b"bytes")
    files = [open(faulty.path / f"w{n}", "wb", buffering=0) for n in range(200)]  # noqa: SIM115
    hold = Hold()
    threads = []
    try:
        for file in files:
            file.write(b"x")
        with faulty.proxy.rule(hold, operation="PutObject"):
            threads = [threading.Thread(target=file.close) for file in files[:40]]
            for thread in threads:
                thread.start()
            hold.wait_held()
            assert len(os.listdir(faulty.path)) == 201
            assert (faulty.path / "there").read_bytes() == b"bytes"
            hold.release()
    finally:
        hold.release()
        for thread in threads:
            thread.join()
        for file in files:
            file.close()
    assert len(faulty.bucket.keys()) == 201
