"""A directory's rename that is killed or cut off: after the next mount the tree is whole at one name."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3mount.core.rename_job import JobPhase
from s3mount.data.job_journal import JobSummary, list_jobs
from tests.mounted.conftest import MakeMount
from tests.support import totals
from tests.support.bucket import Bucket
from tests.support.counting_proxy import CountingProxy, Hold
from tests.support.fault_actions import ACCESS_DENIED, SLOW_DOWN
from tests.support.killing import beside, kill_at
from tests.support.mounting import Mount
from tests.support.servers import Server
from tests.support.trees import record
from tests.support.waiting import eventually

FILES = {"d/e/h/1", "d/e/h/2", "d/a", "d/b", "d/c", "d/e/1", "d/e/2", "d/f/1", "d/f/2", "d/g.txt"}

#: One request after the other, so that the k-th is the same one each time.
SERIAL = ("--metadata-concurrency=1", "--upload-concurrency=1", "--attempts=2", "--ttl=0", "--negative-ttl=0")


@pytest.fixture
def proxy(real_server: Server) -> Iterator[CountingProxy]:
    """The server behind a proxy that can hold requests."""
    with CountingProxy(real_server.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def mount(make_mount: MakeMount, real_server: Server, proxy: CountingProxy) -> Mount:
    """A mount through the proxy."""
    return make_mount(real_server, None, *SERIAL, endpoint_url=proxy.endpoint_url)


def make(top: Path) -> None:
    """Make a tree of ten files in four directories, with modes and times of their own."""
    (top / "e" / "h").mkdir(parents=True)
    (top / "f").mkdir()
    (top / "empty").mkdir()
    for number, name in enumerate(sorted(FILES)):
        path = top.parent / name
        path.write_bytes(name.encode() * (1 + 1000 * (number % 3)))
        path.chmod(0o600 + number % 3 * 0o40)
        os.utime(path, ns=(1, 10**18 + number))


def jobs(mount: Mount) -> list[JobSummary]:
    """Return the jobs in the mount's spool."""
    return [job for place in mount.spool.iterdir() if place.is_dir() for job in list_jobs(str(place))]


def rename_the_tree(mount: Mount) -> None:
    """Rename d to n."""
    os.rename(mount.path / "d", mount.path / "n")


def whole_at_one_name(mount: Mount, bucket: Bucket, want: dict[str, object]) -> str:
    """Wait until no job is left; return the one name at which the tree is."""
    eventually(lambda: jobs(mount), [])
    keys = bucket.keys()
    tops = {key.partition("/")[0] for key in keys}
    assert len(tops) == 1, keys
    (top,) = tops
    assert os.listdir(mount.path) == [top]
    assert record(mount.path / top, directory_attributes=False) == want
    return top


