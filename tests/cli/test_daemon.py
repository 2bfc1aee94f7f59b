"""``s3mount mount`` in the background and in the foreground: it says how it went, and only then returns."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
from pathlib import Path

from s3mount import runtime
from s3mount.cli.mount_table import mounted_at
from s3mount.core.exits import Exit
from tests.cli.command import ROOT
from tests.cli.place import Place, needs_root_and_fuse

pytestmark = needs_root_and_fuse
SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"


def test_it_returns_when_the_mount_answers_and_leaves_a_process_behind(place: Place) -> None:
    """With the mount, its process on record, and a line that says where the log is."""
    outcome = place.mount("mounted")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert outcome.stdout == f"s3mount: s3://bucket/ is mounted at {place.mountpoint}; log: {place.log}\n"
    entry = mounted_at(str(place.mountpoint))
    assert entry is not None
    assert entry.fs_type == "fuse.s3mount"
    state = place.recorded()
    assert state is not None
    assert state.is_running()
    assert (state.source, state.log_file) == ("s3://bucket/", str(place.log))
    assert list(place.mountpoint.iterdir()) == []


def test_the_process_keeps_nothing_of_its_caller(place: Place) -> None:
    """No terminal, no working directory, no open file: a lock or pipe of the caller's would stay taken."""
    read_end, write_end = os.pipe()
    try:
        done = subprocess.run(
            [*place.launcher("mounted"), "mount", "bucket", str(place.mountpoint)],
            pass_fds=(write_end,),
            env={**os.environ, "XDG_STATE_HOME": str(place.state)},
            cwd=ROOT,
            timeout=60,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
    finally:
        os.close(write_end)
    assert os.read(read_end, 1) == b""
    os.close(read_end)
    state = place.recorded()
    assert state is not None
    process = Path(f"/proc/{state.pid}")
    assert os.readlink(process / "cwd") == "/"
    assert os.readlink(process / "fd/0") == "/dev/null"
    assert os.readlink(process / "fd/1") == os.readlink(process / "fd/2") == str(place.log)
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    session, terminal = int(fields[3]), int(fields[4])
    assert session not in (state.pid, os.getsid(0))
    assert terminal == 0
    assert "Umask:\t0077" in (process / "status").read_text()
    seen = ast.literal_eval((Path(state.spool_dir) / "descriptors.data").read_text())
    # Standard ones, the log, /dev/fuse, the pipe to the parent, and the listing itself.
    assert len(seen) <= 7


def test_output_and_warnings_of_the_process_are_in_the_log(place: Place) -> None:
    """Nobody would see them otherwise."""
    assert place.mount("mounted").exit_code == 0
    text = place.log.read_text()
    assert "printed by the background process" in text
    assert "warned by the background process" in text
    assert place.log.stat().st_mode & 0o777 == 0o600


def test_what_the_store_refuses_is_said_by_the_command(place: Place) -> None:
    """In one line and with its exit code, as if there were no second process."""
    outcome = place.mount("refuse")
    assert outcome.exit_code == Exit.NO_SUCH_BUCKET
    assert outcome.line == 'bucket "bucket": does not exist; create it'
    assert outcome.stdout == ""
    assert place.recorded() is None


def test_a_bug_before_the_mount_is_up_is_one_line_and_its_traceback_is_in_the_log(place: Place) -> None:
    """Without the secret that was in its message."""
    outcome = place.mount(f"crash={SECRET}")
    assert outcome.exit_code == Exit.FAILURE
    assert outcome.line == f"mount: it ended unexpectedly (ZeroDivisionError); see {place.log}"
    text = place.log.read_text()
    assert "Traceback" in text
    assert "ZeroDivisionError: secret_key=" in text
    assert SECRET not in text


def test_a_process_that_dies_before_the_mount_is_up_is_noticed(place: Place) -> None:
    """The command does not wait for what will never come."""
    outcome = place.mount("die")
    assert outcome.exit_code == Exit.FAILURE
    assert outcome.line == f"mount: the background process ended before the mount was up; see {place.log}"


def test_a_mount_that_is_not_up_in_time_is_ended(place: Place) -> None:
    """Better none than one that may come up later, unseen."""
    outcome = place.mount("hang", "--operation-timeout=100ms")
    assert outcome.exit_code == Exit.STORE_UNREACHABLE
    assert "not up in time" in outcome.line
    assert not _processes_with(str(place.mountpoint))


def test_the_command_looks_for_itself_whether_the_mount_answers(place: Place) -> None:
    """A process that only says so is ended."""
    outcome = place.mount("lie")
    assert outcome.exit_code == Exit.FUSE
    assert "does not answer" in outcome.line
    assert not _processes_with(str(place.mountpoint))


def test_mounting_twice_at_the_same_place_is_refused(place: Place) -> None:
    """The message names what is there and which process serves it."""
    assert place.mount("mounted").exit_code == 0
    state = place.recorded()
    assert state is not None
    outcome = place.mount("mounted")
    assert outcome.exit_code == Exit.MOUNTPOINT
    assert f"s3://bucket/ is already mounted there by process {state.pid}" in outcome.line
    assert f"s3mount umount {place.mountpoint}" in outcome.line


def test_a_named_log_file_in_json(place: Place, tmp_path: Path) -> None:
    """Every line that went through logging is an object."""
    log = tmp_path / "own.log"
    outcome = place.mount("refuse", "--log-file", log, "--log-format", "json")
    assert outcome.exit_code == Exit.NO_SUCH_BUCKET
    (line,) = log.read_text().splitlines()
    assert json.loads(line)["level"] == "error"


def test_in_the_foreground_it_logs_to_standard_error_and_ends_with_the_mount(place: Place) -> None:
    """The exit code is the mount's; SIGTERM ends it."""
    with _foreground(place, "mounted=30") as process:
        state = _wait_for_record(place, process)
        assert state.pid == process.pid
        assert state.log_file is None
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == Exit.NOT_DRAINED
    assert "warned by the background process" in errors
    assert place.recorded() is not None


def test_in_the_foreground_a_refusal_is_one_line_too(place: Place) -> None:
    """Nothing else on standard error."""
    outcome = place.mount("refuse", "--foreground")
    assert outcome.exit_code == Exit.NO_SUCH_BUCKET
    assert outcome.line == 'bucket "bucket": does not exist; create it'


def _foreground(place: Place, behaviour: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*place.launcher(behaviour), "mount", "-f", "bucket", str(place.mountpoint)],
        env={**os.environ, "XDG_STATE_HOME": str(place.state)},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for_record(place: Place, process: subprocess.Popen[str]) -> runtime.MountState:
    while process.poll() is None:
        state = place.recorded()
        if state is not None:
            return state
    raise AssertionError(f"ended with {process.returncode}: {process.communicate()[1]}")


def _processes_with(argument: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(argument) in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
        except OSError:
            continue
    return found
