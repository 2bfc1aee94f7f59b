"""The units under systemd/: systemd accepts them; their commands mount, unmount and clear what is dead."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from s3mount.config.machine import default_credentials_file
from tests.support.mounting import Watchdog, mounts_below
from tests.support.notify_socket import notify_socket
from tests.support.servers import Server
from tests.support.waiting import eventually

FOLDER = Path(__file__).parents[2] / "systemd"
UNITS = {manager: FOLDER / manager / "s3mount@.service" for manager in ("system", "user")}
HELPER = FOLDER / "system" / "s3mount-mounter@.service"
PROGRAM = Path(sys.executable).parent / "s3mount"
COMMAND_S = 60.0
# What gives a unit mounts of its own, in which the mount would be hidden from the rest of the machine.
HIDING = (
    *(
        "ProtectSystem",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "PrivateMounts",
        "ProtectKernelTunables",
    ),
    *("ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc", "ProcSubset"),
    *("ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "BindPaths", "RootDirectory", "DynamicUser"),
    *("TemporaryFileSystem", "MountFlags", "ProtectHostname"),
)


def _settings(unit: Path) -> list[tuple[str, str]]:
    """Return the settings of the unit's [Service] section."""
    service = unit.read_text(encoding="utf-8").partition("[Service]")[2].partition("\n[")[0]
    return re.findall(r"^(\w+)=(.*)$", service, re.MULTILINE)


@pytest.mark.parametrize("manager", UNITS)
def test_systemd_accepts_the_unit(tmp_path: Path, manager: str) -> None:
    """`systemd-analyze verify` finds nothing, with the program where it is here."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    assert PROGRAM.exists()
    unit = tmp_path / "s3mount@photos.service"
    unit.write_text(
        UNITS[manager].read_text(encoding="utf-8").replace("/usr/local/bin/s3mount", str(PROGRAM))
    )
    done = subprocess.run(
        ["systemd-analyze", f"--{manager}", "verify", "--man=no", str(unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
    )
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, complaints) == (0, []), done.stderr


def test_systemd_accepts_the_helpers_units(tmp_path: Path) -> None:
    """The socket, and what is started for each connection."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    units = [tmp_path / "s3mount-mounter.socket", tmp_path / "s3mount-mounter@.service"]
    for unit in units:
        text = (FOLDER / "system" / unit.name).read_text(encoding="utf-8")
        unit.write_text(text.replace("/usr/local/bin/s3mount", str(PROGRAM)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(units[0])],
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "s3mount" in line]) == (0, [])


def test_the_unit_that_talks_to_the_network_is_closed(tmp_path: Path) -> None:
    """`systemd-analyze security` scores it, which is printed: at most 2.0."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    unit = tmp_path / "s3mount@photos.service"
    shutil.copyfile(UNITS["system"], unit)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(unit)],
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
    )
    print(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    # It is its own user, without a capability.
    settings = _settings(UNITS["system"])
    assert ("User", "s3mount") in settings
    assert ("CapabilityBoundingSet", "") in settings


def test_nothing_hides_the_mount_from_the_machine() -> None:
    """Neither the helper that mounts nor a user's unit has a view of the disk of its own."""
    assert {name for name, _ in _settings(HELPER)}.isdisjoint(HIDING)
    assert {name for name, _ in _settings(UNITS["user"])}.isdisjoint(HIDING)
    # These would keep fusermount3, which is set-uid root, from mounting for a user.
    names = {name for name, _ in _settings(UNITS["user"])}
    assert not any(name.startswith(("Restrict", "SystemCall", "NoNew", "Lock", "Memory")) for name in names)


