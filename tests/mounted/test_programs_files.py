"""cp, mv, rm, sed and their like, on real servers; the bucket is checked with boto3 afterwards."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.trees import contents, make_tree, record
from tests.support.workplace import Workplace

MIB = 1024 * 1024


def test_cp_puts_a_file_into_the_bucket_and_out_again(place: Workplace) -> None:
    """`cp` in gives an object with the same bytes and a fitting type, `cp` out gives the file back."""
    data = random.Random(1).randbytes(300_000)
    (place.local / "in.csv").write_bytes(data)
    place.run("cp", str(place.local / "in.csv"), "table.csv")
    assert place.bucket.get(place.key("table.csv")) == data
    assert place.bucket.head(place.key("table.csv"))["ContentType"] == "text/csv"
    place.run("cp", "table.csv", "again.csv")
    place.run("cp", "again.csv", str(place.local / "out.csv"))
    assert (place.local / "out.csv").read_bytes() == data


def test_cp_r_copies_a_tree_both_ways(place: Workplace) -> None:
    """`cp -r` of a tree makes one object a file, and a marker for a directory that is empty."""
    tree, back = place.local / "tree", place.local / "back"
    make_tree(tree)
    place.run("cp", "-r", str(tree), "tree")
    stored = place.bucket.files(place.key("tree/"))
    links = {"docs/link": b"secret.txt", "dangling": b"no/such/file"}
    assert stored == contents(tree) | links
    assert "tree/empty/" in place.below()
    place.mount.remount()
    place.run("cp", "-r", "tree", str(back))
    assert contents(back) == contents(tree)
    assert os.readlink(back / "dangling") == "no/such/file"


def test_cp_a_keeps_modes_times_and_links_over_a_remount(place: Workplace) -> None:
    """`cp -a` keeps what it promises: modes, times to the nanosecond and links, also with empty caches."""
    tree = place.local / "tree"
    make_tree(tree)
    place.run("cp", "-a", str(tree), "tree")
    assert record(place.path / "tree") == record(tree)
    place.mount.remount()
    kept = place.keeps_directory_attributes
    assert record(place.path / "tree", directory_attributes=kept) == record(tree, directory_attributes=kept)


def test_ls_la_shows_what_is_there(place: Workplace) -> None:
    """`ls -la` shows sizes, modes, times, owner and a link's target, of old objects as of new ones."""
    place.bucket.put(place.key("old.txt"), b"12345")
    place.bucket.put(place.key("prefix/only"), b"1")
    place.shell(
        "echo -n 1234567 > new.txt; chmod 640 new.txt; touch -d @1600000000 new.txt; ln -s new.txt to"
    )
    place.mount.remount()
    lines = place.run("ls", "-la", "--time-style=+%s").splitlines()[1:]
    rows = {line.split(None, 6)[6]: line.split(None, 6)[:6] for line in lines}
    assert set(rows) == {".", "..", "old.txt", "new.txt", "prefix", "to -> new.txt"}
    assert rows["old.txt"][0] == "-rw-r--r--" and rows["old.txt"][4] == "5"
    assert rows["new.txt"][0] == "-rw-r-----" and rows["new.txt"][4:] == ["7", "1600000000"]
    assert rows["prefix"][0] == "drwxr-xr-x"
    assert rows["to -> new.txt"][0] == "lrwxrwxrwx"
    modified = place.bucket.head(place.key("old.txt"))["LastModified"].timestamp()
    assert int(rows["old.txt"][5]) == int(modified)


def test_mv_renames_a_file(place: Workplace) -> None:
    """`mv` moves the bytes to the new key and leaves nothing at the old one, over an existing file too."""
    place.shell("echo one > a; echo two > b; mv a c; mv b c; mkdir d; mv c d/")
    assert place.below() == ["d/", "d/c"]
    assert place.bucket.get(place.key("d/c")) == b"two\n"
    assert place.run("cat", "d/c") == "two\n"


