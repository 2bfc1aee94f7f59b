"""A machine on which the Debian package is installed: one mount by fstab, one by the unit, and a shutdown."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.bucket import Bucket
from tests.support.killable import KillableServer, killable_minio
from tests.support.machine import DEVICES, ROOT, SESSION_UNIT, Booting, base_tree
from tests.support.waiting import eventually

pytestmark = pytest.mark.heavy

BUILD_S = 900.0
BOTH = """\
for place in /srv/line /srv/unit; do
    sh -c "until findmnt -n $place; do sleep 0.2; done"
done
"""


class PackagedMachine(Booting):
    """A copy of a small Debian with the package, booted again and again.

    Its mounts: ``/srv/line`` by /etc/fstab, in write-back mode, and ``/srv/unit`` by ``s3mount@unit``.
    """

    def __init__(self, base: Path, package: Path, killable: KillableServer, bucket: str) -> None:
        self.tree = base / "tree"
        super().__init__(base / "exchange", f"--directory={self.tree}", journal="-b -o short-monotonic")
        subprocess.run(["cp", "-a", "--reflink=auto", str(base_tree()), str(self.tree)], check=True)
        shutil.copy(package, self.tree / "package.deb")
        # Its dependencies are in the tree; apt would want a network that this place may not have.
        self.inside("dpkg", "--install", "/package.deb")
        server = killable.server
        etc = self.tree / "etc/s3mount"
        keys = f"aws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
        (etc / "unit.credentials").touch(mode=0o600)
        (etc / "unit.credentials").write_text(f"[default]\n{keys}")
        lines = [
            f'bucket = "{bucket}/unit"',
            'mountpoint = "/srv/unit"',
            f'endpoint-url = "{server.endpoint_url}"',
            "allow-other = true",
        ]
        (etc / "unit.toml").write_text("\n".join(lines) + "\n")
        self._line = f"{bucket}/line /srv/line s3mount endpoint_url={server.endpoint_url}"
        keys_of_the_unit = "credentials_file=/etc/s3mount/unit.credentials"
        self.write_fstab(f"nofail,{keys_of_the_unit},write_back=1h,x-systemd.mount-timeout=10min")
        aws = self.tree / "root/.aws"
        aws.mkdir(mode=0o700)
        (aws / "credentials").touch(mode=0o600)
        (aws / "credentials").write_text(f"[work]\n{keys}")
        (aws / "config").write_text("[profile work]\nregion = us-east-1\n")
        for name in ("line", "unit"):
            (self.tree / "srv" / name).mkdir()
        (self.tree / "etc/systemd/system/session.service").write_text(SESSION_UNIT)
        self.inside("systemctl", "enable", "session.service", "s3mount@unit.service")

    def write_fstab(self, options: str) -> None:
        """Let the line have *options*, beside those that it always has."""
        always = "_netdev,allow_other"
        (self.tree / "etc/fstab").write_text(f"{self._line},{always},{options} 0 0\n")

    def inside(self, *command: str) -> None:
        """Run *command* in the tree while it is off. Raises: AssertionError."""
        run = ["chroot", str(self.tree), *command]
        done = subprocess.run(run, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built from a copy of these sources."""
    sources = tmp_path_factory.mktemp("deb") / "sources"
    skipped = shutil.ignore_patterns(
        ".venv", ".git", "__pycache__", "dist", "build", "*.egg-info", ".*_cache"
    )
    shutil.copytree(ROOT, sources, ignore=skipped)
    built = subprocess.run(
        ["bash", "scripts/build-deb"], cwd=sources, capture_output=True, text=True, timeout=BUILD_S
    )
    assert built.returncode == 0, built.stderr
    return sources / built.stdout.strip()


def test_a_line_of_fstab_and_a_unit_are_there_after_each_boot(tmp_path: Path, package: Path) -> None:
    """An ordinary user reads in both. 500 MB that the line's mount has pending at the shutdown are in the
    bucket afterwards, and the next boot shows them."""
    with killable_minio(tmp_path / "server") as killable:
        name = killable.server.fresh_bucket()
        bucket = Bucket(killable.server, name)
        for place in ("line", "unit"):
            bucket.put(f"{place}/sea.txt", b"waves")
        machine = PackagedMachine(tmp_path / "machine", package, killable, name)
        said = machine.boot(
            BOTH
            + """
            for place in /srv/line /srv/unit; do
                test "$(setpriv --reuid=65534 --regid=65534 --clear-groups cat $place/sea.txt)" = waves
            done
            findmnt -t fuse.s3mount
            mount -a
            mount -a
            systemctl status srv-line.mount
            s3mount list
            # Neither mount's process is root's.
            for pid in $(s3mount list --json | tr ',' '\\n' | sed -n 's/.*"pid": //p'); do
                grep "^Uid:[[:space:]]$(id -u s3mount)[[:space:]]" /proc/$pid/status
            done
            head -c 500000000 /dev/urandom | tee /srv/line/big | sha256sum
            """
        )
        print(said)
        digest = bucket.sha256("line/big")
        assert digest in said
        again = machine.boot(BOTH + "sha256sum /srv/line/big; find /var/lib/s3mount/ -name '*.data'")
        assert digest in again
        assert not [line for line in again.splitlines() if line.startswith("/var/lib")]


def test_it_boots_while_the_server_is_down_and_both_are_there_when_it_is(
    tmp_path: Path, package: Path
) -> None:
    """A line with x-systemd.automount is tried at each access, the unit every few seconds.

    An access meanwhile fails, and does not hang. The line's keys are in root's ~/.aws, which the mount's
    process cannot read itself.
    """
    if "/dev/autofs" not in DEVICES:
        pytest.skip("this kernel has no autofs")
    with killable_minio(tmp_path / "server") as killable:
        name = killable.server.fresh_bucket()
        bucket = Bucket(killable.server, name)
        for place in ("line", "unit"):
            bucket.put(f"{place}/sea.txt", b"waves")
        machine = PackagedMachine(tmp_path / "machine", package, killable, name)
        machine.write_fstab("nofail,x-systemd.automount,profile=work")
        killable.kill()
        session = """
            sh -c 'until systemctl is-active -q multi-user.target; do sleep 0.2; done'
            if systemctl is-active -q s3mount@unit; then exit 1; fi
            if cat /srv/line/sea.txt; then exit 1; fi
            touch /exchange/booted
            sh -c 'until systemctl is-active -q s3mount@unit; do sleep 0.2; done'
            sh -c 'until cat /srv/line/sea.txt; do sleep 1; done'
            test "$(cat /srv/unit/sea.txt)" = waves
            findmnt /srv/line -t fuse.s3mount
            """
        with machine.started(session) as process:
            eventually((machine.exchange / "booted").exists, deadline_s=180.0)
            killable.start()
            process.wait(180.0)
        machine.said()
