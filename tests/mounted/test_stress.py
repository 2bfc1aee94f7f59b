"""32 readers and 8 writers at once, and what is left of them afterwards: nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ServerPool
from tests.mounted.conftest import MakeMount
from tests.support.bucket import Bucket
from tests.support.mounting import Mount
from tests.support.stress_agent import BIG_FILES, BIG_SIZE, LINE, WRITERS, big, whole

READERS = 32
MIB = 1024 * 1024
MEMORY = 64 * MIB
#: What the process itself takes, its libraries included, and what is under way outside of the cap.
OVERHEAD = 128 * MIB


def status_kib(mount: Mount, name: str) -> int:
    """Return a size from the daemon's status."""
    lines = Path(f"/proc/{mount.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def threads(mount: Mount) -> int:
    """Return how many threads the daemon has."""
    return len(os.listdir(f"/proc/{mount.pid}/task"))


def open_files(mount: Mount) -> Counter[str]:
    """Return what the daemon has open, sockets apart: those are kept for the next request."""
    found: Counter[str] = Counter()
    for name in os.listdir(f"/proc/{mount.pid}/fd"):
        target = os.readlink(f"/proc/{mount.pid}/fd/{name}")
        found[target.partition(":")[0] if target.startswith("socket:") else target] += 1
    return found


def until_nothing(left: Callable[[], list[str]], deadline_s: float) -> None:
    """Wait until *left* says that nothing is left."""
    deadline = time.monotonic() + deadline_s
    while said := left():
        assert time.monotonic() < deadline, said
        time.sleep(0.1)


def run_agents(mount: Mount, seconds: float) -> list[str]:
    """Run all readers and writers to their end; return what each said. Raises: AssertionError."""
    roles = [("write", n) for n in range(WRITERS)] + [("read", n) for n in range(READERS)]
    agents = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.stress_agent", role, str(n), str(mount.path), str(seconds)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for role, n in roles
    ]
    try:
        outputs = [agent.communicate(timeout=seconds + 120) for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
            agent.wait()
    for (role, number), agent, (_, errors) in zip(roles, agents, outputs, strict=True):
        assert agent.returncode == 0, f"{role} {number}: {errors}\n{mount.tail()}"
    return [
        f"{role} {number}: {said.strip()}" for (role, number), (said, _) in zip(roles, outputs, strict=True)
    ]


def check_bucket(bucket: Bucket) -> None:
    """See that every object is one whole version."""
    bodies = bucket.files()
    assert not [name for name in bodies if name.endswith(".new")]
    for name, body in bodies.items():
        if name.startswith("w"):
            assert body == whole(name, int(body[:LINE].split()[1])), name


@pytest.mark.parametrize(("server_name", "seconds"), [("minio", 40), ("seaweedfs", 12)])
def test_many_readers_and_writers_at_once(
    server_pool: ServerPool, make_mount: MakeMount, server_name: str, seconds: float
) -> None:
    """Every byte is right, memory is bounded, and no thread, file, spool or upload is left behind."""
    server = server_pool.get(server_name)
    bucket = Bucket(server, server.fresh_bucket())
    for number in range(BIG_FILES):
        bucket.put(f"big{number}", big(number, 0, BIG_SIZE))
    mount = make_mount(server, bucket.name, f"--memory={MEMORY}", "--part-size=5M", watchdog_s=seconds + 240)
    (mount.path / "big0").read_bytes()
    files_before, threads_before = open_files(mount), threads(mount)

    said = run_agents(mount, seconds)
    peak = status_kib(mount, "VmHWM") * 1024
    print(*said, f"peak of memory {peak // MIB} MiB", sep="\n")
    assert peak < MEMORY + OVERHEAD
    assert bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []) == []
    check_bucket(bucket)

    # RELEASE comes after close(2); trio lets idle threads end after ten seconds.
    def more_than_before() -> list[str]:
        more = open_files(mount) - files_before
        del more["socket"]
        for name in [name for name in more if name.endswith("/journal.sqlite")]:
            # SQLite keeps the descriptor of a checkpoint for the next one: closing it would drop the locks.
            more[name] -= 1
        return [f"{count} x {name}" for name, count in (+more).items()] + (
            [] if (now := threads(mount)) <= threads_before else [f"{now} threads"]
        )

    until_nothing(more_than_before, 40)
    assert [path for path in mount.spool.rglob("*") if path.is_file() and path.suffix == ".data"] == []
    mount.remount()
    for path in mount.path.iterdir():
        if path.name.startswith("w"):
            body = path.read_bytes()
            assert body == whole(path.name, int(body[:LINE].split()[1])), path