def test_mv_renames_a_directory(place: Workplace) -> None:
    """`mv` of a directory moves every object under it, whoever wrote them, and attributes come along."""
    make_tree(place.local / "tree")
    place.run("cp", "-a", str(place.local / "tree"), "tree")
    place.bucket.put(place.key("tree/by/boto3.txt"), b"foreign")
    place.run("mv", "tree", "moved")
    assert not any(key.startswith("tree/") for key in place.below())
    assert place.bucket.get(place.key("moved/by/boto3.txt")) == b"foreign"
    place.mount.remount()
    assert not (place.path / "tree").exists()
    kept = place.keeps_directory_attributes
    moved = record(place.path / "moved", directory_attributes=kept)
    assert moved.pop("by/boto3.txt").content == b"foreign"
    assert moved.pop("by").mode[0] == "d"
    assert moved == record(place.local / "tree", directory_attributes=kept)


def test_mv_between_the_mount_and_a_disk(place: Workplace) -> None:
    """`mv` over the mount's edge copies and deletes: the file is whole on the other side."""
    make_tree(place.local / "tree")
    want = record(place.local / "tree")
    place.run("mv", str(place.local / "tree"), "tree")
    assert record(place.path / "tree") == want
    place.run("mv", "tree", str(place.local / "back"))
    assert record(place.local / "back") == want
    assert place.below() == []


def test_rm_r_leaves_nothing(place: Workplace) -> None:
    """`rm -r` exits 0 and leaves no key, markers or none; the directory above stays."""
    make_tree(place.local / "tree")
    place.bucket.put(place.key("tree/implicit/only/x"), b"x")
    place.run("cp", "-r", f"{place.local}/tree/.", "tree")
    place.run("rm", "-r", "tree")
    assert place.below() == []
    assert place.path.is_dir() and list(place.path.iterdir()) == []


def test_mkdir_p_and_rmdir_p(place: Workplace) -> None:
    """`mkdir -p` writes a marker for each new directory, `rmdir -p` takes them away again."""
    place.run("mkdir", "-p", "a/b/c")
    assert place.below() == ["a/", "a/b/", "a/b/c/"]
    place.mount.remount()
    assert (place.path / "a/b/c").is_dir()
    place.run("rmdir", "-p", "a/b/c")
    assert place.below() == []


def test_touch_sets_a_time_that_stays(place: Workplace) -> None:
    """`touch -d` is what `stat` shows at once and after a remount; `touch` of a new name makes a file."""
    place.run("touch", "-d", "2001-02-03T04:05:06.123456789Z", "old")
    place.mount.remount()
    assert (place.path / "old").stat().st_mtime_ns == 981173106123456789
    before_s = time.time() - 5
    place.run("touch", "old", "new")
    for name in ("old", "new"):
        assert (place.path / name).stat().st_mtime > before_s
        assert place.bucket.get(place.key(name)) == b""


def test_chmod_stays(place: Workplace) -> None:
    """`chmod` is what `stat` shows at once and after a remount, for files and directories."""
    place.shell("echo x > f; mkdir d; chmod 751 f; chmod 711 d; chmod a+w f")
    place.mount.remount()
    assert place.run("stat", "-c", "%a", "f") == "773\n"
    assert place.run("stat", "-c", "%a", "d") == ("711\n" if place.keeps_directory_attributes else "755\n")
    assert int(place.bucket.metadata(place.key("f"))["mode"]) == 0o100773


def test_ln_s(place: Workplace) -> None:
    """`ln -s` makes a link that can be read, followed, listed and removed without touching its target."""
    place.shell("mkdir d; echo hello > d/f; ln -s d/f file; ln -s d dir; ln -sfn d/f dir2; ln -sfn d dir2")
    place.mount.remount()
    assert place.shell("cat file dir/f dir2/f; readlink file") == "hello\n" * 3 + "d/f\n"
    assert place.bucket.get(place.key("file")) == b"d/f"
    place.run("rm", "file", "dir")
    assert place.bucket.get(place.key("d/f")) == b"hello\n"