class Machine:
    """What systemd would do with the unit of the mount that *config* describes."""

    def __init__(self, server: Server, base: Path) -> None:
        self.base = base
        self.mountpoint = base / "photos"
        self.mountpoint.mkdir()
        self.bucket = server.fresh_bucket()
        base.chmod(0o755)
        self.config = base / "photos.toml"
        text = (FOLDER / "example.toml").read_text(encoding="utf-8")
        for old, new in (
            ('"photos"', f'"{self.bucket}"'),
            ("/srv/photos", str(self.mountpoint)),
            ("http://127.0.0.1:9000", server.endpoint_url),
        ):
            assert old in text
            text = text.replace(old, new)
        if os.geteuid() != 0:
            text = text.replace("allow-other = true", "")
        self.config.write_text(text)
        credentials = base / "credentials"
        credentials.mkdir()
        secret = credentials / "s3mount"
        secret.touch(mode=0o400)
        secret.chmod(0o600)
        example = (FOLDER / "example.credentials").read_text(encoding="utf-8")
        secret.write_text(
            example.replace("your-access-key", server.access_key).replace(
                "your-secret-key", server.secret_key
            )
        )
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(FOLDER.parent),
            "CREDENTIALS_DIRECTORY": str(credentials),
            "STATE_DIRECTORY": str(base / "state"),
        }

    def command(self, setting: str) -> list[str]:
        """Return the command of *setting* of the system unit."""
        words = dict(_settings(UNITS["system"]))[setting].removeprefix("-+").split()
        assert words[0] == "/usr/local/bin/s3mount"
        return [str(PROGRAM), *(word.replace("/etc/s3mount/%i.toml", str(self.config)) for word in words[1:])]

    def run(self, setting: str) -> str:
        """Run the command of *setting*; return what it said."""
        done = subprocess.run(
            self.command(setting), env=self.environment, capture_output=True, text=True, timeout=COMMAND_S
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run ExecStart, from its READY=1 to its end, with its log in a journal."""
        self.run("ExecStartPre")
        journal = self.base / "journal"
        with notify_socket(self.base) as manager, journal.open("ab") as stream:
            found = os.fstat(stream.fileno())
            environment = {
                **self.environment,
                "NOTIFY_SOCKET": manager.address,
                "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}",
            }
            process = subprocess.Popen(self.command("ExecStart"), env=environment, stderr=stream)
            try:
                manager.wait_for("READY", "1")
                watchdog = Watchdog(self.mountpoint, COMMAND_S)
                try:
                    yield process
                finally:
                    watchdog.cancel()
            finally:
                with suppress(ProcessLookupError):
                    process.kill()
                process.wait(COMMAND_S)
                self.run("ExecStopPost")
        Path(manager.address).unlink()


def test_its_commands_mount_and_unmount(minio: Server, tmp_path: Path) -> None:
    """SIGTERM, which systemd sends, ends it when the bucket has everything; keys come as a credential."""
    machine = Machine(minio, tmp_path)
    with machine.started() as process:
        (machine.mountpoint / "sea.txt").write_text("waves")
        assert (tmp_path / "state" / "spool").is_dir()
        process.send_signal(signal.SIGTERM)
        assert process.wait(COMMAND_S) == 0
    assert mounts_below(tmp_path) == []
    answer = minio.client().get_object(Bucket=machine.bucket, Key="sea.txt")
    assert answer["Body"].read() == b"waves"
    journal = (tmp_path / "journal").read_text()
    assert f"<6>s3mount.mount: mounted s3://{machine.bucket}/ at {machine.mountpoint}\n" in journal


def test_without_a_credentials_file_the_usual_places_are_asked(tmp_path: Path) -> None:
    """What the unit sets then has no keys in it."""
    default = dict(_settings(UNITS["system"]))["SetCredential"]
    name, _, content = default.partition(":")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert default_credentials_file({}) is None
    assert default_credentials_file(environment) is None
    (tmp_path / name).write_text(content)
    assert default_credentials_file(environment) is None
    shutil.copyfile(FOLDER / "example.credentials", tmp_path / name)
    assert default_credentials_file(environment) == str(tmp_path / name)


def test_a_mount_that_was_killed_is_cleared_away_and_comes_back(minio: Server, tmp_path: Path) -> None:
    """After SIGKILL, ENOTCONN is what programs see until the unit has cleared the place and mounts again."""
    machine = Machine(minio, tmp_path)
    with machine.started() as process:
        (machine.mountpoint / "sea.txt").write_text("waves")
        process.kill()
        process.wait(COMMAND_S)
        eventually(lambda: "ENOTCONN" if mounts_below(tmp_path) else "gone", "ENOTCONN")
        with pytest.raises(OSError, match="not connected"):
            os.listdir(machine.mountpoint)
        assert "was a dead mount and is cleaned up" in machine.run("ExecStopPost")
        assert os.listdir(machine.mountpoint) == []
    with machine.started() as process:
        assert (machine.mountpoint / "sea.txt").read_text() == "waves"
        # A mount that lives, and a place where there is none, are left as they are.
        assert machine.run("ExecStartPre") == ""
        assert (machine.mountpoint / "sea.txt").read_text() == "waves"
        process.send_signal(signal.SIGTERM)
        assert process.wait(COMMAND_S) == 0
    assert machine.run("ExecStartPre") == ""