def sweep(mount: Mount, proxy: CountingProxy, numbers: Iterator[int]) -> set[str]:
    """Kill at each of *numbers*, mount again, and look; return the names at which the trees were then."""
    bucket = Bucket(mount.server, mount.bucket)
    ends: set[str] = set()
    for number in numbers:
        for name in os.listdir(mount.path):
            for path in sorted((mount.path / name).rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            (mount.path / name).rmdir()
        (mount.path / "d").mkdir()
        make(mount.path / "d")
        want = record(mount.path / "d", directory_attributes=False)
        os.listdir(mount.path)
        if not kill_at(mount, proxy, number, lambda: rename_the_tree(mount)):
            assert whole_at_one_name(mount, bucket, want) == "n"
            assert number > 12
            break
        totals.count("crashes injected")
        has_begun = bool(jobs(mount))
        mount.start()
        top = whole_at_one_name(mount, bucket, want)
        assert top == ("n" if has_begun else "d"), number
        totals.count("crashes survived")
        ends.add(top)
    return ends


def test_killed_while_a_request_is_on_its_way(mount: Mount, proxy: CountingProxy) -> None:
    """kill -9 at some requests of a rename: contents, modes and times are there, under one name."""
    numbers = [2, *sorted(random.Random(3).sample(range(9, 28), 4)), 99]
    print("killed at", numbers)
    assert sweep(mount, proxy, iter(numbers)) == {"d", "n"}


@pytest.mark.heavy
def test_killed_at_every_request(mount: Mount, proxy: CountingProxy) -> None:
    """kill -9 at each request of a rename in turn."""
    assert sweep(mount, proxy, iter(range(1, 100))) == {"d", "n"}


def test_others_change_the_tree_meanwhile(mount: Mount, proxy: CountingProxy) -> None:
    """What another host changes or adds at the old name stays there; what it deletes does not come back."""
    bucket = Bucket(mount.server, mount.bucket)
    mount.expected = ["were changed or added by others while it was renamed"]
    (mount.path / "d").mkdir()
    make(mount.path / "d")
    hold = Hold()
    # After the copies the new tree is listed, then the old one.
    with proxy.rule(hold, operation="ListObjectsV2", first=listings_before_deleting(mount, proxy)):
        with beside(lambda: rename_the_tree(mount)) as result:
            hold.wait_held(30)
            bucket.put("d/a", b"newer")
            bucket.put("d/e/added", b"added")
            bucket.client.delete_object(Bucket=bucket.name, Key="d/b")
            hold.release()
        assert result == [None]
    assert bucket.files("d/") == {"a": b"newer", "e/added": b"added"}
    assert bucket.files("n/").keys() == {key.removeprefix("d/") for key in FILES}
    assert (mount.path / "d" / "a").read_bytes() == b"newer"
    assert (mount.path / "n" / "a").read_bytes() == b"d/a"
    assert jobs(mount) == []


def listings_before_deleting(mount: Mount, proxy: CountingProxy) -> int:
    """Return the number of the listing that precedes the deletes, found by renaming there and back."""
    proxy.clear()
    os.rename(mount.path / "d", mount.path / "n")
    operations = [request.operation for request in proxy.requests()]
    os.rename(mount.path / "n", mount.path / "d")
    before = operations[: len(operations) - operations[::-1].index("CopyObject")]
    return before.count("ListObjectsV2") + 1


@pytest.fixture
def hasty(make_mount: MakeMount, real_server: Server, proxy: CountingProxy) -> Mount:
    """A mount through the proxy whose operations have little time."""
    options = ("--operation-timeout=4", "--attempts=1", "--ttl=0", "--negative-ttl=0")
    expected = ["fails, and is tried again until it is done"]
    return make_mount(real_server, None, *options, endpoint_url=proxy.endpoint_url, expected=expected)


def test_a_server_that_fails_while_deleting(hasty: Mount, proxy: CountingProxy) -> None:
    """EINPROGRESS: the new name has everything, the old one is busy, and once the server is back it goes."""
    bucket = Bucket(hasty.server, hasty.bucket)
    (hasty.path / "d").mkdir()
    make(hasty.path / "d")
    want = record(hasty.path / "d", directory_attributes=False)
    with proxy.rule(SLOW_DOWN, operation="DeleteObjects"), proxy.rule(SLOW_DOWN, operation="DeleteObject"):
        with pytest.raises(OSError, match="progress"):
            os.rename(hasty.path / "d", hasty.path / "n")
        with pytest.raises(OSError, match="busy"):
            os.listdir(hasty.path / "d")
        assert record(hasty.path / "n", directory_attributes=False) == want
        (hasty.path / "n" / "more").write_bytes(b"more")
        (job,) = jobs(hasty)
        assert (job.phase, job.old, job.new) == (JobPhase.DELETING, "d/", "n/")
        assert "SlowDown" in job.cause
    eventually(lambda: jobs(hasty), [])
    assert bucket.keys("d/") == []
    eventually(lambda: os.listdir(hasty.path), ["n"])
    (hasty.path / "d").mkdir()


def test_a_server_that_refuses_a_copy_and_then_fails(hasty: Mount, proxy: CountingProxy) -> None:
    """The rename fails and the old name has everything; the copies go when the server is back."""
    bucket = Bucket(hasty.server, hasty.bucket)
    (hasty.path / "d").mkdir()
    make(hasty.path / "d")
    want = record(hasty.path / "d", directory_attributes=False)
    with (
        proxy.rule(ACCESS_DENIED, operation="CopyObject", first=5),
        proxy.rule(SLOW_DOWN, operation="DeleteObjects"),
        proxy.rule(SLOW_DOWN, method="DELETE"),
    ):
        with pytest.raises(OSError):
            os.rename(hasty.path / "d", hasty.path / "n")
        assert record(hasty.path / "d", directory_attributes=False) == want
        with pytest.raises(OSError, match="busy"):
            (hasty.path / "n").mkdir()
        (job,) = jobs(hasty)
        assert (job.phase, job.old, job.new) == (JobPhase.UNDOING, "d/", "n/")
    eventually(lambda: jobs(hasty), [])
    assert bucket.keys("n/") == []
    assert record(hasty.path / "d", directory_attributes=False) == want
    eventually(lambda: os.listdir(hasty.path), ["d"])


def test_a_tree_in_use_while_it_is_renamed(hasty: Mount, proxy: CountingProxy) -> None:
    """Open files are read on before, during and after; nothing can be changed meanwhile; cwd comes along."""
    hold = Hold()
    (hasty.path / "d").mkdir()
    make(hasty.path / "d")
    with (
        open(hasty.path / "d" / "e" / "1", "rb") as file,
        proxy.rule(hold, operation="CopyObject", key="n/f/*"),
    ):
        with pytest.raises(OSError, match="progress"):
            os.rename(hasty.path / "d", hasty.path / "n")
        assert file.read(3) == b"d/e"
        assert (hasty.path / "d" / "a").read_bytes() == b"d/a"
        for refused in (
            (hasty.path / "d" / "new").touch,
            lambda: (hasty.path / "d" / "a").write_bytes(b"x"),
            (hasty.path / "d" / "a").unlink,
            lambda: (hasty.path / "d" / "e").rename(hasty.path / "e"),
            lambda: (hasty.path / "d").rename(hasty.path / "e"),
            (hasty.path / "n").mkdir,
            lambda: os.chmod(hasty.path / "d" / "a", 0o600),
        ):
            with pytest.raises(OSError, match="busy"):
                refused()  # type: ignore[no-untyped-call]
        hold.release()
        eventually(lambda: jobs(hasty), [])
        file.seek(0)
        assert file.read().startswith(b"d/e/1")
    eventually(lambda: os.listdir(hasty.path), ["n"])
    assert (hasty.path / "n" / "e" / "1").read_bytes().startswith(b"d/e/1")


def test_what_is_left_at_unmounting_is_said_and_gone_on_with(hasty: Mount, proxy: CountingProxy) -> None:
    """Unmounting tries once more, says which rename is not finished, and the next mount finishes it."""
    bucket = Bucket(hasty.server, hasty.bucket)
    hasty.expected = [*hasty.expected, "is not finished: the next mount goes on with it"]
    (hasty.path / "d").mkdir()
    make(hasty.path / "d")
    want = record(hasty.path / "d", directory_attributes=False)
    with proxy.rule(SLOW_DOWN, operation="DeleteObjects"), proxy.rule(SLOW_DOWN, operation="DeleteObject"):
        with pytest.raises(OSError, match="progress"):
            os.rename(hasty.path / "d", hasty.path / "n")
        assert hasty.stop(check=False) == 30
        assert "the rename of 'd/' to 'n/' is not finished" in hasty.log.read_text()
    hasty.start()
    assert whole_at_one_name(hasty, bucket, want) == "n"
