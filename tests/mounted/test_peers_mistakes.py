"""What other mounts of buckets get wrong, seen on real servers: each a thing that must be right here."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mounted.conftest import MakeMount
from tests.support.counted_mount import PATIENT, CountedMount, counted_mount
from tests.support.counting_proxy import Hold
from tests.support.servers import Server
from tests.support.workplace import Workplace

KIB, MIB = 1024, 1024 * 1024


@pytest.mark.parametrize(("old", "new"), [(1000, 10), (10, 1000), (20_000_000, 15_000_000)])
def test_truncate_by_path_keeps_the_bytes(place: Workplace, old: int, new: int) -> None:
    """truncate(path) keeps what is before the new end, in the bucket too; it does not turn it to NULs."""
    data = random.Random(old).randbytes(old)
    place.bucket.put(place.key("f"), data)
    os.truncate(place.path / "f", new)
    want = data[:new] + bytes(max(0, new - old))
    assert (place.path / "f").stat().st_size == new
    assert place.bucket.get(place.key("f")) == want
    assert (place.path / "f").read_bytes() == want


def test_a_directory_without_a_marker_has_a_time(place: Workplace) -> None:
    """A directory that is only a prefix shows a time after 1970 and not in the future."""
    place.bucket.put(place.key("only/prefix/x"), b"x")
    for path in (place.path / "only", place.path / "only" / "prefix"):
        assert 10**9 < path.stat().st_mtime < time.time() + 60


def test_python_imports_from_directories_without_markers(place: Workplace) -> None:
    """Python imports a package whose directories are prefixes only, and caches what it compiled."""
    place.bucket.put(place.key("lib/package/__init__.py"), b"from package.part import VALUE\n")
    place.bucket.put(place.key("lib/package/part.py"), b"VALUE = 'imported'\n")
    program = "import sys; sys.path.insert(0, 'lib'); import package; print(package.VALUE)"
    assert place.run(sys.executable, "-c", program) == "imported\n"
    assert place.run(sys.executable, "-c", program) == "imported\n"


def test_rename_of_a_file_moves_its_bytes(place: Workplace) -> None:
    """rename(2) that says 0 has moved the bytes: it does not leave an empty object."""
    data = random.Random(1).randbytes(300 * KIB)
    place.bucket.put(place.key("old"), data)
    os.rename(place.path / "old", place.path / "new")
    assert place.below() == ["new"]
    assert place.bucket.get(place.key("new")) == data
    assert (place.path / "new").read_bytes() == data


def test_rm_r_of_prefixes_exits_0(place: Workplace) -> None:
    """`rm -r` succeeds, though its directories are nothing but the keys that it deletes."""
    place.bucket.put_many({place.key(f"t/{n % 3}/{n % 2}/{n}"): b"x" for n in range(12)})
    place.run("rm", "-r", "t")
    assert place.below() == []
    assert not (place.path / "t").exists()


def test_a_directory_stays_when_its_last_file_goes(place: Workplace) -> None:
    """Deleting or moving away the last file of a prefix leaves an empty directory, also on remount."""
    place.bucket.put(place.key("deleted/last"), b"x")
    place.bucket.put(place.key("moved/last"), b"x")
    place.shell("rm deleted/last; mv moved/last .")
    place.mount.remount()
    assert list((place.path / "deleted").iterdir()) == []
    assert list((place.path / "moved").iterdir()) == []


def test_rmdir_of_a_directory_with_entries(place: Workplace) -> None:
    """rmdir says ENOTEMPTY, of a marker with keys, of keys alone and of what only this host has."""
    place.bucket.put(place.key("keys/f"), b"x")
    (place.path / "made").mkdir()
    (place.path / "made" / "f").write_bytes(b"x")
    (place.path / "open").mkdir()
    with (place.path / "open" / "unsent").open("wb") as file:
        file.write(b"x")
        for name in ("made", "keys", "open"):
            with pytest.raises(OSError) as raised:
                os.rmdir(place.path / name)
            assert raised.value.errno == errno.ENOTEMPTY
    assert place.below() == ["keys/f", "made/", "made/f", "open/", "open/unsent"]
    place.run("rm", "-r", "keys", "made", "open")


def test_requests_for_each_small_file_opened(counted: CountedMount) -> None:
    """Small files cost one GET each to read, and nothing on a second pass."""
    counted.put_many({f"{number}": b"x" * 1000 for number in range(30)})
    counted.run("ls", "-l")
    with counted.spending(GetObject=30):
        counted.shell("cat *")
    with counted.spending():
        counted.shell("cat *")


def test_requests_for_each_small_file_written(counted: CountedMount) -> None:
    """Small files cost one PUT each to write."""
    counted.run("ls", "-l")
    with counted.spending(PutObject=30):
        counted.shell("for n in $(seq 30); do echo $n > $n; done")


@pytest.mark.parametrize("call", ["close", "fsync"])
def test_it_returns_once_the_bucket_has_it(counted: CountedMount, call: str) -> None:
    """close and fsync do not return before the server has answered that it has the bytes."""
    counted.run("ls")
    hold = Hold()
    returned = threading.Event()
    descriptor = os.open(counted.path / "f", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"data")

    def work() -> None:
        (os.close if call == "close" else os.fsync)(descriptor)
        returned.set()

    with counted.proxy.rule(hold, operation="PutObject"):
        thread = threading.Thread(target=work)
        thread.start()
        try:
            hold.wait_held()
            assert not returned.wait(0.3)
        finally:
            hold.release()
            thread.join()
    assert returned.is_set()
    assert counted.get("f") == b"data"
    if call == "fsync":
        os.close(descriptor)


def test_reading_a_file_after_unlinking_it(place: Workplace) -> None:
    """An open file is read to its end after it was unlinked: not a byte is missing."""
    data = random.Random(2).randbytes(5 * MIB)
    place.bucket.put(place.key("f"), data)
    with open(place.path / "f", "rb", buffering=0) as file:
        assert file.read(10) == data[:10]
        os.unlink(place.path / "f")
        assert place.below() == []
        rest = b"".join(iter(lambda: file.read(MIB), b""))
    assert rest == data[10:]


def test_chmod_is_kept_and_symlinks_work(place: Workplace) -> None:
    """chmod is not accepted and then ignored, symlink is not refused: both outlive the mount."""
    place.shell("echo x > f; chmod 600 f; ln -s f link")
    place.mount.remount()
    assert place.run("stat", "-c", "%a", "f") == "600\n"
    assert place.run("cat", "link") == "x\n"


def test_mode_and_mtime_are_kept_over_a_remount(place: Workplace) -> None:
    """`cp -a` and `touch -d` are not undone by mounting again."""
    place.shell("echo x > f; chmod 755 f; touch -d @1400000000.123456789 f; cp -a f g")
    place.mount.remount()
    for name in ("f", "g"):
        assert place.run("stat", "-c", "%a %.9Y", name) == "755 1400000000.123456789\n"


def test_remote_changes_are_seen_within_the_ttl(real_server: Server, make_mount: MakeMount) -> None:
    """Nothing that begins later than the TTL after a remote change shows the state before it."""
    ttl_s = 1.0
    mount = make_mount(real_server, None, "--ttl=1s", "--negative-ttl=1s")
    client = real_server.client()

    def put(key: str, body: bytes) -> None:
        client.put_object(Bucket=mount.bucket, Key=key, Body=body)

    def seen(change: Callable[[], None], look: Callable[[], object], want: object) -> None:
        assert look() != want
        change()
        changed = time.monotonic()
        while True:
            began = time.monotonic()
            if look() == want:
                return
            assert began <= changed + ttl_s, "the old state is shown after the TTL"
            time.sleep(0.02)

    path = mount.path / "f"
    put("f", b"old")
    assert os.listdir(mount.path) == ["f"]
    seen(lambda: put("f", b"newer"), path.read_bytes, b"newer")
    seen(lambda: put("f", b"newest!"), lambda: path.stat().st_size, 7)
    seen(lambda: put("g", b"x"), lambda: sorted(os.listdir(mount.path)), ["f", "g"])
    seen(lambda: put("h", b"x"), (mount.path / "h").exists, True)
    delete = lambda: client.delete_object(Bucket=mount.bucket, Key="h")  # noqa: E731
    seen(delete, (mount.path / "h").exists, False)


def test_random_reads_fetch_little(real_server: Server, tmp_path: Path) -> None:
    """Random 4 KiB reads fetch a block each at most, not the file over and over."""
    size, reads = 96 * MIB, 200
    data = random.Random(3).randbytes(MIB) * (size // MIB)
    with counted_mount(real_server, tmp_path / "m", *PATIENT, "--memory=64MiB") as counted:
        counted.put("f", data)
        counted.proxy.clear()
        rng = random.Random(4)
        with open(counted.path / "f", "rb", buffering=0) as file:
            for _ in range(reads):
                offset = rng.randrange(0, size - 4 * KIB)
                assert os.pread(file.fileno(), 4 * KIB, offset) == data[offset : offset + 4 * KIB]
        fetched = sum(request.bytes_out for request in counted.proxy.requests())
        # A read may straddle two blocks.
        assert fetched <= reads * 1.1 * MIB
        assert counted.proxy.counts()["GetObject"] <= reads * 1.1


def test_no_head_for_each_name_that_ls_shows(counted: CountedMount) -> None:
    """`ls -l` costs one LIST for a hundred names, and asks about three of them at most."""
    counted.put_many({f"{number:03}": b"x" for number in range(100)})
    requests = counted.spent(lambda: counted.run("ls", "-l"))
    assert requests.pop("ListObjectsV2") == 1
    assert requests.pop("HeadObject", 0) <= 3
    assert not requests


def test_a_stream_stays_within_the_memory(minio: Server, make_mount: MakeMount) -> None:
    """Writing and reading 1 GiB takes no more memory than --memory and 128 MiB."""
    memory = 64 * MIB
    mount = make_mount(minio, None, f"--memory={memory}")
    block = random.Random(5).randbytes(MIB)
    with open(mount.path / "big", "wb", buffering=0) as file:
        for _ in range(1024):
            file.write(block)
    written = peak_rss(mount.pid)
    # The kernel has the pages of what was just written.
    mount.remount()
    with open(mount.path / "big", "rb", buffering=0) as file:
        total = sum(iter(lambda: len(file.read(MIB)), 0))
    assert total == 1024 * MIB
    read = peak_rss(mount.pid)
    assert written <= memory + 128 * MIB
    assert read <= memory + 128 * MIB


def peak_rss(pid: int) -> int:
    """Return the most memory that a process has had resident, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * KIB


