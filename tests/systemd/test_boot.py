"""A machine boots with the unit enabled, is killed in part, and is switched off with uploads pending."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.support.killable import KillableServer, killable_minio
from tests.support.machine import Machine
from tests.support.waiting import eventually

WAIT_FOR_MOUNT = "sh -c 'until systemctl is-active -q s3mount@photos; do sleep 0.2; done'\n"


def machine_of(killable: KillableServer, base: Path, bucket: str, *more: str) -> Machine:
    """Return a machine that mounts *bucket* at /srv/photos."""
    server = killable.server
    lines = (
        f'bucket = "{bucket}"',
        'mountpoint = "/srv/photos"',
        f'endpoint-url = "{server.endpoint_url}"',
        "allow-other = true",
        *more,
    )
    keys = f"aws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
    return Machine(base, "\n".join(lines) + "\n", f"[default]\n{keys}")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Where the machine's own files are."""
    base = tmp_path / "machine"
    base.mkdir()
    return base


def test_after_a_boot_an_ordinary_user_reads_and_a_killed_mount_is_back(tmp_path: Path, base: Path) -> None:
    """The process is s3mount's, has no capability, and its keys are a credential, in nobody's environment."""
    with killable_minio(tmp_path / "server") as killable:
        bucket = killable.server.fresh_bucket()
        killable.server.client().put_object(Bucket=bucket, Key="sea.txt", Body=b"waves")
        said = machine_of(killable, base, bucket).boot(
            WAIT_FOR_MOUNT
            + """
            test "$(setpriv --reuid=65534 --regid=65534 --clear-groups cat /srv/photos/sea.txt)" = waves
            systemctl show -p StatusText s3mount@photos
            pid=$(systemctl show -p MainPID --value s3mount@photos)
            grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/$pid/status
            test "$(stat -c %U /var/lib/s3mount)" = s3mount
            grep ^Uid: /proc/$pid/status
            s3mount list
            s3mount status /srv/photos
            echo tide > /srv/photos/new.txt
            s3mount flush /srv/photos
            systemctl reload s3mount@photos
            if grep -az AWS_ /proc/$pid/environ; then exit 1; fi
            kill -9 $pid
            sh -c 'until test -e /srv/photos/sea.txt; do sleep 0.2; done'
            test "$(systemctl show -p MainPID --value s3mount@photos)" != $pid
            test "$(cat /srv/photos/sea.txt)" = waves
            test "$(systemctl show -p NRestarts --value s3mount@photos)" = 1
            journalctl -u s3mount@photos -o cat
            journalctl S3MOUNT_MOUNTPOINT=/srv/photos LOGGER=s3mount.mount -o cat | sed s/^/selected:/
            """
        )
    assert f"selected:s3mount.mount: mounted s3://{bucket}/ at /srv/photos\n" in said
    assert f"StatusText=serving s3://{bucket}/ at /srv/photos\n" in said
    assert "CapBnd:\t0000000000000000\n" in said
    assert "NoNewPrivs:\t1\n" in said
    assert "Uid:\t0\t" not in said


@pytest.mark.heavy
def test_a_mount_that_hangs_is_ended_by_the_watchdog_and_is_back(tmp_path: Path, base: Path) -> None:
    """Even one that takes no signal but SIGKILL."""
    with killable_minio(tmp_path / "server") as killable:
        bucket = killable.server.fresh_bucket()
        killable.server.client().put_object(Bucket=bucket, Key="sea.txt", Body=b"waves")
        said = machine_of(killable, base, bucket, 'operation-timeout = "3s"').boot(
            WAIT_FOR_MOUNT
            + """
            mkdir -p /run/systemd/system/s3mount@.service.d
            printf '[Service]\\nWatchdogSec=12s\\n' > /run/systemd/system/s3mount@.service.d/short.conf
            systemctl daemon-reload
            systemctl restart s3mount@photos
            kill -STOP $(systemctl show -p MainPID --value s3mount@photos)
            sh -c 'until test "$(systemctl show -p NRestarts --value s3mount@photos)" = 1; do sleep 0.2; done'
            """
            + WAIT_FOR_MOUNT
            + """
            test "$(cat /srv/photos/sea.txt)" = waves
            journalctl -u s3mount@photos -o cat
            """
        )
    assert "s3mount@photos.service: Watchdog timeout (limit 12s)!" in said


@pytest.mark.heavy
def test_a_shutdown_uploads_what_is_pending(tmp_path: Path, base: Path) -> None:
    """500 MB of it, and nothing is left in the spool."""
    with killable_minio(tmp_path / "server") as killable:
        bucket = killable.server.fresh_bucket()
        said = machine_of(killable, base, bucket, 'write-back = "1h"').boot(
            WAIT_FOR_MOUNT
            + """
            head -c 500000000 /dev/urandom | tee /srv/photos/big | sha256sum
            sh -c "until systemctl status s3mount@photos | grep '476.8 MiB to upload'; do sleep 0.2; done"
            """
        )
        digest = hashlib.sha256()
        body = killable.server.client().get_object(Bucket=bucket, Key="big")["Body"]
        for chunk in body.iter_chunks(1 << 20):
            digest.update(chunk)
        assert digest.hexdigest() in said


@pytest.mark.heavy
def test_it_boots_while_the_server_is_down_and_mounts_when_it_is_there(tmp_path: Path, base: Path) -> None:
    """multi-user.target is reached without the mount."""
    with killable_minio(tmp_path / "server") as killable:
        bucket = killable.server.fresh_bucket()
        killable.server.client().put_object(Bucket=bucket, Key="sea.txt", Body=b"waves")
        machine = machine_of(killable, base, bucket)
        killable.kill()
        session = """
            sh -c 'until systemctl is-active -q multi-user.target; do sleep 0.2; done'
            if systemctl is-active -q s3mount@photos; then exit 1; fi
            touch /exchange/booted
            """
        session += WAIT_FOR_MOUNT + 'test "$(cat /srv/photos/sea.txt)" = waves\n'
        with machine.started(session) as process:
            eventually((machine.exchange / "booted").exists, deadline_s=180.0)
            killable.start()
            process.wait(180.0)
        machine.said()