def test_a_hard_link_is_refused(place: Workplace) -> None:
    """`ln` says that it is not permitted, rather than making a copy that would drift."""
    place.shell("echo x > f")
    with pytest.raises(PermissionError):
        os.link(place.path / "f", place.path / "g")
    assert place.below() == ["f"]


def test_cat_appends(place: Workplace) -> None:
    """`cat >>` adds to the end, of a file written here and of one that boto3 wrote."""
    place.bucket.put(place.key("log"), b"first\n")
    place.shell("echo second | cat >> log; echo third | cat >> log; echo new | cat >> other")
    assert place.bucket.get(place.key("log")) == b"first\nsecond\nthird\n"
    assert place.bucket.get(place.key("other")) == b"new\n"


def test_sed_i_replaces_in_place(place: Workplace) -> None:
    """`sed -i` changes the object, keeps the mode and leaves no temporary file."""
    place.bucket.put(place.key("conf"), b"a=1\nb=2\n")
    place.shell("chmod 600 conf; sed -i s/1/3/ conf; sed -i.bak s/2/4/ conf")
    assert place.bucket.get(place.key("conf")) == b"a=3\nb=4\n"
    assert place.below() == ["conf", "conf.bak"]
    assert place.run("stat", "-c", "%a", "conf") == "600\n"


def test_head_and_tail(place: Workplace) -> None:
    """`head -c` and `tail -c` give the right bytes of an object of several blocks."""
    data = random.Random(2).randbytes(5 * MIB + 123)
    place.bucket.put(place.key("big"), data)

    def output(*command: str) -> bytes:
        return subprocess.run(command, cwd=place.path, check=True, capture_output=True, timeout=60).stdout

    assert output("head", "-c", "100", "big") == data[:100]
    assert output("tail", "-c", "100", "big") == data[-100:]
    assert output("tail", "-c", "+3000001", "big") == data[3_000_000:]
    assert output("head", "-c", str(2 * MIB), "big") == data[: 2 * MIB]


def test_find_grep_du_and_diff(place: Workplace) -> None:
    """Programs that walk a tree see all of it, with its sizes."""
    place.bucket.put_many({place.key(f"t/{n % 3}/{n}.txt"): b"needle" * n for n in range(12)})
    assert len(place.run("find", "t", "-type", "f").split()) == 12
    assert len(place.run("grep", "-rl", "needle", "t").split()) == 11
    total = sum(6 * n for n in range(12))
    assert int(place.shell("du -cb t/*/* | tail -1 | cut -f1")) == total
    sizes = place.run("find", "t", "-type", "f", "-printf", "%s ").split()
    assert sum(map(int, sizes)) == total
    place.run("cp", "-r", "t", "u")
    assert place.run("diff", "-r", "t", "u") == ""


def test_a_gibibyte_in_and_out(place: Workplace) -> None:
    """`dd` of 1 GiB in, then out with empty caches: the SHA-256 of file, object and copy are one."""
    block = bytearray(random.Random(3).randbytes(MIB))
    digest = hashlib.sha256()
    place.mount.watch(420)
    command = ["dd", "of=big.bin", "bs=1M", "iflag=fullblock", "status=none"]
    with subprocess.Popen(command, cwd=place.path, stdin=subprocess.PIPE) as dd:
        assert dd.stdin is not None
        for number in range(1024):
            block[:8] = number.to_bytes(8, "big")
            digest.update(block)
            dd.stdin.write(block)
    assert dd.returncode == 0
    want = digest.hexdigest()
    assert place.bucket.head(place.key("big.bin"))["ContentLength"] == 1024 * MIB
    assert place.bucket.sha256(place.key("big.bin")) == want
    place.mount.remount()
    got = place.shell("dd if=big.bin bs=1M status=none | sha256sum", timeout_s=200)
    assert got.split()[0] == want
    Path(place.path / "big.bin").unlink()
