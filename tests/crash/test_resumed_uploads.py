"""kill -9 in the midst of a large upload: the next mount finishes it, and sends only what is missing."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from s3mount.data.journal import Journal
from s3mount.data.journal_rows import SpoolRows
from tests.conftest import ServerPool
from tests.crash.chain import EXPECTED, WatchedMount
from tests.crash.kept import directory_of, is_drained, records, wait_until
from tests.crash.syscalls import SyscallWatch
from tests.support import totals
from tests.support.bucket import Bucket
from tests.support.counting_proxy import CountingProxy
from tests.support.mounting import mounts_below
from tests.support.servers import Server

MIB = 1 << 20
#: Writes random bytes of a seed in pieces of 1 MiB, and waits for close.
WRITER = """
import random, sys
path, seed, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
with open(path, "wb", buffering=0) as file:
    for _ in range(size >> 20):
        file.write(chance.randbytes(1 << 20))
"""


def digest_of(seed: int, size: int) -> str:
    """Return the digest of what the writer writes."""
    chance, digest = random.Random(seed), hashlib.sha256()
    for _ in range(size // MIB):
        digest.update(chance.randbytes(MIB))
    return digest.hexdigest()


@pytest.mark.parametrize("percent", [30, 60, 90])
def test_an_upload_of_64_mib_goes_on_after_kill_9(minio: Server, tmp_path: Path, percent: int) -> None:
    """In 13 parts."""
    check_resume(minio, tmp_path, 64 * MIB, 5 * MIB, percent)


def test_an_upload_to_seaweedfs_goes_on_after_kill_9(seaweedfs: Server, tmp_path: Path) -> None:
    """Its list of parts is another one."""
    check_resume(seaweedfs, tmp_path, 32 * MIB, 5 * MIB, 60)


@pytest.mark.heavy
@pytest.mark.parametrize("percent", [30, 60, 90])
@pytest.mark.parametrize("name", ["minio", "seaweedfs"])
def test_an_upload_of_1_gib_goes_on_after_kill_9(
    server_pool: ServerPool, tmp_path: Path, name: str, percent: int
) -> None:
    """With parts of the usual size."""
    check_resume(server_pool.get(name), tmp_path, 1 << 30, 16 * MIB, percent)


def test_an_upload_that_nobody_goes_on_with_is_aborted_at_the_next_mount(
    minio: Server, tmp_path: Path
) -> None:
    """Of a copy, say, that a crash has cut off: the journal has nothing but its id."""
    bucket = Bucket(minio, minio.fresh_bucket())
    with WatchedMount(minio, bucket.name, tmp_path) as mount:
        mount.stop()
        begun = bucket.client.create_multipart_upload(Bucket=bucket.name, Key="large")
        journal = Journal(str(directory_of(mount.spool)))
        rows = SpoolRows(journal)
        rows.name(rows.begin("large", 0), begun["UploadId"])
        journal.close()
        mount.start()
        wait_until(lambda: uploads_of(bucket) == [], "the upload is aborted")


def check_resume(server: Server, base: Path, size: int, part_size: int, percent: int) -> None:
    """Kill the daemon when so many percent of the file have been sent; mount again, and count."""
    bucket = Bucket(server, server.fresh_bucket())
    with ExitStack() as stack:
        proxy = stack.enter_context(CountingProxy(server.endpoint_url))
        mount = WatchedMount(
            server,
            bucket.name,
            base,
            [f"--part-size={part_size}", "--spool-free=0"],
            endpoint_url=proxy.endpoint_url,
            expected=EXPECTED,
            watchdog_s=600.0,
        )
        watch = stack.enter_context(SyscallWatch(mount.spool))
        mount.prefix = tuple(watch.prefix())
        stack.enter_context(mount)
        watch.arm_bytes(size * percent // 100)
        writer = [sys.executable, "-S", "-c", WRITER, str(mount.path / "large"), str(percent), str(size)]
        done = subprocess.run(writer, capture_output=True, text=True, timeout=500)
        assert done.returncode != 0 and watch.fired is not None, f"the daemon did not die: {done.stderr}"
        mount.bury()
        proxy.wait_idle()
        totals.count("crashes injected")
        assert not bucket.has("large")
        there = parts_of(bucket)
        spans = {
            number: min(part_size, size - start) for number, start in enumerate(range(0, size, part_size), 1)
        }
        missing = {number: length for number, length in spans.items() if there.get(number) != length}
        assert missing and len(missing) < len(spans), f"{sorted(there)} of {len(spans)} parts were there"

        proxy.clear()
        mount.prefix = ()
        mount.start()
        wait_until(lambda: is_drained(mount.spool), "the upload is finished", 300)
        assert bucket.sha256("large") == digest_of(percent, size)
        sent = [one for one in proxy.requests() if one.operation == "UploadPart" and one.key == "large"]
        print(f"{percent} %: {len(there)} of {len(spans)} parts were there, {len(sent)} were sent")
        assert sorted(int(one.query["partNumber"]) for one in sent) == sorted(missing)
        framing = 4096 * len(sent)
        assert sum(missing.values()) <= sum(one.bytes_in for one in sent) <= sum(missing.values()) + framing
        assert records(mount.spool) == []
        assert uploads_of(bucket) == []
        with (mount.path / "large").open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == digest_of(percent, size)
        mount.stop()
        totals.count("crashes survived")
        totals.count("lost bytes", 0)
        totals.count("orphan uploads", 0)
    assert mounts_below(base) == []


def parts_of(bucket: Bucket) -> dict[int, int]:
    """Return the sizes of the parts that the one upload has, by number."""
    (upload,) = uploads_of(bucket)
    listed = bucket.client.list_parts(Bucket=bucket.name, Key="large", UploadId=upload)
    return {part["PartNumber"]: part["Size"] for part in listed.get("Parts", [])}


def uploads_of(bucket: Bucket) -> list[str]:
    """Return the ids of the uploads in parts that are under way."""
    listed = bucket.client.list_multipart_uploads(Bucket=bucket.name, Prefix="large")
    return [one["UploadId"] for one in listed.get("Uploads", [])]
