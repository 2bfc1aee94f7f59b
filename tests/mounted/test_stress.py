"""32 readers and 8 writers at once: right bytes, bounded memory, nothing left over."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.mounted.conftest import MakeMount
from tests.support.mounting import Mount
from tests.support.servers import Server
from tests.support.stress import BIG_BYTES, BIG_FILES, check_version, content

MEMORY_MIB = 128
#: What the interpreter, its libraries and requests in flight may take beside --memory.
OVERHEAD_MIB = 128


def start(mount: Mount, role: str, number: int, seconds: int, seed: int) -> subprocess.Popen[str]:
    """Start one process of *role*."""
    command = [sys.executable, "-m", "tests.support.stress", role, str(mount.path)]
    return subprocess.Popen(
        [*command, str(number), str(seconds), str(seed)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def status(mount: Mount, field: str) -> int:
    """Return a number from the daemon's /proc/PID/status."""
    for line in Path(f"/proc/{mount.pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise LookupError(field)


def descriptors(mount: Mount) -> list[str]:
    """Return what the daemon has open, but for its connections to the server, which it keeps for later."""
    found = []
    for name in os.listdir(f"/proc/{mount.pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{mount.pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    return sorted(target for target in found if not target.startswith("socket:"))


def wait_until_equal(expected: object, measure: object, deadline_s: float = 30.0) -> None:
    """Wait until ``measure()`` gives *expected*."""
    assert callable(measure)
    end = time.monotonic() + deadline_s
    while (found := measure()) != expected:
        assert time.monotonic() < end, f"{found} is not {expected}"
        time.sleep(0.2)


@pytest.mark.parametrize(("name", "seconds"), [("minio", 60), ("seaweedfs", 15)], ids=["minio", "seaweedfs"])
def test_readers_and_writers_at_once(
    name: str, seconds: int, request: pytest.FixtureRequest, make_mount: MakeMount
) -> None:
    """Every read is one whole version, memory stays under its cap, and nothing is left afterwards."""
    server: Server = request.getfixturevalue(name)
    bucket = server.fresh_bucket()
    client = server.client()
    for identity in range(BIG_FILES):
        client.put_object(Bucket=bucket, Key=f"big{identity}", Body=content(identity, 0, BIG_BYTES))
    mount = make_mount(server, bucket, f"--memory={MEMORY_MIB}M", "--part-size=5M", watchdog_s=seconds + 120)
    os.listdir(mount.path)
    before = descriptors(mount)
    seed = secrets.randbelow(10**9)
    print(f"seed {seed}")
    processes = [
        start(mount, role, number, seconds, seed)
        for role, count in (("read_big", 24), ("read_small", 8), ("write", 8))
        for number in range(count)
    ]
    outputs = [process.communicate(timeout=seconds + 100)[0] for process in processes]
    wrong = [text for process, text in zip(processes, outputs, strict=True) if process.returncode]
    assert wrong == []
    assert all(int(text) > 0 for text in outputs), outputs
    print(f"rounds {sum(map(int, outputs))}, peak {status(mount, 'VmHWM') // 1024} MiB")
    assert status(mount, "VmHWM") <= (MEMORY_MIB + OVERHEAD_MIB) * 1024
    # Closed files leave no descriptor, and threads without work end by themselves after ten seconds.
    wait_until_equal(before, lambda: descriptors(mount))
    wait_until_equal(True, lambda: status(mount, "Threads") <= 4)
    assert list(mount.spool.rglob("*.data")) == []
    for number in range(8):
        body = client.get_object(Bucket=bucket, Key=f"small{number}")["Body"].read()
        assert check_version(number, body) == int(outputs[32 + number])
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
