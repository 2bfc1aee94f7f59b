"""The servers under test come up, work, and go away with the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.servers import Server

REPOSITORY = Path(__file__).parents[2]
RUN_AND_BE_KILLED = """
import signal, sys
from collections.abc import Callable
from pathlib import Path
from tests.support.processes import running
with running(["sleep", "600"], log_path=Path(sys.argv[1]), ready=lambda: True) as process:
    print(process.pid, flush=True)
    signal.pause()
"""


def test_a_server_stores_and_returns_an_object(server: Server, bucket: str) -> None:
    """Every server carries out a signed PUT and GET in a fresh bucket."""
    client = server.client()
    client.put_object(Bucket=bucket, Key="x", Body=b"bytes")
    answer = client.get_object(Bucket=bucket, Key="x")
    assert answer["Body"].read() == b"bytes"
    client.close()


def test_a_started_process_dies_with_a_killed_parent(tmp_path: Path) -> None:
    """SIGKILL of the test run, which runs no clean-up, still ends the servers it started."""
    parent = subprocess.Popen(
        [sys.executable, "-c", RUN_AND_BE_KILLED, str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
    # Until the launcher has asked for it, the parent's death does not reach the child.
    _wait(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _wait(lambda: not _alive(child))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


def _wait(condition: Callable[[], bool], deadline_s: float = 10.0) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)
