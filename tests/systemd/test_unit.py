"""The unit under systemd/: systemd accepts it, and its commands mount and unmount."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.mounting import Watchdog, mounts_below
from tests.support.servers import Server

FOLDER = Path(__file__).parents[2] / "systemd"
UNIT = FOLDER / "s3mount@.service"
EXAMPLE = FOLDER / "example.env"
PROGRAM = Path(sys.executable).parent / "s3mount"
COMMAND_S = 60.0


def _settings() -> dict[str, str]:
    """Return the settings of the unit's [Service] section."""
    text = UNIT.read_text(encoding="utf-8")
    service = text.partition("[Service]")[2].partition("\n[")[0]
    return dict(re.findall(r"^(\w+)=(.*)$", service, re.MULTILINE))


def _environment(path: Path) -> dict[str, str]:
    """Read an environment file as EnvironmentFile= does."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _command(setting: str, environment: dict[str, str]) -> list[str]:
    """Return the command of *setting* as systemd builds it: ${X} is one word, $X is split into words."""
    words: list[str] = []
    for word in _settings()[setting].removeprefix("-").split():
        if whole := re.fullmatch(r"\$\{(\w+)\}", word):
            words.append(environment[whole[1]])
        elif split := re.fullmatch(r"\$(\w+)", word):
            words += shlex.split(environment[split[1]])
        else:
            words.append(word)
    return [str(PROGRAM) if words[0] == "/usr/local/bin/s3mount" else words[0], *words[1:]]


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds nothing, with the program where it is here."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    assert PROGRAM.exists()
    unit = tmp_path / "s3mount@photos.service"
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/usr/local/bin/s3mount", str(PROGRAM)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
    )
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, complaints) == (0, []), done.stderr


def test_its_commands_mount_and_unmount(minio: Server, tmp_path: Path) -> None:
    """ExecStart returns when the mount answers, ExecStop when the bucket has everything."""
    mountpoint = tmp_path / "photos"
    mountpoint.mkdir()
    environment = _environment(EXAMPLE)
    assert environment["OPTIONS"].startswith("--endpoint-url http://127.0.0.1:9000")
    environment |= {
        "BUCKET": minio.fresh_bucket(),
        "MOUNTPOINT": str(mountpoint),
        "OPTIONS": environment["OPTIONS"].replace("http://127.0.0.1:9000", minio.endpoint_url),
        "AWS_ACCESS_KEY_ID": minio.access_key,
        "AWS_SECRET_ACCESS_KEY": minio.secret_key,
        "STATE_DIRECTORY": str(tmp_path / "state"),
        "PATH": os.environ["PATH"],
    }
    if os.geteuid() != 0:
        environment["OPTIONS"] = environment["OPTIONS"].replace(" --allow-other", "")
    start = _run("ExecStart", environment)
    assert start.returncode == 0, start.stderr
    watchdog = Watchdog(mountpoint, COMMAND_S)
    try:
        (mountpoint / "sea.txt").write_text("waves")
        assert (tmp_path / "state" / "spool").is_dir()
    finally:
        stop = _run("ExecStop", environment)
        _run("ExecStopPost", environment)
        watchdog.cancel()
    assert stop.returncode == 0, stop.stderr
    assert mounts_below(tmp_path) == []
    answer = minio.client().get_object(Bucket=environment["BUCKET"], Key="sea.txt")
    assert answer["Body"].read() == b"waves"


def _run(setting: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(setting, environment), env=environment, capture_output=True, text=True, timeout=COMMAND_S
    )
