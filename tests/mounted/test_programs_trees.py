"""rsync, tar, git and Python environments: programs that make, compare and walk whole trees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.trees import make_tree, record
from tests.support.workplace import Workplace

GIT_IDENTITY = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.invalid",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.invalid",
    "GIT_CONFIG_NOSYSTEM": "1",
}


def test_rsync_transfers_nothing_the_second_time(place: Workplace) -> None:
    """`rsync -a` twice: the second finds nothing to do, also after a remount with empty caches."""
    tree = place.local / "tree"
    make_tree(tree)
    command = ("rsync", "-a", "--itemize-changes", f"{tree}/", "tree/")
    assert len(place.run(*command).splitlines()) > 20
    assert record(place.path / "tree") == record(tree)
    assert place.run(*command) == ""
    place.mount.remount()
    again = [] if place.keeps_directory_attributes else [".d"]
    assert {line[:2] for line in place.run(*command).splitlines()} == set(again)
    (tree / "src" / "run.sh").write_text("#!/bin/sh\necho changed\n")
    changed = place.run(*command).splitlines()
    assert [line.split()[-1] for line in changed if line.startswith(">f")] == ["src/run.sh"]
    assert place.bucket.get(place.key("tree/src/run.sh")) == b"#!/bin/sh\necho changed\n"


def test_rsync_deletes_and_writes_in_place(place: Workplace) -> None:
    """`--delete`, `--inplace` and `--checksum` leave the bucket as the source is."""
    tree = place.local / "tree"
    make_tree(tree)
    place.run("rsync", "-a", f"{tree}/", "tree/")
    (tree / "file0.bin").unlink()
    with (tree / "docs" / "file3.bin").open("r+b") as file:
        file.seek(2000)
        file.write(b"patched")
    place.run("rsync", "-a", "--delete", "--inplace", "--no-whole-file", f"{tree}/", "tree/")
    assert "tree/file0.bin" not in place.below()
    assert place.bucket.get(place.key("tree/docs/file3.bin"))[2000:2007] == b"patched"
    assert place.run("rsync", "-anci", "--delete", f"{tree}/", "tree/") == ""


def test_tar_unpacks_and_compares(place: Workplace) -> None:
    """`tar x` into the mount, then `tar --compare` finds no difference, also after a remount."""
    tree, archive = place.local / "tree", place.local / "tree.tar"
    make_tree(tree, private_directory=place.keeps_directory_attributes)
    # The format that keeps fractions of seconds.
    place.run("tar", "--format=posix", "-cf", str(archive), "-C", str(tree), ".")
    (place.path / "out").mkdir()
    place.run("tar", "-xpf", str(archive), "-C", "out")
    assert place.run("tar", "--compare", "-f", str(archive), "-C", "out") == ""
    place.mount.remount()
    assert place.run("tar", "--compare", "-f", str(archive), "-C", "out") == ""


def test_tar_packs_what_is_in_the_bucket(place: Workplace) -> None:
    """`tar c` of the mount, written onto the mount, unpacks on a disk to the same tree."""
    tree = place.local / "tree"
    make_tree(tree)
    place.run("cp", "-a", str(tree), "tree")
    place.run("tar", "--format=posix", "-czf", "tree.tgz", "-C", "tree", ".")
    (place.local / "copy.tgz").write_bytes(place.bucket.get(place.key("tree.tgz")))
    (place.local / "back").mkdir()
    place.run("tar", "-xpf", str(place.local / "copy.tgz"), "-C", str(place.local / "back"))
    assert record(place.local / "back") == record(tree)


def test_git_clone_commit_gc_fsck(place: Workplace) -> None:
    """git clones onto the mount, commits, packs and checks itself there; a remount changes nothing."""
    place.tools.environment = GIT_IDENTITY
    origin = place.local / "origin"
    origin.mkdir()
    place.run("git", "init", "-q", "-b", "main", cwd=origin)
    for number in range(60):
        path = origin / f"d{number % 6}" / f"f{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"line {number}\n" * 20)
    place.run("git", "add", ".", cwd=origin)
    place.run("git", "commit", "-qm", "first", cwd=origin)

    place.run("git", "clone", "-q", f"file://{origin}", "work")
    work = place.path / "work"
    assert place.run("git", "status", "--porcelain", cwd=work) == ""
    place.shell(
        "cd work; echo more >> d1/f1.txt; git mv d2/f2.txt d3/; git rm -q d4/f4.txt; git commit -qam 2"
    )
    place.run("git", "gc", "-q", cwd=work)
    place.run("git", "fsck", "--strict", cwd=work)
    assert place.run("git", "status", "--porcelain", cwd=work) == ""
    head = place.run("git", "rev-parse", "HEAD", cwd=work)

    place.mount.remount()
    assert place.run("git", "status", "--porcelain", cwd=work) == ""
    place.run("git", "fsck", "--strict", cwd=work)
    place.shell("cd work; git checkout -q -b side HEAD~1; git merge -q main; git push -q origin side")
    assert place.run("git", "rev-parse", "side", cwd=origin) == head


def test_a_python_environment_on_the_mount(place: Workplace) -> None:
    """A virtual environment is created on the mount and runs from it, importing a package there."""
    place.run(sys.executable, "-m", "venv", "--without-pip", "venv")
    python = place.path / "venv" / "bin" / "python"
    (site,) = place.path.glob("venv/lib/python*/site-packages")
    package = site / "greeting"
    package.mkdir()
    (package / "__init__.py").write_text("from greeting.words import HELLO\n")
    (package / "words.py").write_text("HELLO = 'hello from the bucket'\n")
    program = "import greeting, sys; print(greeting.HELLO, sys.prefix)"
    want = f"hello from the bucket {place.path / 'venv'}\n"
    assert place.run(str(python), "-c", program) == want
    compiled = [key for key in place.below() if key.endswith(".pyc")]
    assert len(compiled) == 2
    place.mount.remount()
    assert place.run(str(python), "-c", program) == want
    assert [key for key in place.below() if key.endswith(".pyc")] == compiled


@pytest.mark.heavy
def test_pip_works_in_an_environment_on_the_mount(place: Workplace) -> None:
    """A virtual environment with pip, some 900 files, is created on the mount; pip runs from it."""
    place.run(sys.executable, "-m", "venv", "venv", timeout_s=220)
    assert place.run("venv/bin/pip", "--version").startswith("pip ")


def test_make_builds_only_what_changed(place: Workplace) -> None:
    """make and a C compiler's pattern: what is newer is built again, what is not stays."""
    place.shell("printf 'out: in\\n\\tcp in out; echo built\\n' > Makefile; echo 1 > in")
    assert "built" in place.run("make")
    assert "built" not in place.run("make")
    place.shell("touch -d '+2 seconds' in")
    assert "built" in place.run("make")


def test_a_program_on_the_mount_runs(place: Workplace) -> None:
    """A script and a binary that were copied onto the mount are executed from it."""
    program = Path(os.path.realpath("/bin/ls"))
    place.shell(f"cp {program} ls; printf '#!/bin/sh\\nexec ./ls \"$@\"\\n' > run; chmod +x run ls")
    place.mount.remount()
    done = subprocess.run(["./run"], cwd=place.path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "ls\nrun\n", done.stderr
