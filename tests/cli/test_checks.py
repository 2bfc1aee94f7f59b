"""Each failure that can be seen on this machine before anything is started: its line and exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3mount.cli import checks
from s3mount.cli.look import Sight, in_child, look_at
from s3mount.config import make_config
from s3mount.core.exits import Exit
from s3mount.errors import StartupError
from tests.cli.command import NOBODY, Outcome, as_nobody, in_private_mounts, s3mount

FUSE_DEVICE = Path("/dev/fuse")


@pytest.fixture
def state(tmp_path: Path) -> dict[str, str]:
    """An environment whose state directory is the test's own."""
    return {"XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory that an ordinary user owns and can reach."""
    path = tmp_path_factory.mktemp("public")
    if os.geteuid() == 0:
        # One process of several has a directory of its own in the run's.
        top = tmp_path_factory.getbasetemp().parents[1 if "PYTEST_XDIST_WORKER" in os.environ else 0]
        for parent in (path, *path.parents):
            # Directories of pytest's own are closed to others; what was open stays as it was.
            if parent == Path("/tmp") or not parent.is_relative_to(top):
                break
            parent.chmod(parent.stat().st_mode | 0o055)
        os.chown(path, NOBODY, NOBODY)
    yield path


def refusal(outcome: Outcome, code: Exit, thing: str, cause: str, advice: str) -> None:
    """Assert that the command refused in one line of three parts, without a traceback."""
    assert outcome.exit_code == code, outcome.stderr
    assert outcome.stdout == ""
    line = outcome.line
    assert line.startswith(f"{thing}: ")
    assert cause in line
    assert advice in line.rpartition("; ")[2]


def test_mountpoint_missing(tmp_path: Path, state: dict[str, str]) -> None:
    """The advice can be pasted."""
    path = tmp_path / "absent"
    outcome = s3mount("mount", "bucket", path, environment=state)
    refusal(outcome, Exit.MOUNTPOINT, f"mountpoint {path}", "does not exist", f"mkdir -p {path}")


def test_mountpoint_is_a_file(tmp_path: Path, state: dict[str, str]) -> None:
    """Only directories can be mounted on."""
    path = tmp_path / "file"
    path.write_text("")
    outcome = s3mount("mount", "bucket", path, environment=state)
    refusal(outcome, Exit.MOUNTPOINT, f"mountpoint {path}", "not a directory", "name a directory")


def test_mountpoint_not_empty(tmp_path: Path, state: dict[str, str]) -> None:
    """Files would vanish from sight; -o nonempty says that they may."""
    path = tmp_path / "full"
    path.mkdir()
    (path / "file").write_text("")
    outcome = s3mount("mount", "bucket", path, environment=state)
    refusal(outcome, Exit.MOUNTPOINT, f"mountpoint {path}", "not empty", "-o nonempty")
    checks.check_mountpoint(make_config("bucket", str(path), {"nonempty": True}))


def test_mountpoint_of_somebody_else(public: Path) -> None:
    """fusermount3 would refuse with a message that does not say why."""
    launcher = as_nobody()
    public.chmod(0o555)
    outcome = s3mount("mount", "bucket", public, launcher=launcher, environment={"HOME": str(public)})
    refusal(outcome, Exit.MOUNTPOINT, f"mountpoint {public}", "may not write", "a directory of yours")


@pytest.mark.parametrize(
    ("sight", "cause"),
    [
        (Sight(errno.ENOTCONN), "dead mount is in the way (Transport endpoint is not connected)"),
        (Sight(None), "does not answer within 5 s"),
    ],
)
def test_mountpoint_with_a_dead_or_hung_mount(
    monkeypatch: pytest.MonkeyPatch, sight: Sight, cause: str
) -> None:
    """The advice clears it."""
    monkeypatch.setattr(checks, "look_at", lambda path, timeout_s: sight)
    with pytest.raises(StartupError) as caught:
        checks.check_mountpoint(make_config("bucket", "/mnt/dead", {}))
    assert caught.value.exit_code == Exit.MOUNTPOINT
    assert cause in caught.value.cause
    assert "s3mount umount /mnt/dead" in caught.value.advice
    assert "fusermount3 -uz /mnt/dead" in caught.value.advice


def test_fuse_device_missing(tmp_path: Path, state: dict[str, str]) -> None:
    """The commonest case is a container without the device."""
    path = tmp_path / "mnt"
    path.mkdir()
    hide = 'mount -t tmpfs none /dev && exec "$@"'
    launcher = [*in_private_mounts(), "sh", "-c", hide, "sh", sys.executable, "-m", "s3mount"]
    outcome = s3mount("mount", "bucket", path, environment=state, launcher=launcher)
    refusal(outcome, Exit.FUSE, "/dev/fuse", "does not exist", "--device /dev/fuse")


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "chmod 666 /dev/fuse"),
        (errno.EPERM, "--device /dev/fuse --cap-add SYS_ADMIN"),
        (errno.ENODEV, "modprobe fuse"),
    ],
)
def test_fuse_device_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, number: int, advice: str) -> None:
    """Each reason has its own next step."""

    def refuse(path: str, flags: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StartupError) as caught:
        checks.check_fuse()
    assert (caught.value.thing, caught.value.exit_code) == ("/dev/fuse", Exit.FUSE)
    assert advice in caught.value.advice


