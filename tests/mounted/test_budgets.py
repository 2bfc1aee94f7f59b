"""What each operation costs in requests, exactly: with a far server, time is requests and little else."""

from __future__ import annotations

import os
import random
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.counted_mount import PATIENT, CountedMount, counted_mount
from tests.support.servers import Server

MIB = 1024 * 1024
MANY = 1100
"""Objects in the directory that needs two pages of LIST."""


def warm(counted: CountedMount, path: Path | None = None) -> None:
    """List a directory, so that what is in it and what is not is known."""
    counted.run("ls", "-l", cwd=path)


@pytest.mark.parametrize("attributes", ["list", "auto", "exact"])
def test_listing_many_plain_objects(real_server: Server, tmp_path: Path, attributes: str) -> None:
    """`ls -l` of N plain objects is ceil(N/1000) LISTs and no HEAD per name, save with exact.

    auto asks about three of each page where LIST shows no metadata, list about none.
    """
    with counted_mount(real_server, tmp_path / "m", *PATIENT, f"--attributes={attributes}") as counted:
        counted.put_many({f"many/{number:04}": b"x" for number in range(MANY)})
        warm(counted)
        requests = counted.spent(lambda: warm(counted, counted.path / "many"))
        assert requests.pop("ListObjectsV2") == 2
        heads = requests.pop("HeadObject", 0)
        if attributes == "exact" and not counted.lists_metadata:
            assert heads >= MANY
        elif attributes == "auto" and not counted.lists_metadata:
            assert heads <= 6
        else:
            assert heads == 0
        assert not requests
        with counted.spending():
            names = os.listdir(counted.path / "many")
            assert len(names) == MANY
            for name in names:
                assert (counted.path / "many" / name).stat().st_size == 1


def test_stat_of_one_cold_path(counted: CountedMount) -> None:
    """The first stat of a path costs a LIST a component, the second name in a place nothing.

    Beside it, where LIST shows no metadata, a HEAD of the name; and of a directory's marker, which
    has its mode and time and is in no LIST of the directory above.
    """
    counted.put_many({"a/b/one": b"1", "a/b/two": b"2", "a/other": b"3"})
    requests = counted.spent((counted.path / "a" / "b" / "one").stat)
    assert requests.pop("ListObjectsV2") == 3
    assert requests.pop("HeadObject") <= (2 if counted.lists_metadata else 5)
    assert not requests
    with counted.spending():
        assert (counted.path / "a" / "b" / "two").stat().st_size == 1
    # Of the files in `a` none has been looked at yet.
    requests = counted.spent((counted.path / "a" / "other").stat)
    assert requests == ({} if counted.lists_metadata else {"HeadObject": 1})


def test_a_name_that_is_not_there(counted: CountedMount) -> None:
    """A missing name costs at most two requests, and nothing while its absence is remembered."""
    counted.put("there", b"x")

    def look() -> None:
        with suppress(FileNotFoundError):
            (counted.path / "missing").stat()
            raise AssertionError("it is not there")

    assert counted.spent(look).total() <= 2
    with counted.spending():
        for _ in range(10):
            look()


def test_many_missing_names_in_a_listed_directory(counted: CountedMount) -> None:
    """Where a listing is known to be whole, names that are not in it cost nothing at all."""
    counted.put("there", b"x")
    warm(counted)
    with counted.spending():
        for number in range(100):
            assert not (counted.path / f"missing{number}").exists()


@pytest.mark.parametrize(
    "command",
    ["cp {src} f", "cat {src} > f", "echo -n hello > f", "dd if={src} of=f status=none", "tee f < {src}"],
    ids=["cp", "cat", "echo", "dd", "tee"],
)
def test_a_small_new_file(counted: CountedMount, tmp_path: Path, command: str) -> None:
    """A small new file is one PUT, however it is written, and a stat or a read of its size nothing more."""
    (tmp_path / "src").write_bytes(b"hello")
    warm(counted)
    with counted.spending(PutObject=1):
        counted.shell(command.format(src=tmp_path / "src"))
        assert (counted.path / "f").stat().st_size == 5
    assert counted.get("f") == b"hello"


