"""The disk under the spool is full, small, broken or shared."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from s3mount.core.exits import Exit
from tests.faults.conftest import KIB, MIB, Faulty, MakeFaulty, errno_of, write
from tests.support.apart import APART
from tests.support.bucket import Bucket
from tests.support.counting_proxy import CountingProxy, Hold
from tests.support.fault_actions import ACCESS_DENIED
from tests.support.mounting import Mount
from tests.support.servers import Server
from tests.support.strace import failing_calls

SMALL_DISK = ("--spool-free=0",)


@contextmanager
def tmpfs(path: Path, options: str) -> Iterator[Path]:
    """Mount a small disk of memory at *path* until the block ends."""
    path.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"{options},mode=0700", "none", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 MiB."""
    with tmpfs(tmp_path / "disk", "size=32m") as path:
        yield path


def content(size: int, seed: int = 1) -> bytes:
    """Return bytes in which every place looks different."""
    return random.Random(seed).randbytes(size)


def small(make_faulty: MakeFaulty, disk: Path, *options: str) -> Faulty:
    """Mount with the spool on *disk*."""
    expected = ["upload of", "is not in the bucket", "stays without a note", "was closed for the last time"]
    return make_faulty(
        *SMALL_DISK, f"--spool-dir={disk}", "--operation-timeout=30s", *options, expected=expected
    )


def test_a_full_spool_is_enospc_and_never_half_an_object(make_faulty: MakeFaulty, disk: Path) -> None:
    """What does not fit is ENOSPC and no object; earlier files are sent; with room again it works."""
    faulty = small(make_faulty, disk)
    early = open(faulty.path / "early", "wb", buffering=0)  # noqa: SIM115
    early.write(content(10 * MIB))
    assert errno_of(lambda: write(faulty.path / "large", content(40 * MIB, 2))) == errno.ENOSPC
    assert not faulty.bucket.has("large")
    early.close()
    assert faulty.bucket.get("early") == content(10 * MIB)
    faulty.path.joinpath("large").unlink(missing_ok=True)
    write(faulty.path / "fits", content(20 * MIB, 3))
    assert faulty.bucket.get("fits") == content(20 * MIB, 3)
    assert sorted(faulty.bucket.keys()) == ["early", "fits"]


def test_an_object_larger_than_the_spool_is_not_filled_with_zeros(
    make_faulty: MakeFaulty, disk: Path
) -> None:
    """A change in the middle of 40 MiB with a spool of 32: right bytes or ENOSPC and the old object."""
    faulty = small(make_faulty, disk)
    old = content(40 * MIB)
    faulty.bucket.put("f", old)
    descriptor = os.open(faulty.path / "f", os.O_RDWR)
    written = errno_of(lambda: os.pwrite(descriptor, b"new", 20 * MIB))
    closed = errno_of(lambda: os.close(descriptor))
    new = old[: 20 * MIB] + b"new" + old[20 * MIB + 3 :]
    stored = hashlib.sha256(faulty.bucket.get("f")).hexdigest()
    if written == closed == 0:
        assert stored == hashlib.sha256(new).hexdigest()
    else:
        assert errno.ENOSPC in (written, closed)
        assert stored == hashlib.sha256(old).hexdigest()
    faulty.mount.ends_with = Exit.NOT_DRAINED if closed else Exit.OK


