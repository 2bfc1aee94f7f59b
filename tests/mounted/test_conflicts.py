"""Two writers of one key: one wins, the other gets ESTALE and keeps its bytes; nothing is lost unsaid."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from s3mount.core.exits import Exit
from tests.mounted.conftest import MakeMount
from tests.support.bucket import Bucket
from tests.support.counting_proxy import CountingProxy, DropAnswer
from tests.support.fault_actions import error
from tests.support.mounting import Mount
from tests.support.servers import Server

LOST = ("was changed elsewhere",)
MIB = 1024 * 1024


def _close(descriptor: int) -> int:
    """Close; return the errno, 0 for none."""
    try:
        os.close(descriptor)
    except OSError as exc:
        return exc.errno or -1
    return 0


def _spooled(mount: Mount) -> list[bytes]:
    return [path.read_bytes() for path in sorted(mount.spool.rglob("*.data"))]


def _overtaken(mount: Mount, bucket: Bucket, name: str) -> int:
    """Return a descriptor of a new file with `mine` in it, after somebody else has stored `theirs` there."""
    descriptor = os.open(mount.path / name, os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"mine")
    bucket.put(name, b"theirs")
    return descriptor


def _two(make_mount: MakeMount, server: Server, *options: str) -> tuple[Bucket, list[Mount]]:
    name = server.fresh_bucket()
    mounts = [make_mount(server, name, "--ttl=0", "--negative-ttl=0", *options, expected=LOST) for _ in "ab"]
    return Bucket(server, name), mounts


@pytest.mark.parametrize("exists", [False, True], ids=["new", "overwritten"])
@pytest.mark.parametrize("size", [10, 12 * MIB], ids=["one PUT", "parts"])
@pytest.mark.parametrize("order", list(itertools.permutations((0, 1))), ids=str)
def test_the_later_close_gets_estale_and_keeps_its_bytes(
    server: Server, make_mount: MakeMount, exists: bool, size: int, order: Sequence[int]
) -> None:
    """Both have the file open; whoever closes first wins, and the other's bytes are in its spool."""
    bucket, mounts = _two(make_mount, server, "--part-size=5M")
    if exists:
        bucket.put("f", b"old")
    bodies = [bytes([65 + number]) * size for number in (0, 1)]
    descriptors = [os.open(mount.path / "f", os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for mount in mounts]
    for descriptor, body in zip(descriptors, bodies, strict=True):
        view = memoryview(body)
        while view:
            view = view[os.write(descriptor, view) :]
    winner, loser = order
    assert _close(descriptors[winner]) == 0
    assert _close(descriptors[loser]) == errno.ESTALE
    mounts[loser].ends_with = Exit.NOT_DRAINED
    assert bucket.get("f") == bodies[winner]
    assert _spooled(mounts[loser]) == [bodies[loser]]
    for mount in mounts:
        assert (mount.path / "f").read_bytes() == bodies[winner]
    (mounts[loser].path / "f").write_bytes(b"again")
    assert bucket.get("f") == b"again"


def test_what_was_deleted_elsewhere_does_not_come_back(real_server: Server, make_mount: MakeMount) -> None:
    """The close that would have brought it back says ESTALE."""
    bucket, (mount, _) = _two(make_mount, real_server)
    bucket.put("f", b"old")
    descriptor = os.open(mount.path / "f", os.O_WRONLY | os.O_TRUNC)
    os.write(descriptor, b"new")
    bucket.delete("f")
    assert _close(descriptor) == errno.ESTALE
    mount.ends_with = Exit.NOT_DRAINED
    assert bucket.keys() == []
    assert _spooled(mount) == [b"new"]


def test_a_partial_edit_of_a_replaced_object_is_a_conflict(
    real_server: Server, make_mount: MakeMount
) -> None:
    """The bytes of the old version that are needed are gone; the file is usable again afterwards."""
    bucket, (mount, _) = _two(make_mount, real_server, "--read-ahead=0")
    bucket.put("f", b"o" * (4 * MIB))
    descriptor = os.open(mount.path / "f", os.O_WRONLY)
    os.pwrite(descriptor, b"new", 2 * MIB)
    bucket.put("f", b"theirs")
    assert _close(descriptor) == errno.ESTALE
    mount.ends_with = Exit.NOT_DRAINED
    assert (mount.path / "f").read_bytes() == b"theirs"
    (mount.path / "f").write_bytes(b"again")
    assert bucket.get("f") == b"again"


def test_after_a_conflict_the_old_descriptor_takes_no_more_writes(
    real_server: Server, make_mount: MakeMount
) -> None:
    """fsync says ESTALE, and so does every later write: they would go nowhere."""
    bucket, (mount, _) = _two(make_mount, real_server)
    descriptor = _overtaken(mount, bucket, "f")
    for action in (os.fsync, lambda one: os.write(one, b"more"), os.fsync):
        with pytest.raises(OSError) as caught:
            action(descriptor)
        assert caught.value.errno == errno.ESTALE
    assert _close(descriptor) == errno.ESTALE
    mount.ends_with = Exit.NOT_DRAINED
    assert bucket.get("f") == b"theirs"


def test_overwrite_lets_the_later_close_win(real_server: Server, make_mount: MakeMount) -> None:
    """As other tools do, when asked for."""
    bucket, (mount, _) = _two(make_mount, real_server, "--on-conflict=overwrite")
    descriptor = _overtaken(mount, bucket, "f")
    assert _close(descriptor) == 0
    assert bucket.get("f") == b"mine"
    assert _spooled(mount) == []


def test_keep_both_stores_the_loser_beside_the_winner(real_server: Server, make_mount: MakeMount) -> None:
    """Under a name that says whose it is, extension kept."""
    bucket, (mount, _) = _two(make_mount, real_server, "--on-conflict=keep-both")
    descriptor = _overtaken(mount, bucket, "f.txt")
    assert _close(descriptor) == 0
    assert bucket.get("f.txt") == b"theirs"
    (beside,) = set(bucket.keys()) - {"f.txt"}
    assert beside.startswith("f (") and beside.endswith(").txt")
    assert bucket.get(beside) == b"mine"
    assert sorted(os.listdir(mount.path)) == sorted(["f.txt", beside])
    assert _spooled(mount) == []


@pytest.mark.parametrize("size", [10, 12 * MIB], ids=["one PUT", "parts"])
def test_a_write_whose_answers_were_all_lost_is_no_conflict_with_itself(
    minio: Server, make_mount: MakeMount, size: int
) -> None:
    """It is recognised in the bucket: at once, or when fsync is called again."""
    name = minio.fresh_bucket()
    with CountingProxy(minio.endpoint_url) as proxy:
        mount = make_mount(
            minio,
            name,
            "--part-size=5M",
            "--attempts=2",
            "--operation-timeout=20s",
            endpoint_url=proxy.endpoint_url,
            expected=("upload of /f failed",),
        )
        descriptor = os.open(mount.path / "f", os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"x" * size)
        operation = "PutObject" if size < MIB else "CompleteMultipartUpload"
        with proxy.rule(DropAnswer(), operation=operation):
            try:
                os.fsync(descriptor)
            except OSError as exc:
                assert exc.errno in (errno.EIO, errno.ETIMEDOUT)
        os.fsync(descriptor)
        os.pwrite(descriptor, b"y", 0)
        assert _close(descriptor) == 0
    assert Bucket(minio, name).get("f") == b"y" + b"x" * (size - 1)


def test_an_upload_that_vanished_is_no_conflict(minio: Server, make_mount: MakeMount) -> None:
    """The object is the one that was opened, so fsync fails for its own reason and the next one stores it."""
    bucket = Bucket(minio, minio.fresh_bucket())
    bucket.put("f", b"old")
    with CountingProxy(minio.endpoint_url) as proxy:
        mount = make_mount(
            minio,
            bucket.name,
            "--part-size=5M",
            endpoint_url=proxy.endpoint_url,
            expected=("upload of /f failed",),
        )
        descriptor = os.open(mount.path / "f", os.O_WRONLY | os.O_TRUNC)
        os.write(descriptor, b"x" * 12 * MIB)
        gone = error(404, "NoSuchUpload")
        with proxy.rule(gone, operation="CompleteMultipartUpload"), pytest.raises(OSError) as caught:
            os.fsync(descriptor)
        assert caught.value.errno == errno.EIO
        os.fsync(descriptor)
        assert _close(descriptor) == 0
    assert bucket.get("f") == b"x" * 12 * MIB


def test_what_was_changed_after_a_lost_answer_is_stored(minio: Server, make_mount: MakeMount) -> None:
    """The object that the first try has left is our own, though it is not what is to be stored now."""
    name = minio.fresh_bucket()
    with CountingProxy(minio.endpoint_url) as proxy:
        mount = make_mount(
            minio,
            name,
            "--attempts=1",
            endpoint_url=proxy.endpoint_url,
            expected=("upload of /f failed",),
        )
        descriptor = os.open(mount.path / "f", os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"first")
        with proxy.rule(DropAnswer(), operation="PutObject"), pytest.raises(OSError):
            os.fsync(descriptor)
        os.pwrite(descriptor, b"second", 0)
        assert _close(descriptor) == 0
    assert Bucket(minio, name).get("f") == b"second"


def test_git_and_editors_see_no_conflict_with_themselves(mount: Mount, tmp_path: Path) -> None:
    """Create, rename over, remove and create again, as programs do all day."""
    script = """
    set -e
    for i in 1 2 3 4 5; do echo $i > a; echo $i > b; mv b a; rm a; echo again > a; cp a c; cp c a; done
    echo tail >> a; truncate -s 3 a; sed -i s/a/b/ c; cat a c
    """
    done = subprocess.run(["sh", "-c", script], cwd=mount.path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "agabgain\n", "")


@pytest.mark.parametrize("change", ["deleted", "replaced", "a directory"])
@pytest.mark.parametrize("look", [os.listdir, os.path.exists], ids=["ls", "stat"])
def test_the_first_write_to_what_was_seen_to_be_gone_says_so(
    real_server: Server, make_mount: MakeMount, change: str, look: Callable[[Path], object]
) -> None:
    """A file is open, somebody else takes its name, and this host has seen it: write(2) is ESTALE.

    It went nowhere, and write, fsync and close all returned 0.
    """
    bucket, (mount, _) = _two(make_mount, real_server)
    bucket.put("f", b"old")
    descriptor = os.open(mount.path / "f", os.O_RDWR)
    try:
        if change == "replaced":
            bucket.put("f", b"theirs")
        else:
            bucket.delete("f")
        if change == "a directory":
            bucket.put("f/inside", b"theirs")
        look(mount.path if look is os.listdir else mount.path / "f")
        for write in (lambda: os.write(descriptor, b"mine"), lambda: os.ftruncate(descriptor, 1)):
            with pytest.raises(OSError) as caught:
                write()
            assert caught.value.errno == errno.ESTALE
    finally:
        os.close(descriptor)
    if change != "a directory":
        (mount.path / "f").write_bytes(b"again")
        assert bucket.get("f") == b"again"


def test_writing_to_what_this_host_removed_goes_on(real_server: Server, make_mount: MakeMount) -> None:
    """A temporary file that is unlinked while open takes writes and truncates, and leaves no object."""
    bucket, (mount, _) = _two(make_mount, real_server)
    bucket.put_many({"f": b"old", "g": b"other"})
    descriptors = [os.open(mount.path / name, os.O_RDWR) for name in ("f", "g")]
    os.unlink(mount.path / "f")
    (mount.path / "h").write_bytes(b"new")
    os.rename(mount.path / "h", mount.path / "g")
    os.listdir(mount.path)
    for descriptor in descriptors:
        os.pwrite(descriptor, b"mine", 0)
        os.ftruncate(descriptor, 3)
        assert os.pread(descriptor, 10, 0) == b"min"
        os.close(descriptor)
    assert bucket.files() == {"g": b"new"}