def test_a_small_new_file_in_a_cold_directory(counted: CountedMount) -> None:
    """Without any knowledge of the directory, two look-ups at most come before the one PUT."""
    counted.put("other", b"x")
    requests = counted.spent(lambda: counted.shell("echo hello > f"))
    assert requests.pop("PutObject") == 1
    assert requests.total() <= 2


def test_an_empty_new_file(counted: CountedMount) -> None:
    """`touch` of a new name is one PUT."""
    warm(counted)
    with counted.spending(PutObject=1):
        counted.run("touch", "f")


def test_cp_p_costs_nothing_more(counted: CountedMount, tmp_path: Path) -> None:
    """`cp -p` sets mode, owner and time before close: they go along with the one PUT."""
    source = tmp_path / "src"
    source.write_bytes(b"hello")
    source.chmod(0o640)
    os.utime(source, (1_500_000_000, 1_500_000_000))
    warm(counted)
    with counted.spending(PutObject=1):
        counted.run("cp", "-p", str(source), "f")
    assert counted.bucket.metadata(counted.prefix + "f")["mtime"] == "1500000000.000000000"


def test_rsync_of_a_tree(counted: CountedMount, tmp_path: Path) -> None:
    """`rsync -a` of ten files asks for none of them, and the second time for nothing at all."""
    (tmp_path / "src").mkdir()
    for number in range(10):
        (tmp_path / "src" / f"f{number}").write_bytes(b"x" * number)
    warm(counted)
    requests = counted.spent(lambda: counted.run("rsync", "-a", f"{tmp_path}/src/", "dst/"))
    # rsync writes f into .f.XXXXXX, closes it, and only then sets its time, its mode and its name.
    assert requests.pop("CopyObject") == 3 * 10
    assert requests.pop("DeleteObject") == 10
    assert requests.pop("PutObject") <= 10 + 3
    assert not requests
    with counted.spending():
        assert counted.run("rsync", "-ai", f"{tmp_path}/src/", "dst/") == ""


def test_a_second_read_of_an_unchanged_file(counted: CountedMount) -> None:
    """The first read fetches the file once, the second costs nothing."""
    data = random.Random(1).randbytes(3 * MIB)
    counted.put("f", data)
    warm(counted)
    assert set(counted.spent((counted.path / "f").read_bytes)) <= {"GetObject"}
    fetched = sum(request.bytes_out for request in counted.proxy.requests())
    assert fetched == len(data)
    with counted.spending():
        assert (counted.path / "f").read_bytes() == data


def test_a_small_read_after_ls(counted: CountedMount) -> None:
    """Reading a small file whose directory was listed is one GET."""
    counted.put("f", b"x" * 5000)
    warm(counted)
    with counted.spending(GetObject=1):
        assert (counted.path / "f").read_bytes() == b"x" * 5000


def test_many_commands_that_write_one_log(counted: CountedMount) -> None:
    """Each child that ends closes the log that it inherited; only the shell's own close uploads it."""
    warm(counted)
    script = "{ for i in 1 2 3 4 5; do echo $i; /bin/echo $i; done; ls /; } > log"
    with counted.spending(PutObject=1):
        counted.run("bash", "-c", script)
    assert counted.get("log").startswith(b"1\n1\n2\n2\n")


def test_closing_a_duplicate(counted: CountedMount) -> None:
    """close(2) of one of two descriptors sends nothing, fsync(2) does, and so does the last close."""
    warm(counted)
    descriptor = os.open(counted.path / "f", os.O_WRONLY | os.O_CREAT)
    with counted.spending():
        duplicate = os.dup(descriptor)
        os.write(descriptor, b"some")
        os.close(duplicate)
    with counted.spending(PutObject=1):
        os.fsync(descriptor)
    with counted.spending(PutObject=1):
        os.write(descriptor, b" more")
        os.close(descriptor)
    assert counted.get("f") == b"some more"


def test_reading_while_another_writes(counted: CountedMount) -> None:
    """A reader that closes a file is no reason to upload what its writer has not finished."""
    warm(counted)
    with (counted.path / "f").open("wb", buffering=0) as file:
        file.write(b"half")
        with counted.spending():
            assert (counted.path / "f").read_bytes() == b"half"
            assert counted.run("cat", "f") == "half"


