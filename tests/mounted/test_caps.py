"""What a mount takes of this machine is bounded, and who comes up against a bound waits or gets an errno."""

from __future__ import annotations

import errno
import os
import random
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.mounted.conftest import MakeMount
from tests.support.bucket import Bucket
from tests.support.counted_mount import PATIENT
from tests.support.mounting import Mount, Tools
from tests.support.servers import Server

MIB = 1 << 20
MEMORY = 24 * MIB
OVERHEAD = 128 * MIB
"""What the process may take beyond --memory, as docs/semantics.md says."""


class FewDescriptors(Mount):
    """A mount whose daemon may have 64 file descriptors."""

    def command(self) -> list[str]:
        """Return the command line of the daemon, under ``ulimit -n``."""
        return ["bash", "-c", 'ulimit -n 64; exec "$@"', "bash", *super().command()]


def peak_bytes(mount: Mount) -> int:
    """Return the most memory that the daemon has had resident."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{mount.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_readers_of_a_file_larger_than_the_memory_get_every_byte(
    real_server: Server, make_mount: MakeMount
) -> None:
    """Six readers at six places, two writers and listings share 24 MiB: right bytes, no error, bounded."""
    bucket = Bucket(real_server, real_server.fresh_bucket())
    block = random.Random(1).randbytes(MIB)
    data = b"".join(block[n:] + block[:n] for n in range(96))
    bucket.put("big", data)
    bucket.put_many({f"d{n % 20:02}/{n:04}": b"x" for n in range(400)})
    mount = make_mount(real_server, bucket.name, f"--memory={MEMORY}", "--part-size=5M", "--ttl=0s")

    def read(start: int) -> None:
        with open(mount.path / "big", "rb", buffering=0) as file:
            # The kernel's pages of this file are the other readers' too; a seek each keeps them apart.
            for at in [*range(start, 96, 1), *range(start)]:
                file.seek(at * MIB)
                assert file.read(MIB) == data[at * MIB : (at + 1) * MIB]

    def write(number: int) -> None:
        for turn in range(3):
            path = mount.path / f"w{number}-{turn}"
            path.write_bytes(data[: (12 + number) * MIB])

    def look(_: int) -> None:
        for _ in range(3):
            assert len(list(mount.path.glob("d*/*"))) == 400

    with ThreadPoolExecutor(9) as pool:
        work: list[tuple[Callable[[int], None], int]] = [(read, n * 16) for n in range(6)]
        work += [(write, 0), (write, 1), (look, 0)]
        for done in [pool.submit(one, number) for one, number in work]:
            done.result()
    assert peak_bytes(mount) < MEMORY + OVERHEAD
    for number in range(2):
        assert bucket.get(f"w{number}-2") == data[: (12 + number) * MIB]


@pytest.mark.parametrize("memory", ["24MiB"])
def test_an_upload_gets_through_while_readers_take_all_memory(
    minio: Server, make_mount: MakeMount, memory: str
) -> None:
    """Readers who never stop do not keep close(2) of a file in parts waiting for memory."""
    bucket = Bucket(minio, minio.fresh_bucket())
    data = random.Random(2).randbytes(MIB) * 64
    bucket.put("big", data)
    mount = make_mount(minio, bucket.name, f"--memory={memory}", "--part-size=5M")
    stop = threading.Event()
    rounds = 0

    def read() -> None:
        nonlocal rounds
        rng = random.Random(3)
        with open(mount.path / "big", "rb", buffering=0) as file:
            while not stop.is_set():
                at = rng.randrange(64)
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                file.seek(at * MIB)
                assert file.read(MIB) == data[at * MIB : (at + 1) * MIB]
                rounds += 1

    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read) for _ in range(8)]
        try:
            for number in range(4):
                (mount.path / f"f{number}").write_bytes(data[: 24 * MIB])
        finally:
            stop.set()
        for one in readers:
            one.result()
    assert rounds
    assert [len(bucket.get(f"f{number}")) for number in range(4)] == [24 * MIB] * 4


def test_too_many_open_files_is_enfile_and_the_mount_lives(minio: Server, tmp_path: Path) -> None:
    """`ulimit -n 64`: so many files can be written at once, more are ENFILE; all else goes on."""
    bucket = Bucket(minio, minio.fresh_bucket())
    bucket.put("there", b"bytes of it")
    expected = ["only 64 file descriptors are permitted", "too many files are open for writing"]
    with FewDescriptors(minio, bucket.name, tmp_path, expected=expected) as mount, ExitStack() as stack:
        files = []
        with pytest.raises(OSError) as caught:
            for number in range(64):
                file = stack.enter_context(open(mount.path / f"f{number}", "wb", buffering=0))
                file.write(b"%d" % number)
                files.append(file)
        assert caught.value.errno == errno.ENFILE
        assert len(files) >= 16
        # What has no room leaves nothing behind, and what is there can be read, by many at once.
        assert sorted(os.listdir(mount.path)) == sorted(["there", *(f"f{n}" for n in range(len(files)))])
        readers = [stack.enter_context(open(mount.path / "there", "rb")) for _ in range(100)]
        assert {reader.read() for reader in readers} == {b"bytes of it"}
        with pytest.raises(OSError) as caught:
            os.open(mount.path / "there", os.O_RDWR)
        assert caught.value.errno == errno.ENFILE
        with pytest.raises(OSError) as caught:
            os.truncate(mount.path / "there", 1)
        assert caught.value.errno == errno.ENFILE
        os.rename(mount.path / "there", mount.path / "moved")
        for file in files:
            file.close()
        (mount.path / "after").write_bytes(b"goes again")
    assert bucket.files() == {
        "moved": b"bytes of it",
        "after": b"goes again",
        **{f"f{number}": b"%d" % number for number in range(len(files))},
    }


def test_a_storm_under_few_descriptors_ends_in_errnos_only(minio: Server, tmp_path: Path) -> None:
    """Forty writers, readers and listings at once with 64 descriptors: ENFILE or success, then as before."""
    bucket = Bucket(minio, minio.fresh_bucket())
    bucket.put_many({f"r{n}": random.Random(n).randbytes(3 * MIB) for n in range(8)})
    expected = ["only 64 file descriptors are permitted", "too many files are open for writing"]
    with FewDescriptors(minio, bucket.name, tmp_path, ["--ttl=0s"], expected=expected) as mount:

        def work(number: int) -> str:
            body = random.Random(number % 8).randbytes(3 * MIB)
            if number % 2:
                assert (mount.path / f"r{number % 8}").read_bytes() == body
                os.listdir(mount.path)
                return "read"
            try:
                (mount.path / f"w{number}").write_bytes(body)
            except OSError as exc:
                assert exc.errno == errno.ENFILE
                return "refused"
            return "written"

        with ThreadPoolExecutor(40) as pool:
            did = list(pool.map(work, range(160)))
        print({what: did.count(what) for what in set(did)})
        written = [number for number, what in enumerate(did) if what == "written"]
        assert written
        assert did.count("read") == 80
        for number in written:
            assert bucket.get(f"w{number}") == random.Random(number % 8).randbytes(3 * MIB)
        open_now = len(os.listdir(f"/proc/{mount.pid}/fd"))
        assert open_now < 64


def test_too_few_descriptors_are_one_line(minio: Server, tmp_path: Path) -> None:
    """Where not even one connection of each kind fits, the mount does not come up, and says why."""

    class Hopeless(FewDescriptors):
        def command(self) -> list[str]:
            return [part.replace("ulimit -n 64", "ulimit -n 36") for part in super().command()]

    mount = Hopeless(minio, minio.fresh_bucket(), tmp_path)
    with pytest.raises(Exception, match="36 descriptors are too few, 40 are needed"):
        mount.__enter__()


def test_the_kernel_forgets_and_so_does_the_mount(minio: Server, make_mount: MakeMount) -> None:
    """find over 3,000 files, then the kernel drops its caches: the table is as small as before, each time."""
    bucket = Bucket(minio, minio.fresh_bucket())
    bucket.put_many({f"d{n % 30:02}/f{n:04}": b"x" for n in range(3000)})
    mount = make_mount(minio, bucket.name, *PATIENT, "--log-level=debug")
    known = re.compile(r"forgot inode \d+; (\d+) are known")
    for _ in range(3):
        assert len(Tools(mount).run("find", ".", "-type", "f").splitlines()) == 3000
        Path("/proc/sys/vm/drop_caches").write_text("2\n")
        os.listdir(mount.path)  # its answer comes after the forgets before it
        after = int(known.findall(mount.log.read_text())[-1])
        print(f"{after} names are known after the caches were dropped")
        assert after <= 40  # the root, and what is being looked at
