"""``s3mount umount``: it waits for what is pending, clears what is dead, and says who is in the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from s3mount import runtime
from s3mount.cli.mount_table import mounted_at
from s3mount.core.exits import Exit
from tests.cli import bare_fuse
from tests.cli.command import s3mount
from tests.cli.place import Place, needs_root_and_fuse


def mount(place: Place, behaviour: str = "mounted") -> runtime.MountState:
    """Mount at *place* in the background and return what is on record."""
    outcome = place.mount(behaviour, "--drain-timeout", "20s")
    assert outcome.exit_code == 0, outcome.stderr
    state = place.recorded()
    assert state is not None
    return state


def umount(place: Place, *options: str) -> tuple[int, str]:
    """Run ``s3mount umount`` and return its exit code and what it said."""
    outcome = s3mount("umount", place.mountpoint, *options)
    return outcome.exit_code, outcome.stdout + outcome.stderr


def is_mounted(place: Place) -> bool:
    """Return whether something is mounted at *place*."""
    return mounted_at(str(place.mountpoint)) is not None


@needs_root_and_fuse
def test_it_unmounts_and_returns_when_the_process_has_ended(place: Place) -> None:
    """In silence, and nothing is left on record."""
    state = mount(place)
    assert umount(place) == (0, "")
    assert not is_mounted(place)
    assert not state.is_running()
    assert place.recorded() is None


@needs_root_and_fuse
def test_it_waits_for_pending_uploads(place: Place) -> None:
    """Gone from sight at once; the command returns only when the process has drained."""
    draining = place.mountpoint.parent / "draining"
    draining.touch()
    state = mount(place)
    with subprocess.Popen([sys.executable, "-m", "s3mount", "umount", str(place.mountpoint)]) as process:
        while is_mounted(place):
            assert process.poll() is None
        assert process.poll() is None
        assert state.is_running()
        draining.unlink()
        assert process.wait(30) == 0
    assert not state.is_running()


@needs_root_and_fuse
def test_it_gives_up_after_the_timeout_and_can_be_asked_again(place: Place) -> None:
    """The message says what is left and where; the process goes on by itself."""
    draining = place.mountpoint.parent / "draining"
    draining.touch()
    state = mount(place)
    code, text = umount(place, "--timeout", "100ms")
    assert code == Exit.NOT_DRAINED
    assert f"process {state.pid} is still uploading after 100ms; 1 file (" in text
    assert f"left in {state.spool_dir}" in text
    assert not is_mounted(place)
    draining.unlink()
    assert umount(place)[0] in (0, Exit.MOUNTPOINT)
    assert runtime.wait_for_end(state.pid, state.started, 10)


@needs_root_and_fuse
def test_it_reports_uploads_that_failed(place: Place) -> None:
    """The process ended, and what it could not upload is in the spool."""
    state = mount(place, f"mounted={int(Exit.NOT_DRAINED)}")
    code, text = umount(place)
    assert code == Exit.NOT_DRAINED
    assert "not everything could be uploaded; 1 file (" in text
    assert f"see {state.log_file}" in text
    assert place.recorded() is None


@needs_root_and_fuse
def test_it_reports_a_process_that_was_killed_meanwhile(place: Place) -> None:
    """Nobody wrote down how it ended."""
    draining = place.mountpoint.parent / "draining"
    draining.touch()
    state = mount(place)
    with subprocess.Popen(
        [sys.executable, "-m", "s3mount", "umount", str(place.mountpoint)], stderr=subprocess.PIPE, text=True
    ) as process:
        while is_mounted(place):
            assert process.poll() is None
        os.kill(state.pid, signal.SIGKILL)
        _, text = process.communicate(timeout=30)
    assert process.returncode == Exit.NOT_DRAINED
    assert "its process was killed; 1 file (" in text
    assert place.recorded() is None


@needs_root_and_fuse
def test_a_busy_mount_names_who_uses_it(place: Place) -> None:
    """By name and id; --lazy takes it out of sight all the same."""
    state = mount(place)
    with subprocess.Popen(["sleep", "60"], cwd=place.mountpoint) as user:
        try:
            code, text = umount(place)
            assert code == Exit.MOUNTPOINT
            assert f"it is in use: sleep ({user.pid}); " in text
            assert "--lazy" in text
            assert is_mounted(place)
            code, text = umount(place, "--lazy")
            assert code == 0
            assert f"process {state.pid} ends when nobody uses it" in text
            assert not is_mounted(place)
            assert state.is_running()
        finally:
            user.kill()
    assert runtime.wait_for_end(state.pid, state.started, 10)


@needs_root_and_fuse
def test_a_dead_mount_is_cleaned_up(place: Place) -> None:
    """Its process was killed; what it had not uploaded is named, for that is an error."""
    state = mount(place)
    os.kill(state.pid, signal.SIGKILL)
    assert runtime.wait_for_end(state.pid, state.started, 10)
    again = place.mount("mounted")
    assert again.exit_code == Exit.MOUNTPOINT
    assert "dead mount is in the way (Transport endpoint is not connected)" in again.line
    code, text = umount(place)
    assert code == Exit.NOT_DRAINED
    assert "was a dead mount and is cleaned up" in text
    assert f"its process died; 1 file (1 bytes) left in {state.spool_dir}".split("(")[0] in text
    assert not is_mounted(place)
    assert place.recorded() is None


@needs_root_and_fuse
def test_a_dead_mount_without_a_record_is_cleaned_up_too(place: Place) -> None:
    """It looks like one of ours, and nobody answers."""
    os.close(bare_fuse.mount(str(place.mountpoint)))
    code, text = umount(place)
    assert code == 0
    assert "was a dead mount and is cleaned up" in text
    assert not is_mounted(place)


@needs_root_and_fuse
def test_a_hung_mount_without_a_record_is_unmounted(place: Place) -> None:
    """Nobody answers, so nobody is asked."""
    descriptor = bare_fuse.mount(str(place.mountpoint))
    try:
        assert umount(place)[0] == 0
        assert not is_mounted(place)
    finally:
        os.close(descriptor)


@needs_root_and_fuse
def test_another_programs_mount_is_left_alone(place: Place) -> None:
    """Unmounting it is that program's business."""
    os.close(bare_fuse.mount(str(place.mountpoint), fs_type="fuse.other"))
    code, text = umount(place)
    assert code == Exit.MOUNTPOINT
    assert "what is mounted there is fuse.other, not s3mount" in text
    assert is_mounted(place)


def test_what_is_not_mounted(tmp_path: Path) -> None:
    """A directory, something that does not exist, and what is no FUSE at all."""
    outcome = s3mount("umount", tmp_path)
    assert outcome.exit_code == Exit.MOUNTPOINT
    assert outcome.line.startswith(f"mountpoint {tmp_path}: nothing is mounted there; ")
    outcome = s3mount("umount", tmp_path / "absent")
    assert outcome.exit_code == Exit.MOUNTPOINT
    assert "does not exist" in outcome.line
    outcome = s3mount("umount", "/proc")
    assert outcome.exit_code == Exit.MOUNTPOINT
    assert "is proc, not s3mount" in outcome.line


def test_fusermount_missing_for_an_ordinary_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root can unmount without it."""
    from s3mount.cli import umount as command
    from s3mount.errors import StartupError

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartupError) as caught:
        command._unmount(str(tmp_path), lazy=False)
    assert caught.value.exit_code == Exit.FUSE