def test_reading_what_was_just_written(counted: CountedMount) -> None:
    """A small file that this host wrote is not fetched, though the kernel drops its pages at the new time."""
    warm(counted)
    (counted.path / "f").write_bytes(b"x" * 100_000)
    with counted.spending():
        assert (counted.path / "f").read_bytes() == b"x" * 100_000


def test_reading_what_was_just_renamed(counted: CountedMount) -> None:
    """Nor is one that was saved under a temporary name, or whose mode was changed: a copy has its bytes."""
    warm(counted)
    (counted.path / "f.tmp").write_bytes(b"x" * 100_000)
    (counted.path / "f.tmp").rename(counted.path / "f")
    (counted.path / "f").chmod(0o600)
    with counted.spending():
        assert (counted.path / "f").read_bytes() == b"x" * 100_000


def test_a_large_new_file(real_server: Server, tmp_path: Path) -> None:
    """20 MiB in parts of 5 MiB: one request to begin, one a part, one to complete, and no HEAD."""
    with counted_mount(real_server, tmp_path / "m", *PATIENT, "--part-size=5MiB") as counted:
        warm(counted)
        with counted.spending(CreateMultipartUpload=1, UploadPart=4, CompleteMultipartUpload=1):
            counted.run("dd", "if=/dev/urandom", "of=f", "bs=1M", "count=20", "status=none")
            assert (counted.path / "f").stat().st_size == 20 * MIB
        assert counted.bucket.head(counted.prefix + "f")["ContentLength"] == 20 * MIB


def test_renaming_a_file(counted: CountedMount) -> None:
    """rename(2) is one COPY and one DELETE, and a HEAD where the file's metadata is not known."""
    counted.put("f", b"x")
    warm(counted)
    requests = counted.spent(lambda: os.rename(counted.path / "f", counted.path / "g"))
    assert requests.pop("HeadObject", 0) <= (0 if counted.lists_metadata else 1)
    assert requests == {"CopyObject": 1, "DeleteObject": 1}
    with counted.spending(CopyObject=1, DeleteObject=1):
        os.rename(counted.path / "g", counted.path / "h")
    with counted.spending():
        assert (counted.path / "h").stat().st_size == 1
        assert not (counted.path / "g").exists()


def test_mv_replaces_nothing_unasked(counted: CountedMount) -> None:
    """`mv` uses RENAME_NOREPLACE: a LIST looks for a directory, and the copy never replaces a file.

    MinIO does not make such a copy in one request.
    """
    counted.put("f", b"x")
    warm(counted)
    requests = counted.spent(lambda: counted.run("mv", "f", "g"))
    assert requests.pop("HeadObject", 0) <= 1
    made = ["CreateMultipartUpload", "UploadPartCopy", "CompleteMultipartUpload"]
    made = made if counted.lists_metadata else ["CopyObject"]
    assert requests == {"ListObjectsV2": 1, "DeleteObject": 1} | dict.fromkeys(made, 1)


def test_saving_through_a_temporary_file(counted: CountedMount) -> None:
    """An editor's save, temporary file and rename over the old one: PUT, COPY, DELETE."""
    counted.put("f", b"old")
    warm(counted)
    with counted.spending(PutObject=1, CopyObject=1, DeleteObject=1):
        (counted.path / ".f.tmp").write_bytes(b"new\n")
        os.rename(counted.path / ".f.tmp", counted.path / "f")
    assert counted.get("f") == b"new\n"


def test_mkdir_and_rmdir(counted: CountedMount) -> None:
    """mkdir is one PUT, a look into the new directory nothing, rmdir a LIST and a DELETE."""
    warm(counted)
    with counted.spending(PutObject=1):
        counted.run("mkdir", "d")
        assert os.listdir(counted.path / "d") == []
        assert not (counted.path / "d" / "x").exists()
    with counted.spending(ListObjectsV2=1, DeleteObject=1):
        counted.run("rmdir", "d")


def test_rm_r_of_a_directory_made_here(counted: CountedMount) -> None:
    """`rm -r` of N files is N DELETEs and the rmdir: no HEAD, no LIST per file."""
    warm(counted)
    counted.shell("mkdir d; for n in $(seq 20); do echo $n > d/$n; done")
    requests = counted.spent(lambda: counted.run("rm", "-r", "d"))
    assert requests.pop("DeleteObject") == 21
    assert requests.pop("ListObjectsV2") <= 2
    assert not requests
    assert counted.below() == []


