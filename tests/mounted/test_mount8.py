"""mount(8), umount(8), findmnt(8) and lines of fstab, in a mount namespace with an /etc/fstab of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ServerPool
from tests.support.apart import LET_GO
from tests.support.bucket import Bucket
from tests.support.servers import Server

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120
#: What the script finds in its own namespaces: when it ends, or is killed, so is every process in them, and
#: a FUSE mount without its process is aborted.
ISOLATED = [
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
]
PRELUDE = (
    """
set -eu
"""
    + LET_GO
    + """
mount -t tmpfs none /run
cp -a /usr/sbin sbin
"$PYTHON" -m s3mount install --root "$PWD/root" > installed 2>&1
cp -a root/usr/sbin/. sbin
mount --bind sbin /usr/sbin
mkdir -p var mnt
mount --bind var /var/lib
touch fstab
mount --bind fstab /etc/fstab
MNT=$PWD/mnt
sources() { findmnt -rn -o SOURCE -M "$MNT" || true; }
code() { "$@"; echo "= $?"; }
set +e
"""
)


class Machine:
    """Runs scripts as on a machine where s3mount is installed."""

    def __init__(self, server: Server, bucket: Bucket, base: Path) -> None:
        self.server = server
        self.bucket = bucket
        self.base = base

    def run(self, script: str, fstab: str = "") -> list[str]:
        """Run *script*, with ``$MNT`` an empty directory; return the lines that it printed, errors included.

        ``@`` in both stands for ``$MNT``, ``BUCKET`` and ``ENDPOINT`` for the test's own.
        """

        def filled(text: str) -> str:
            text = text.replace("@", f"{self.base}/mnt").replace("BUCKET", self.bucket.name)
            return text.replace("ENDPOINT", self.server.endpoint_url)

        (self.base / "fstab").write_text(filled(fstab))
        (self.base / "script").write_text(PRELUDE + filled(script))
        done = subprocess.run(
            ["timeout", "--kill-after=5", str(DEADLINE_S), *ISOLATED, "bash", "script"],
            cwd=self.base,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S + 30,
            env={
                **os.environ,
                **self.server.environment(),
                "PYTHON": sys.executable,
                "PYTHONPATH": str(ROOT),
                "LC_ALL": "C",
            },
        )
        print(done.stdout)
        assert done.returncode == 0, done.stdout
        return done.stdout.splitlines()


@pytest.fixture
def machine(server_pool: ServerPool, tmp_path: Path) -> Iterator[Machine]:
    """On MinIO; at the end nothing is left in the bucket but objects."""
    server = server_pool.get("minio")
    bucket = Bucket(server, server.fresh_bucket())
    yield Machine(server, bucket, tmp_path)
    assert bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []) == []


def test_lines_of_fstab_are_mounted_once_by_mount_a(machine: Machine) -> None:
    """With and without s3://, as s3mount and as fuse.s3mount; a second mount -a finds them all there."""
    name = machine.bucket.name
    machine.bucket.put("sub/f", b"there")
    options = "_netdev,nofail,noatime,x-systemd.mount-timeout=10min,endpoint_url=ENDPOINT"
    for spec, kind in [
        (name, "s3mount"),
        (f"{name}/sub", "s3mount"),
        (f"s3://{name}/sub/", "s3mount"),
        (f"s3://{name}", "fuse.s3mount"),
    ]:
        said = machine.run(
            "code mount -a; code mount -a; sources; ls $MNT; umount $MNT",
            f"{spec} @ {kind} {options} 0 0\n",
        )
        assert said == ["= 0", "= 0", spec, "f" if "sub" in spec else "sub"]


def test_umount_8_returns_when_the_bucket_has_everything(machine: Machine) -> None:
    """Also in write-back mode: nothing else would wait at a shutdown. umount(8) asks its helper where
    mount(8) has noted an option of its own, as _netdev is.
    """
    said = machine.run(
        "code mount $MNT; head -c 3000000 /dev/zero > $MNT/f; code umount $MNT; sources; ls /run/s3mount",
        "BUCKET @ s3mount noauto,_netdev,endpoint_url=ENDPOINT,write_back=1h 0 0\n",
    )
    assert said == ["= 0", "= 0"]
    assert machine.bucket.get("f") == bytes(3_000_000)


def test_a_mount_waits_for_the_one_before_it_at_the_same_place(machine: Machine) -> None:
    """umount by the system call alone does not wait; the next mount of the place does, and says so."""
    said = machine.run(
        "mount $MNT; for n in $(seq 20); do head -c 3000000 /dev/urandom > $MNT/f$n; done\n"
        "fusermount3 -u $MNT || umount -i $MNT; code mount $MNT; ls $MNT | wc -l; umount $MNT",
        "BUCKET @ s3mount noauto,endpoint_url=ENDPOINT,write_back=1h,upload_concurrency=1\n",
    )
    assert "= 0" in said
    assert said[-1] == "20"
    assert len(machine.bucket.keys()) == 20


def test_what_cannot_be_mounted_is_said_in_one_line_and_with_mount_8_s_number(machine: Machine) -> None:
    """A wrong option is 1, everything else 32."""
    said = machine.run(
        "code mount -t s3mount b $MNT -o endpoint_url=ENDPOINT,memmory=1G\n"
        "code mount -t s3mount b $MNT -o endpoint_url=ENDPOINT,sync\n"
        "code mount -t s3mount no-such-bucket $MNT -o endpoint_url=ENDPOINT\n"
        "code mount -t s3mount no-such-bucket $MNT/none -o endpoint_url=ENDPOINT\n"
        "sources"
    )
    assert said[0] == "s3mount: option memmory: there is no such option; did you mean memory?"
    assert said[1] == "= 1"
    assert said[2].startswith("s3mount: option -o sync: ")
    assert said[3] == "= 1"
    assert said[4].startswith('s3mount: bucket "no-such-bucket"')
    assert said[5] == "= 32"
    assert len(said) == 8


def test_set_uid_programs_and_devices_are_never_honoured(machine: Machine) -> None:
    """mount(8) keeps `suid` and `dev` to itself; nosuid and nodev are there all the same."""
    said = machine.run(
        "mount -t s3mount BUCKET $MNT -o suid,dev,endpoint_url=ENDPOINT\n"
        "findmnt -rn -o OPTIONS -M $MNT; umount $MNT"
    )
    assert {"nosuid", "nodev"} <= set(said[-1].split(","))


def test_fake_mounts_nothing_and_ro_is_read_only(machine: Machine) -> None:
    """mount -f, and mount -r."""
    said = machine.run(
        "code mount -f -t s3mount BUCKET $MNT -o endpoint_url=ENDPOINT; sources\n"
        "code mount -r -t s3mount BUCKET $MNT -o endpoint_url=ENDPOINT; touch $MNT/x; umount $MNT"
    )
    assert said[:2] == ["= 0", "= 0"]
    assert "Read-only file system" in said[2]


def test_umount_a_by_type_takes_them_all(machine: Machine) -> None:
    """The type is that of the mount table: fuse.s3mount."""
    said = machine.run(
        "mount $MNT; echo kept > $MNT/f; code umount -a -t fuse.s3mount; sources",
        "BUCKET @ s3mount noauto,endpoint_url=ENDPOINT 0 0\n",
    )
    assert said[-1] == "= 0"
    assert machine.bucket.get("f") == b"kept\n"