def test_the_first_stat_is_not_slow(real_server: Server, tmp_path: Path) -> None:
    """The first stat after mounting costs a LIST and a HEAD, both at once: no warming up comes before it."""
    with counted_mount(real_server, tmp_path / "m") as counted:
        counted.put("f", b"x")
        requests = counted.spent((counted.path / "f").stat)
        assert requests.pop("ListObjectsV2") == 1
        assert requests.pop("HeadObject", 0) <= 1
        assert not requests


def test_unmounting_does_not_wait(minio: Server, make_mount: MakeMount) -> None:
    """Nothing sleeps on the way out: the fastest of three unmounts is done in less than a second."""
    mount = make_mount(minio)
    times = []
    for _ in range(3):
        (mount.path / "f").write_bytes(b"x")
        began = time.monotonic()
        mount.stop()
        times.append(time.monotonic() - began)
        mount.start()
    assert min(times) < 1.0


def test_names_of_255_bytes_work_and_of_256_do_not(place: Workplace) -> None:
    """255 bytes are a name like any other, 256 are ENAMETOOLONG for whatever would make or look at it."""
    for longest in ("n" * 255, "é" * 127 + "n"):
        assert len(os.fsencode(longest)) == 255
        (place.path / longest).write_bytes(b"x")
        assert place.bucket.get(place.key(longest)) == b"x"
        os.rename(place.path / longest, place.path / "short")
        os.rename(place.path / "short", place.path / longest)
        assert longest in os.listdir(place.path)
    too_long = place.path / ("n" * 256)
    (place.path / "f").write_bytes(b"x")
    attempts: list[Callable[[], object]] = [
        lambda: too_long.write_bytes(b"x"),
        too_long.mkdir,
        too_long.stat,
        lambda: too_long.symlink_to("f"),
        lambda: os.rename(place.path / "f", too_long),
    ]
    for attempt in attempts:
        with pytest.raises(OSError) as raised:
            attempt()
        assert raised.value.errno == errno.ENAMETOOLONG


def test_the_second_read_of_an_unchanged_file(real_server: Server, tmp_path: Path) -> None:
    """A file larger than the memory is read again without a request: the kernel keeps its pages."""
    data = random.Random(6).randbytes(MIB) * 48
    with counted_mount(real_server, tmp_path / "m", *PATIENT, "--memory=16MiB") as counted:
        counted.put("f", data)
        assert (counted.path / "f").read_bytes() == data
        with counted.spending():
            assert (counted.path / "f").read_bytes() == data
            subprocess.run(["cmp", "f", "f"], cwd=counted.path, check=True, timeout=60)


def test_pages_of_a_changed_file_are_not_kept(real_server: Server, tmp_path: Path) -> None:
    """The same size and a new ETag: after the TTL the new bytes are read, not the kernel's old pages."""
    with counted_mount(real_server, tmp_path / "m", "--ttl=0s", "--negative-ttl=0s") as counted:
        for letter in (b"a", b"b", b"c"):
            counted.put("f", letter * 10_000)
            assert (counted.path / "f").read_bytes() == letter * 10_000