def test_rm_r_of_a_directory_without_a_marker(counted: CountedMount) -> None:
    """`rm -r` where only the keys make the directory: its marker keeps it until rmdir takes both away."""
    counted.put_many({f"d/{number}": b"x" for number in range(20)})
    warm(counted)
    requests = counted.spent(lambda: counted.run("rm", "-r", "d"))
    assert requests.pop("DeleteObject") == 21
    assert requests.pop("PutObject", 0) <= 1
    assert requests.pop("ListObjectsV2") <= 4
    assert requests.pop("HeadObject", 0) <= (0 if counted.lists_metadata else 3)
    assert not requests
    assert counted.below() == []


def test_chmod_of_a_closed_file(counted: CountedMount) -> None:
    """chmod of what is in the bucket is one COPY; the same mode again is nothing."""
    warm(counted)
    counted.shell("echo x > f")
    with counted.spending(CopyObject=1):
        counted.run("chmod", "600", "f")
    with counted.spending():
        counted.run("chmod", "600", "f")
        assert (counted.path / "f").stat().st_mode & 0o777 == 0o600


def test_chmod_of_an_object_that_others_wrote(counted: CountedMount) -> None:
    """chmod must keep the other metadata: where LIST does not show it, one HEAD comes before the COPY."""
    counted.put("f", b"x")
    warm(counted)
    requests = counted.spent(lambda: counted.run("chmod", "600", "f"))
    assert requests.pop("HeadObject", 0) <= (0 if counted.lists_metadata else 1)
    assert requests == {"CopyObject": 1}


def test_symlink(counted: CountedMount) -> None:
    """A link is one PUT, and following it costs nothing while its target is known."""
    warm(counted)
    counted.shell("echo x > f")
    with counted.spending(PutObject=1):
        counted.run("ln", "-s", "f", "link")
        assert os.readlink(counted.path / "link") == "f"
        assert (counted.path / "link").stat().st_size == 2


def test_append_fetches_only_what_it_needs(counted: CountedMount) -> None:
    """Appending to a large object sends it anew, as S3 must, but fetches it once only."""
    data = random.Random(2).randbytes(6 * MIB)
    counted.put("f", data)
    warm(counted)
    counted.proxy.clear()
    counted.shell("echo more >> f")
    assert sum(request.bytes_out for request in counted.proxy.requests()) <= len(data) + 10_000
    assert counted.proxy.counts()["PutObject"] == 1
    assert counted.get("f") == data + b"more\n"


def test_truncating_to_nothing_fetches_nothing(counted: CountedMount) -> None:
    """`> f` on an existing object writes the new bytes and reads none of the old ones."""
    counted.put("f", b"x" * 5 * MIB)
    warm(counted)
    requests = counted.spent(lambda: counted.shell("echo new > f"))
    assert requests.pop("HeadObject", 0) <= (0 if counted.lists_metadata else 1)
    assert requests == {"PutObject": 1}


def test_closing_an_unchanged_file_sends_nothing(counted: CountedMount) -> None:
    """Opening for writing, and fsync, without a change costs nothing."""
    counted.put("f", b"x")
    warm(counted)
    with counted.spending():
        descriptor = os.open(counted.path / "f", os.O_RDWR)
        os.fsync(descriptor)
        os.close(descriptor)


def test_fsync_then_close_is_one_put(counted: CountedMount) -> None:
    """What fsync has sent, close does not send again."""
    warm(counted)
    with counted.spending(PutObject=1), open(counted.path / "f", "wb", buffering=0) as file:
        file.write(b"data")
        os.fsync(file.fileno())


def test_find_in_a_tree(counted: CountedMount) -> None:
    """`find` costs one LIST a directory, and with `-newer` and `-size` no HEAD per name."""
    counted.put_many({f"t/{n % 5}/{n}": b"x" for n in range(50)})
    warm(counted)
    requests = counted.spent(lambda: counted.run("find", "t", "-size", "-10k", "-mmin", "-100"))
    assert requests.pop("ListObjectsV2") == 6
    # The markers of three sub-directories, and three files of each of the five.
    assert requests.pop("HeadObject", 0) <= (3 if counted.lists_metadata else 18)
    assert not requests
