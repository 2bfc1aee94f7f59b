"""State files: which process serves which mountpoint, also when ids are used again."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from s3mount import runtime
from s3mount.runtime import MountState


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the test's state files to itself."""
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    monkeypatch.setattr(runtime, "directories", lambda uid: [directory])
    return directory


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when its standard input does."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield child
        child.kill()


def state_of(pid: int, mountpoint: str = "/mnt") -> MountState:
    """Return the state of a mount that process *pid* serves."""
    started = runtime.process_started(pid)
    assert started is not None
    return MountState(pid, started, mountpoint, "s3://bucket/", "/spool", 60.0, "/log")


def test_what_was_written_is_found_by_its_mountpoint(own_directory: Path) -> None:
    """Names that are not text included."""
    state = state_of(os.getpid(), os.fsdecode(b"/mnt/\xff'\n"))
    runtime.write(state, own_directory)
    assert runtime.find(state.mountpoint, os.geteuid()) == (state, own_directory)
    assert runtime.find("/mnt", os.geteuid()) is None
    (file,) = own_directory.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_process_is_known_by_id_and_start_time(process: subprocess.Popen[bytes]) -> None:
    """Another process that got the same id later is not taken for it."""
    state = state_of(process.pid)
    assert state.is_running()
    assert not replace(state, started=state.started - 1).is_running()
    assert not replace(state, pid=2**22 + 1).is_running()


def test_a_zombie_has_ended(process: subprocess.Popen[bytes]) -> None:
    """Its parent just has not looked yet."""
    state = state_of(process.pid)
    process.kill()
    assert runtime.wait_for_end(state.pid, state.started, 10)
    assert not state.is_running()


def test_waiting_for_the_end_of_a_process(process: subprocess.Popen[bytes]) -> None:
    """Comes back when it ends, or when the time is over."""
    state = state_of(process.pid)
    assert not runtime.wait_for_end(state.pid, state.started, 0.05)
    assert process.stdin is not None
    process.stdin.close()
    assert runtime.wait_for_end(state.pid, state.started, 30)
    process.wait()
    assert runtime.wait_for_end(state.pid, state.started, 0)


def test_waiting_for_a_process_whose_id_was_used_again_ends_at_once(process: subprocess.Popen[bytes]) -> None:
    """The one that was meant has ended."""
    state = state_of(process.pid)
    assert runtime.wait_for_end(state.pid, state.started - 1, 30)


def test_a_good_end_leaves_nothing_a_bad_one_its_exit_code(own_directory: Path) -> None:
    """So that umount can say how it went, though it is not the parent."""
    state = state_of(os.getpid())
    runtime.write(state, own_directory)
    runtime.record_end(state, 30, own_directory)
    assert runtime.find("/mnt", os.geteuid()) == (replace(state, exit_code=30), own_directory)
    runtime.record_end(state, 0, own_directory)
    assert list(own_directory.iterdir()) == []


def test_an_old_mount_does_not_remove_the_record_of_the_new_one(own_directory: Path) -> None:
    """The old one may still be draining when the same place is mounted again."""
    new = state_of(os.getpid())
    old = replace(new, pid=new.pid + 1)
    runtime.write(new, own_directory)
    runtime.forget(old, own_directory)
    runtime.record_end(old, 30, own_directory)
    assert runtime.find("/mnt", os.geteuid()) == (new, own_directory)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": 1}', '{"pid": "x"}', "null"])
def test_a_broken_state_file_counts_as_none(own_directory: Path, text: str) -> None:
    """It stops nobody from unmounting."""
    runtime.write(state_of(os.getpid()), own_directory)
    (file,) = own_directory.iterdir()
    file.write_text(text)
    assert runtime.find("/mnt", os.geteuid()) is None


def test_a_link_or_somebody_elses_file_is_not_believed(own_directory: Path, tmp_path: Path) -> None:
    """/tmp is open to everybody."""
    state = state_of(os.getpid())
    runtime.write(state, own_directory)
    assert runtime.find("/mnt", os.geteuid() + 1) is None or os.geteuid() == 0
    (file,) = own_directory.iterdir()
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert runtime.find("/mnt", os.geteuid()) is None


def test_a_directory_that_others_may_write_to_is_refused(own_directory: Path) -> None:
    """Whoever can put files there could have us wait for, or signal, a process of their choice."""
    own_directory.chmod(0o777)
    with pytest.raises(runtime.UnsafeDirectory):
        runtime.usable_directory()
    own_directory.chmod(0o700)
    assert runtime.usable_directory() == own_directory
    own_directory.rename(own_directory.with_name("other"))
    own_directory.symlink_to(own_directory.with_name("other"))
    with pytest.raises((runtime.UnsafeDirectory, FileExistsError)):
        runtime.usable_directory()


def test_the_next_directory_is_taken_when_the_first_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a login session there is no /run/user directory."""
    monkeypatch.setattr(runtime, "directories", lambda uid: [tmp_path / "no" / "parent", tmp_path / "second"])
    assert runtime.usable_directory() == tmp_path / "second"
    assert (tmp_path / "second").stat().st_mode & 0o777 == 0o700


def test_where_state_files_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's in /run, also where they run as a user; a user's in the session's directory, else in /tmp."""
    monkeypatch.undo()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/somewhere")
    assert runtime.directories(0)[0] == Path("/run/s3mount")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    ann = pwd.struct_passwd(("ann", "x", 1000, 1000, "", "/home/ann", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", {1000: ann}.__getitem__)
    assert runtime.directories(1000) == [
        Path("/run/somewhere/s3mount"),
        Path("/run/user/1000/s3mount"),
        Path("/run/s3mount/ann"),
        Path("/tmp/s3mount-1000"),
    ]
    assert Path("/run/somewhere/s3mount") not in runtime.directories(1001)
