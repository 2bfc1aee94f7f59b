"""A machine that really boots: Debian with systemd as process 1, in a container of systemd-nspawn.

Its root file system is made once by debootstrap, from the network, and kept below ~/.cache/s3mount; what a
boot changes is lost with it. It shares this machine's network, and the program and its Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,python3,fuse3,libssl3,ca-certificates"
# autofs is for x-systemd.automount.
DEVICES = ("/dev/fuse", *(["/dev/autofs"] if os.path.exists("/dev/autofs") else []))
BUILD_S = 900.0
BOOT_S = 240.0
SESSION_S = 150
SESSION_UNIT = """\
[Unit]
Description=what the test does in here
[Service]
ExecStart=/exchange/run
[Install]
WantedBy=multi-user.target
"""
_RUN = f"""\
#!/bin/sh
timeout {SESSION_S} sh -eux /exchange/session >/exchange/said 2>&1
echo $? >/exchange/code
journalctl {{journal}} >/exchange/journal
systemctl poweroff --no-block
"""
_MOST_SHOWN = 6000
# This Python and its packages, wherever they are here: a user's home is closed to the unit.
_PROGRAM = f"""\
#!/bin/sh
export PYTHONHOME=/opt/python PYTHONPATH=/opt/s3mount:/opt/site LD_LIBRARY_PATH=/opt/python/lib
exec /opt/python/bin/python{sys.version_info[0]}.{sys.version_info[1]} -m s3mount "$@"
"""


class Booting:
    """Boots a machine that runs ``session.service``, of SESSION_UNIT, and says what a test did in it.

    Args:
        exchange: an empty directory, which is /exchange in there.
        nspawn: what systemd-nspawn is told of this machine.
        journal: what journalctl is asked for, to be shown where a session fails.
    """

    def __init__(self, exchange: Path, *nspawn: str, journal: str) -> None:
        self.exchange = exchange
        self._nspawn = nspawn
        exchange.mkdir(mode=0o755, parents=True)
        (exchange / "run").write_text(_RUN.format(journal=journal))
        (exchange / "run").chmod(0o755)

    def boot(self, session: str) -> str:
        """Boot, run *session* with `sh -eux` as root beside the boot, power off; return what it said.

        Raises: AssertionError if it failed, or the machine is not off in time.
        """
        with self.started(session) as process:
            process.wait(BOOT_S)
        return self.said()

    @contextmanager
    def started(self, session: str) -> Iterator[subprocess.Popen[bytes]]:
        """Switch it on, to run *session*; cut its power at the end of the block if it is still on."""
        (self.exchange / "session").write_text(session)
        (self.exchange / "code").unlink(missing_ok=True)
        command = [
            "systemd-nspawn",
            *("--quiet", "--register=no", "--keep-unit", "--boot"),
            *(f"--bind={device}" for device in DEVICES),
            *(f"--property=DeviceAllow={device} rwm" for device in DEVICES),
            "--capability=CAP_SYS_ADMIN,CAP_MKNOD",
            f"--bind={self.exchange}:/exchange",
            *self._nspawn,
        ]
        environment: Mapping[str, str] = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
        with self._console.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60)

    def said(self) -> str:
        """Return what the session said. Raises: AssertionError if it failed."""
        found = {name: self.exchange / name for name in ("code", "said", "journal")}
        texts = {name: path.read_text() if path.exists() else "" for name, path in found.items()}
        end = self._console.read_text(errors="replace")[-2000:]
        journal = texts["journal"][-_MOST_SHOWN:]
        assert texts["code"] == "0\n", f"{texts['said']}\n{journal}\n--- console:\n{end}"
        return texts["said"]

    @property
    def _console(self) -> Path:
        return self.exchange / "console"


class Machine(Booting):
    """A machine with the system units of s3mount, and the mount ``photos`` enabled.

    Args:
        base: an empty directory of the test's.
        config: of /etc/s3mount/photos.toml, whose mountpoint is /srv/photos.
        credentials: of /etc/s3mount/photos.credentials.
    """

    def __init__(self, base: Path, config: str, credentials: str) -> None:
        units, etc, mountpoint = base / "units", base / "etc", base / "mountpoint"
        self.state = base / "state"
        exchange = base / "exchange"
        read_only = {
            "/opt/s3mount": ROOT,
            "/opt/python": sys.base_prefix,
            "/opt/site": sysconfig.get_path("platlib"),
            "/usr/local/bin/s3mount": exchange / "s3mount",
            "/etc/sysusers.d/s3mount.conf": ROOT / "systemd/sysusers/s3mount.conf",
            "/etc/systemd/system": units,
            "/etc/s3mount": etc,
        }
        super().__init__(
            exchange,
            "--volatile=overlay",
            f"--directory={base_tree()}",
            *(f"--bind-ro={path}:{place}" for place, path in read_only.items()),
            f"--bind={self.state}:/var/lib/s3mount",
            f"--bind={mountpoint}:/srv/photos",
            journal="-u s3mount@photos",
        )
        for directory in (units, etc, self.state, mountpoint):
            directory.mkdir(mode=0o755)
        (etc / "photos.toml").write_text(config)
        (etc / "photos.credentials").touch(mode=0o600)
        (etc / "photos.credentials").write_text(credentials)
        for unit in (ROOT / "systemd/system").iterdir():
            shutil.copyfile(unit, units / unit.name)
        (exchange / "s3mount").write_text(_PROGRAM)
        (exchange / "s3mount").chmod(0o755)
        (units / "session.service").write_text(SESSION_UNIT)
        wants = units / "multi-user.target.wants"
        wants.mkdir()
        for name, unit_file in (("s3mount@photos", "s3mount@"), ("session", "session")):
            (wants / f"{name}.service").symlink_to(f"/etc/systemd/system/{unit_file}.service")


def base_tree() -> Path:
    """Return the root file system, made if need be; skips where that cannot be."""
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs to be root with /dev/fuse")
    for program, package in (("systemd-nspawn", "systemd-container"), ("debootstrap", "debootstrap")):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}: apt-get install {package}")
    if sys.base_prefix == "/usr":
        pytest.skip("this Python is the machine's own, and the one in there may be another")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "s3mount"
    tree = cache / f"machine-{SUITE}"
    if not tree.exists():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = cache / f"machine-{SUITE}.{os.getpid()}"
        try:
            subprocess.run(
                ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(unfinished)],
                check=True,
                capture_output=True,
                timeout=BUILD_S,
            )
            unfinished.rename(tree)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return tree
