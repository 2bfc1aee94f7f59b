"""The supervisor of system calls does what its users rely on."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.crash.syscalls import Call, Kind, SyscallWatch

WORK = """
import os, sys, threading
def work(name):
    fd = os.open(name, os.O_RDWR | os.O_CREAT)
    for n in range(3):
        try:
            os.pwrite(fd, bytes([65 + n]), n)
        except OSError as exc:
            print(exc.errno)
    os.fsync(fd)
    os.close(fd)
os.chdir(sys.argv[1])
for number in range(3):
    thread = threading.Thread(target=work, args=(f"f{number}",))
    thread.start()
    thread.join()
os.rename("f0", "g0")
os.unlink("g0")
with open(sys.argv[1] + "-log", "w") as log:
    log.write("no event")
"""


def run(watch: SyscallWatch, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the work under *watch*."""
    command = [*watch.prefix(), sys.executable, "-c", WORK, str(directory)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_calls_of_all_threads_count_together_and_others_not_at_all(tmp_path: Path) -> None:
    """Three threads write three times each: nine writes; what lies elsewhere is no event."""
    with SyscallWatch(tmp_path / "spool") as watch:
        (tmp_path / "spool").mkdir()
        watch.arm(Kind.WRITE, 1000)
        assert run(watch, tmp_path / "spool").returncode == 0
        assert watch.disarm() == {Kind.WRITE: 9, Kind.SYNC: 3, Kind.RENAME: 1, Kind.UNLINK: 1}
        assert watch.fired is None


@pytest.mark.parametrize("number", range(1, 10))
def test_the_process_dies_before_its_nth_call(tmp_path: Path, number: int) -> None:
    """SIGKILL at write number n leaves exactly n - 1 bytes."""
    with SyscallWatch(tmp_path) as watch:
        watch.arm(Kind.WRITE, number)
        assert run(watch, tmp_path).returncode == -9
        assert watch.fired is not None
        assert watch.fired.path == f"{tmp_path}/f{(number - 1) // 3}"
    written = b"".join(path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert len(written) == number - 1


@pytest.mark.parametrize(("kind", "left"), [(Kind.RENAME, "f0"), (Kind.UNLINK, "g0")])
def test_a_path_is_seen_as_well_as_a_descriptor(tmp_path: Path, kind: Kind, left: str) -> None:
    """A rename and an unlink by path are found to be the spool's."""
    with SyscallWatch(tmp_path) as watch:
        watch.arm(kind, 1)
        assert run(watch, tmp_path).returncode == -9
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([left, "f1", "f2"])


@pytest.mark.parametrize("turn", range(5))
def test_who_sees_it_fire_may_clear_the_process_away_at_once(tmp_path: Path, turn: int) -> None:
    """The process was killed and reaped before the supervisor came to kill it: that ended the supervisor, and
    no later process got started. Nobody sees it before the action is done."""
    done = []

    def act(call: Call) -> None:
        time.sleep(0.005)  # so that whoever waits is there
        done.append(call)

    with SyscallWatch(tmp_path) as watch:
        watch.arm(Kind.WRITE, 2, act)
        command = [*watch.prefix(), sys.executable, "-c", WORK, str(tmp_path)]
        with subprocess.Popen(command) as process:
            while watch.fired is None:
                assert process.poll() is None
            assert done == [watch.fired]
            process.kill()
            process.wait(30)
        assert run(watch, tmp_path).returncode == 0
