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
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,python3,fuse3,libssl3,ca-certificates"
BUILD_S = 900.0
BOOT_S = 240.0
SESSION_S = 120
_SESSION = """\
[Unit]
Description=what the test does in here
[Service]
ExecStart=/exchange/run
"""


_RUN = f"""\
#!/bin/sh
timeout {SESSION_S} sh -eux /exchange/session >/exchange/said 2>&1
echo $? >/exchange/code
journalctl -u s3mount@photos >/exchange/journal
systemctl poweroff --no-block
"""


# This Python and its packages, wherever they are here: a user's home is closed to the unit.
_PROGRAM = f"""\
#!/bin/sh
export PYTHONHOME=/opt/python PYTHONPATH=/opt/s3mount:/opt/site LD_LIBRARY_PATH=/opt/python/lib
exec /opt/python/bin/python{sys.version_info[0]}.{sys.version_info[1]} -m s3mount "$@"
"""


class Machine:
    """A machine with the system units of s3mount, and the mount ``photos`` enabled.

    Args:
        base: an empty directory of the test's.
        config: of /etc/s3mount/photos.toml, whose mountpoint is /srv/photos.
        credentials: of /etc/s3mount/photos.credentials.
    """

    def __init__(self, base: Path, config: str, credentials: str) -> None:
        self._tree = base_tree()
        self.exchange, self._units = base / "exchange", base / "units"
        self._etc, self.state, self._mountpoint = base / "etc", base / "state", base / "mountpoint"
        for directory in (self.exchange, self._units, self._etc, self.state, self._mountpoint):
            directory.mkdir(mode=0o755)
        (self._etc / "photos.toml").write_text(config)
        (self._etc / "photos.credentials").touch(mode=0o600)
        (self._etc / "photos.credentials").write_text(credentials)
        for unit in (ROOT / "systemd/system").iterdir():
            shutil.copyfile(unit, self._units / unit.name)
        (self.exchange / "s3mount").write_text(_PROGRAM)
        (self.exchange / "s3mount").chmod(0o755)
        (self._units / "session.service").write_text(_SESSION)
        (self.exchange / "run").write_text(_RUN)
        (self.exchange / "run").chmod(0o755)
        wants = self._units / "multi-user.target.wants"
        wants.mkdir()
        for name, unit_file in (("s3mount@photos", "s3mount@"), ("session", "session")):
            (wants / f"{name}.service").symlink_to(f"/etc/systemd/system/{unit_file}.service")

    def boot(self, session: str) -> str:
        """Boot, run *session* with `sh -eux` as root beside the boot, power off; return what it said.

        Raises: AssertionError if it failed, or the machine is not off in time.
        """
        (self.exchange / "session").write_text(session)
        (self.exchange / "code").unlink(missing_ok=True)
        console = self.exchange / "console"
        process = self.start(console)
        try:
            process.wait(BOOT_S)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60)
        return self.said(console)

    def said(self, console: Path) -> str:
        """Return what the session said. Raises: AssertionError if it failed."""
        found = {name: self.exchange / name for name in ("code", "said", "journal")}
        texts = {name: path.read_text() if path.exists() else "" for name, path in found.items()}
        end = console.read_text(errors="replace")[-2000:]
        assert texts["code"] == "0\n", f"{texts['said']}\n{texts['journal']}\n--- console:\n{end}"
        return texts["said"]

    def start(self, console: Path) -> subprocess.Popen[bytes]:
        """Switch it on."""
        binds = {
            "/opt/s3mount": ROOT,
            "/opt/python": sys.base_prefix,
            "/opt/site": sysconfig.get_path("platlib"),
        }
        command = [
            "systemd-nspawn",
            *("--quiet", "--register=no", "--keep-unit", "--boot", "--volatile=overlay"),
            f"--directory={self._tree}",
            *("--bind=/dev/fuse", "--capability=CAP_SYS_ADMIN,CAP_MKNOD"),
            "--property=DeviceAllow=/dev/fuse rwm",
            *(f"--bind-ro={path}:{place}" for place, path in binds.items()),
            f"--bind-ro={self.exchange / 's3mount'}:/usr/local/bin/s3mount",
            f"--bind-ro={ROOT / 'systemd/sysusers/s3mount.conf'}:/etc/sysusers.d/s3mount.conf",
            f"--bind-ro={self._units}:/etc/systemd/system",
            f"--bind-ro={self._etc}:/etc/s3mount",
            f"--bind={self.state}:/var/lib/s3mount",
            f"--bind={self._mountpoint}:/srv/photos",
            f"--bind={self.exchange}:/exchange",
        ]
        environment: Mapping[str, str] = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
        with console.open("wb") as output:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
            )


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
