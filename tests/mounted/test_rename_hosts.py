"""rename(2) of files while other hosts work at the same names, or the daemon dies."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mounted.conftest import MakeMount
from tests.support.bucket import Bucket
from tests.support.counting_proxy import CountingProxy, Hold
from tests.support.killing import beside, kill_at
from tests.support.mounting import Mount
from tests.support.servers import Server
from tests.support.waiting import eventually

BELIEVES = ("--ttl=300", "--negative-ttl=300")
SERIAL = ("--metadata-concurrency=1", "--upload-concurrency=1", "--ttl=0", "--negative-ttl=0")
ROUNDS = 15
MIB = 1024 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


def rename_noreplace(old: Path, new: Path) -> None:
    """renameat2 with RENAME_NOREPLACE."""
    at_fdcwd, no_replace = -100, 1
    if _libc.renameat2(at_fdcwd, os.fsencode(old), at_fdcwd, os.fsencode(new), no_replace):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@pytest.fixture
def proxy(real_server: Server) -> Iterator[CountingProxy]:
    """The server behind a proxy that can hold requests."""
    with CountingProxy(real_server.endpoint_url) as proxy:
        yield proxy


@pytest.mark.parametrize("theirs", ["new", "new/x"], ids=["file", "directory"])
@pytest.mark.parametrize("body", [b"", b"mine"], ids=["empty", "some"])
def test_mv_n_does_not_replace_what_another_host_has_made(
    real_server: Server, make_mount: MakeMount, theirs: str, body: bytes
) -> None:
    """EEXIST, though this host believes for minutes that the name is free; both are as they were."""
    mount = make_mount(real_server, None, *BELIEVES)
    bucket = Bucket(real_server, mount.bucket)
    (mount.path / "old").write_bytes(body)
    assert os.listdir(mount.path) == ["old"]
    assert not (mount.path / "new").exists()
    bucket.put(theirs, b"theirs")
    with pytest.raises(FileExistsError):
        rename_noreplace(mount.path / "old", mount.path / "new")
    assert bucket.files() == {"old": body, theirs: b"theirs"}
    assert (mount.path / "old").read_bytes() == body
    bucket.delete(theirs)
    rename_noreplace(mount.path / "old", mount.path / "free")
    assert bucket.files() == {"free": body}
    assert (mount.path / "free").read_bytes() == body


def test_of_two_hosts_that_take_one_name_one_gets_it(real_server: Server, make_mount: MakeMount) -> None:
    """RENAME_NOREPLACE on two mounts at the same moment: one file has the name, the other keeps its own."""
    name = real_server.fresh_bucket()
    mounts = [make_mount(real_server, name, "--ttl=0", "--negative-ttl=0") for _ in "ab"]
    bucket = Bucket(real_server, name)
    together = threading.Barrier(2)

    def take(host: str, mount: Mount, number: int) -> Callable[[], None]:
        def act() -> None:
            together.wait(30)
            rename_noreplace(mount.path / f"{host}{number}", mount.path / f"n{number}")

        return act

    outcomes = set()
    for number in range(ROUNDS):
        for host, mount in zip("ab", mounts, strict=True):
            (mount.path / f"{host}{number}").write_bytes(host.encode())
        with beside(take("a", mounts[0], number)) as first, beside(take("b", mounts[1], number)) as second:
            pass
        errors = [None if one is None else one.errno for one in (*first, *second)]
        assert sorted(errors, key=str) == [errno.EEXIST, None]
        winner, loser = ("a", "b") if errors[0] is None else ("b", "a")
        assert bucket.get(f"n{number}") == winner.encode()
        assert bucket.get(f"{loser}{number}") == loser.encode()
        assert bucket.keys(f"{winner}{number}") == []
        outcomes.add(winner)
    print("won by", outcomes)


def test_what_another_host_stores_meanwhile_is_not_deleted(
    real_server: Server, make_mount: MakeMount, proxy: CountingProxy
) -> None:
    """The version that comes to the old name after the copy is what moves.

    The first try ends in ESTALE, and the kernel makes another one of its own accord.
    """
    mount = make_mount(real_server, None, endpoint_url=proxy.endpoint_url)
    bucket = Bucket(real_server, mount.bucket)
    # So large that MinIO, which ignores If-Match on DELETE, is asked before.
    (mount.path / "old").write_bytes(b"x" * 9 * MIB)
    hold = Hold()
    operation = "HeadObject" if real_server.name == "minio" else "DeleteObject"
    with (
        proxy.rule(hold, operation=operation, key="old"),
        beside(lambda: os.rename(mount.path / "old", mount.path / "new")) as result,
    ):
        hold.wait_held(30)
        bucket.put("old", b"theirs")
        hold.release()
    assert result == [None]
    assert "rename /old -> /new: ESTALE" in mount.log.read_text()
    assert bucket.files() == {"new": b"theirs"}
    assert (mount.path / "new").read_bytes() == b"theirs"


@pytest.mark.parametrize("no_replace", [False, True], ids=["replacing", "RENAME_NOREPLACE"])
def test_a_file_whose_rename_was_killed_is_there(
    real_server: Server, make_mount: MakeMount, proxy: CountingProxy, no_replace: bool
) -> None:
    """kill -9 at each request in turn: one name has the file or both have, whole; no upload is left."""
    mount = make_mount(real_server, None, *SERIAL, endpoint_url=proxy.endpoint_url)
    bucket = Bucket(real_server, mount.bucket)
    body = os.urandom(100_000)
    old, new = mount.path / "d" / "old", mount.path / "d" / "new"
    rename = rename_noreplace if no_replace else os.rename
    (mount.path / "d").mkdir()
    ends, number, is_killed = set(), 0, True
    while is_killed:
        number += 1
        new.unlink(missing_ok=True)
        old.write_bytes(body)
        old.chmod(0o640)
        is_killed = kill_at(mount, proxy, number, lambda: rename(old, new))
        if is_killed:
            mount.start()
        there = bucket.files("d/")
        assert there, number
        assert set(there.values()) == {body}
        for name in there:
            assert (mount.path / "d" / name).read_bytes() == body
            assert (mount.path / "d" / name).stat().st_mode & 0o777 == 0o640
        eventually(lambda: bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []), [])
        ends.add(tuple(sorted(there)))
    assert number > 2
    assert ends == {("old",), ("new", "old"), ("new",)}