def test_cp_p_and_mv_into_a_full_spool(make_faulty: MakeFaulty, disk: Path, tmp_path: Path) -> None:
    """They fail with ENOSPC; what had the name before keeps its bytes, and no empty file takes it."""
    faulty = small(make_faulty, disk)
    faulty.bucket.put("target", b"old")
    source = tmp_path / "source"
    source.write_bytes(content(40 * MIB))
    for command in (["cp", "-p"], ["mv"]):
        done = subprocess.run(
            [*command, str(source), "target"], cwd=faulty.path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode != 0
        assert "No space left on device" in done.stderr
        assert source.exists()
        assert faulty.bucket.files() in ({"target": b"old"}, {})  # mv unlinks first, then copies
        if faulty.bucket.keys():
            assert faulty.bucket.get("target") == b"old"
    faulty.mount.ends_with = Exit.NOT_DRAINED


def test_two_mounts_share_a_small_disk(minio: Server, tmp_path: Path) -> None:
    """Eight writers on two mounts with 32 MiB between them: each file is right, or ENOSPC and absent."""
    bucket = Bucket(minio, minio.fresh_bucket())
    expected = ["upload of", "is not in the bucket", "stays without a note", "was closed for the last time"]
    with tmpfs(tmp_path / "disk", "size=32m") as disk:
        bases = [tmp_path / "a", tmp_path / "b"]
        for base in bases:
            base.mkdir()
        options = [*SMALL_DISK, f"--spool-dir={disk}"]
        with (
            Mount(minio, bucket.name, bases[0], options, expected=expected) as one,
            Mount(minio, bucket.name, bases[1], options, expected=expected) as two,
        ):

            def work(number: int) -> int:
                mount = (one, two)[number % 2]
                return errno_of(lambda: write(mount.path / f"f{number}", content(7 * MIB, number)))

            with ThreadPoolExecutor(8) as pool:
                ends = list(pool.map(work, range(10)))
            stored = bucket.files()
            for number, end in enumerate(ends):
                assert end in (0, errno.ENOSPC)
                if end == 0:
                    assert stored[f"f{number}"] == content(7 * MIB, number)
                else:
                    assert f"f{number}" not in stored
            print(f"{ends.count(0)} written, {ends.count(errno.ENOSPC)} refused")
            assert ends.count(0)
            # What was refused takes room until it is removed; then there is room for all of it, one by one.
            refused = [(one, two)[number % 2].path / f"f{number}" for number, end in enumerate(ends) if end]
            for path in refused:
                path.unlink(missing_ok=True)
            for path in refused:
                write(path, content(7 * MIB, 99))
                assert bucket.get(path.name) == content(7 * MIB, 99)


def test_a_spool_without_inodes_is_enospc(make_faulty: MakeFaulty, tmp_path: Path) -> None:
    """A disk with bytes and without inodes: creating a file is ENOSPC, closing others makes it work again."""
    with tmpfs(tmp_path / "disk", "size=32m,nr_inodes=20") as disk:
        faulty = small(make_faulty, disk)
        files = []
        refused = 0
        for number in range(30):
            try:
                files.append(open(faulty.path / f"f{number}", "wb", buffering=0))  # noqa: SIM115
                files[-1].write(b"x")
            except OSError as exc:
                assert exc.errno == errno.ENOSPC
                refused += 1
        assert refused
        assert len(files) >= 4
        for file in files:
            file.close()
        assert len(faulty.bucket.keys()) == len(files)
        write(faulty.path / "after", b"again")
        assert faulty.bucket.get("after") == b"again"
        faulty.mount.stop()


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("size", [100 * KIB, 3 * MIB], ids=["inline", "in a thread"])
def test_a_write_that_the_disk_refuses_is_an_error_of_write_and_close(
    faulty: Faulty, tmp_path: Path, error: str, size: int
) -> None:
    """The second write fails, close fails too, and the bucket keeps the old object: no hole is uploaded."""
    faulty.bucket.put("f", b"old")
    faulty.mount.expected += ["upload of /f failed", "is not in the bucket", "stays without a note"]
    descriptor = os.open(faulty.path / "f", os.O_RDWR | os.O_TRUNC)
    os.pwrite(descriptor, content(size), 0)
    (data,) = faulty.mount.spool.rglob("*.data")
    with failing_calls(
        faulty.mount.pid, tmp_path / "strace", calls="pwrite64", fault=f"error={error}", path=data
    ) as injected:
        assert errno_of(lambda: os.pwrite(descriptor, content(size), size)) == getattr(errno, error)
        assert injected.count
    number = getattr(errno, error)
    assert errno_of(lambda: os.fsync(descriptor)) == number
    assert errno_of(lambda: os.close(descriptor)) == number
    assert faulty.bucket.files() == {"f": b"old"}
    faulty.mount.ends_with = Exit.NOT_DRAINED
    faulty.mount.stop()
    assert faulty.bucket.files() == {"f": b"old"}


def test_a_write_refused_for_space_can_be_made_good(faulty: Faulty, tmp_path: Path) -> None:
    """After ENOSPC the program writes the same bytes again, and close(2) is 0 and true."""
    descriptor = os.open(faulty.path / "f", os.O_RDWR | os.O_CREAT)
    os.pwrite(descriptor, b"a" * KIB, 0)
    (data,) = faulty.mount.spool.rglob("*.data")
    with failing_calls(
        faulty.mount.pid, tmp_path / "strace", calls="pwrite64", fault="error=ENOSPC:when=1", path=data
    ):
        assert errno_of(lambda: os.pwrite(descriptor, b"b" * KIB, KIB)) == errno.ENOSPC
        os.pwrite(descriptor, b"b" * KIB, KIB)
    os.close(descriptor)
    assert faulty.bucket.get("f") == b"a" * KIB + b"b" * KIB


def test_a_failed_fsync_of_the_spool_is_never_healed_by_the_next(faulty: Faulty, tmp_path: Path) -> None:
    """The kernel drops pages that it could not write: what cannot be trusted is never uploaded afterwards."""
    faulty.bucket.put("f", b"old")
    faulty.mount.expected += ["upload of /f failed", "is not in the bucket", "stays without a note"]
    descriptor = os.open(faulty.path / "f", os.O_RDWR | os.O_TRUNC)
    os.write(descriptor, b"new")
    (data,) = faulty.mount.spool.rglob("*.data")
    with (
        failing_calls(
            faulty.mount.pid, tmp_path / "strace", calls="fsync,fdatasync", fault="error=EIO", path=data
        ) as injected,
        faulty.proxy.rule(ACCESS_DENIED, operation="PutObject"),
    ):
        assert errno_of(lambda: os.fsync(descriptor)) in (errno.EACCES, errno.EIO)
        assert injected.count
    for call in (lambda: os.fsync(descriptor), lambda: os.close(descriptor)):
        assert errno_of(call) == errno.EIO
    assert faulty.bucket.files() == {"f": b"old"}
    faulty.mount.ends_with = Exit.NOT_DRAINED


def test_unsent_bytes_stay_while_the_memory_is_read_full(make_faulty: MakeFaulty) -> None:
    """A file whose upload failed is not what makes room for cached blocks: it is sent whole later."""
    faulty = make_faulty("--memory=16MiB", expected=["upload of /unsent failed"])
    big, unsent = content(64 * MIB), content(9 * MIB, 2)
    faulty.bucket.put("big", big)
    with faulty.proxy.rule(ACCESS_DENIED, operation="PutObject"):
        assert errno_of(lambda: write(faulty.path / "unsent", unsent)) == errno.EACCES
        assert (faulty.path / "big").read_bytes() == big
        # Its last close, a reader's too, tries again and says so.
        reader = os.open(faulty.path / "unsent", os.O_RDONLY)
        assert b"".join(iter(lambda: os.read(reader, MIB), b"")) == unsent
        assert errno_of(lambda: os.close(reader)) == errno.EACCES
    with open(faulty.path / "unsent", "rb+"):
        pass
    assert faulty.bucket.get("unsent") == unsent


def test_a_spool_reached_through_a_symbolic_link(make_faulty: MakeFaulty, tmp_path: Path) -> None:
    """The directory of spools may be a link: everything is uploaded, and attributes are stored."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    faulty = make_faulty(f"--spool-dir={tmp_path / 'link'}")
    write(faulty.path / "f", content(MIB))
    os.chmod(faulty.path / "f", 0o640)
    faulty.mount.remount()
    assert faulty.bucket.get("f") == content(MIB)
    assert (faulty.path / "f").stat().st_mode & 0o777 == 0o640
    assert list((tmp_path / "real").iterdir())


def test_a_second_mount_on_the_same_spool_is_refused_by_name(
    minio: Server, proxy: CountingProxy, tmp_path: Path
) -> None:
    """While the first still uploads after an unmount, a second is refused by name and harms nothing.

    The second is of another container, say, with the same directory: what this machine knows of its mounts it
    does not see, and so it does not wait for the first one's end.
    """
    bucket = Bucket(minio, minio.fresh_bucket())
    hold = Hold()
    with Mount(minio, bucket.name, tmp_path, endpoint_url=proxy.endpoint_url) as first:
        descriptor = os.open(first.path / "f", os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"on its way")
        with proxy.rule(hold, operation="PutObject", key="f"), ThreadPoolExecutor(1) as pool:
            subprocess.run(["umount", "-l", str(first.path)], check=True)
            closing = pool.submit(errno_of, lambda: os.close(descriptor))
            try:
                hold.wait_held()
                environment = {**os.environ, **minio.environment(), "XDG_STATE_HOME": str(tmp_path / "state")}
                hidden = 'mount -t tmpfs -o mode=700 none /run/s3mount && exec "$@"'
                apart = [*APART, "sh", "-c", hidden, "sh"]
                second = subprocess.run(
                    [*apart, *first.command()], env=environment, capture_output=True, text=True, timeout=50
                )
            finally:
                hold.release()
            assert closing.result() == 0
        assert second.returncode == Exit.CACHE_DIR
        for part in (f"in use by the mount of s3://{bucket.name}", str(first.path), f"(process {first.pid})"):
            assert part in second.stderr
        first.stop()
    assert bucket.get("f") == b"on its way"