def test_fusermount_missing_for_an_ordinary_user(public: Path) -> None:
    """Root does not need it; everybody else does."""
    environment = {"HOME": str(public), "PATH": "/nonexistent"}
    launcher = as_nobody()
    mountpoint = public / "mnt"
    mountpoint.mkdir()
    _give_to_nobody(mountpoint)
    outcome = s3mount("mount", "bucket", mountpoint, environment=environment, launcher=launcher)
    refusal(outcome, Exit.FUSE, "fusermount3", "not found on PATH", "apt-get install fuse3")


def test_letting_others_in_needs_the_administrators_consent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fuse.conf says so with a line of its own; a comment is none."""
    conf = tmp_path / "fuse.conf"
    conf.write_text("# user_allow_other\nmount_max = 1000\n")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for file in (conf, tmp_path / "absent"):
        with pytest.raises(StartupError) as caught:
            checks.check_others_allowed("--allow-other", file)
        assert caught.value.exit_code == Exit.FUSE
        assert "user_allow_other" in caught.value.cause
    conf.write_text("user_allow_other\n")
    checks.check_others_allowed("--allow-other", conf)
    conf.write_text("")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    checks.check_others_allowed("--allow-other", conf)


@pytest.mark.skipif(not FUSE_DEVICE.exists(), reason="needs /dev/fuse")
def test_allow_other_refused_to_an_ordinary_user(public: Path) -> None:
    """The same through the command line, before anything is started."""
    launcher = as_nobody()
    if os.geteuid() == 0:
        open_device = 'mount --bind "$0" /dev/fuse && mount --bind "$1" /etc/fuse.conf && shift && exec "$@"'
        conf = public / "fuse.conf"
        conf.touch()
        device = public / "fuse"
        os.mknod(device, 0o666 | 0o020000, FUSE_DEVICE.stat().st_rdev)
        device.chmod(0o666)
        launcher = [*in_private_mounts(), "sh", "-c", open_device, str(device), str(conf), *launcher]
    mountpoint = public / "mnt"
    mountpoint.mkdir()
    _give_to_nobody(mountpoint)
    outcome = s3mount(
        "mount", "bucket", mountpoint, "--allow-other", launcher=launcher, environment={"HOME": str(public)}
    )
    refusal(outcome, Exit.FUSE, "--allow-other", "user_allow_other", "have root add that line")


def test_cache_directory_not_writable(tmp_path: Path, state: dict[str, str]) -> None:
    """A file stands where the directory should be, which stops even root."""
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    (tmp_path / "file").write_text("")
    cache = tmp_path / "file" / "cache"
    outcome = s3mount("mount", "bucket", mountpoint, "--cache-dir", cache, environment=state)
    _skip_without_fuse(outcome)
    refusal(outcome, Exit.CACHE_DIR, f"cache directory {cache}", "a file is in its way", "--cache-dir")


def test_spool_directory_not_writable(tmp_path: Path) -> None:
    """Nothing could be written to such a mount."""
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    outcome = s3mount("mount", "bucket", mountpoint, "--spool-dir", "/proc/spool")
    _skip_without_fuse(outcome)
    assert outcome.exit_code == Exit.CACHE_DIR
    assert outcome.line.startswith("spool directory /proc/spool/bucket-")
    assert "--spool-dir" in outcome.line


def test_spool_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    """It holds the contents of files that others may not read."""
    path = tmp_path / "a" / "spool"
    checks.check_directory("spool directory", str(path), "--spool-dir")
    assert path.stat().st_mode & 0o777 == 0o700
    assert list(path.iterdir()) == []


def test_log_file_not_writable(tmp_path: Path, state: dict[str, str]) -> None:
    """A background mount without a log would fail in silence."""
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    path = tmp_path / "absent" / "log"
    outcome = s3mount("mount", "bucket", mountpoint, "--log-file", path, environment=state)
    _skip_without_fuse(outcome)
    refusal(outcome, Exit.CONFIG, f"log file {path}", "No such file", "--log-file")


@pytest.mark.parametrize(
    ("prepare", "cause"),
    [
        ("absent", "No such file"),
        ("readable", "others can read it (mode 0644)"),
        ("link", "symbolic link"),
        ("directory", "not a file"),
    ],
)
def test_credentials_file_that_others_could_read_or_replace(tmp_path: Path, prepare: str, cause: str) -> None:
    """Keys that leak are not used."""
    path = tmp_path / "keys"
    if prepare == "readable":
        path.write_text("")
        path.chmod(0o644)
    elif prepare == "link":
        path.symlink_to("/etc/passwd")
    elif prepare == "directory":
        path.mkdir(0o700)
    with pytest.raises(StartupError) as caught:
        checks.check_credentials_file(str(path))
    assert caught.value.exit_code == Exit.CONFIG
    assert cause in caught.value.cause


def test_credentials_file_of_its_owner_alone_is_accepted(tmp_path: Path) -> None:
    """Mode 0600 or less."""
    path = tmp_path / "keys"
    path.write_text("")
    for mode in (0o600, 0o400):
        path.chmod(mode)
        checks.check_credentials_file(str(path))


def test_ca_bundle_missing(tmp_path: Path) -> None:
    """Before TLS fails with something about PEM."""
    with pytest.raises(StartupError) as caught:
        checks.check_readable("CA bundle", str(tmp_path / "absent.pem"))
    assert caught.value.exit_code == Exit.CONFIG


def test_looking_at_a_directory(tmp_path: Path) -> None:
    """What the checks decide by."""
    seen = look_at(str(tmp_path), 10)
    assert seen == Sight(0, tmp_path.stat().st_dev, is_directory=True, is_empty=True, is_writable=True)
    (tmp_path / "file").write_text("")
    assert not look_at(str(tmp_path), 10).is_empty
    assert not look_at(str(tmp_path / "file"), 10).is_directory
    assert look_at(str(tmp_path / "absent"), 10).error == errno.ENOENT


def test_a_look_that_never_ends_is_given_up_and_its_process_killed() -> None:
    """A hung mount must not hang the command that could tell the user."""

    def hang() -> str:
        signal.pause()
        return "never"

    before = _children()
    assert in_child(hang, 0.1) is None
    assert _children() == before


def _children() -> set[str]:
    """Return the ids of this process's children: servers that other tests have started may be among them."""
    own = Path("/proc/self/task").iterdir()
    return {pid for task in own for pid in (task / "children").read_text().split()}


def test_a_look_that_fails_unexpectedly_counts_as_no_answer() -> None:
    """Its traceback is nobody's business."""

    def fail() -> str:
        raise ValueError("no")

    assert in_child(fail, 10) is None


def _give_to_nobody(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


def _skip_without_fuse(outcome: Outcome) -> None:
    if outcome.exit_code == Exit.FUSE:
        pytest.skip("this machine has no FUSE, which is checked first")
