"""What programs say and leave, where links within the mount are followed and others are not.

What is said here is in docs/semantics.md.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mounted.conftest import MakeMount
from tests.support.bucket import Bucket
from tests.support.mounting import Mount
from tests.support.servers import Server
from tests.support.workplace import Workplace

LINK = {"mode": str(stat.S_IFLNK | 0o777)}
IDENTITY = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"} | IDENTITY


def said(cwd: Path, *command: str | Path) -> tuple[int, str]:
    """Run *command*; return its exit code and what it complained of."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=cwd,
        env={**ENVIRONMENT, "GIT_CONFIG_NOSYSTEM": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stderr


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree on a disk with a link within it and two that lead out."""
    tree = tmp_path / "source"
    (tree / "d").mkdir(parents=True)
    (tree / "f").write_text("f\n")
    (tree / "d" / "in").symlink_to("../f")
    (tree / "out").symlink_to("/etc/hostname")
    (tree / "mid").symlink_to("d/../f")
    return tree


@pytest.fixture
def mount(make_mount: MakeMount, minio: Server) -> Mount:
    """A bucket where another program made a link that leads out, mounted with the default."""
    bucket = Bucket(minio, minio.fresh_bucket())
    bucket.put("t/out", b"/etc/hostname", Metadata=LINK)
    bucket.put("t/in", b"f", Metadata=LINK)
    bucket.put("t/f", b"text")
    return make_mount(minio, bucket.name)


def test_what_shows_and_copies_a_link_that_leads_out(mount: Mount, tmp_path: Path) -> None:
    """It is named with its errno, the exit code says so, and everything else is done."""
    code, text = said(mount.path, "ls", "-l", "t")
    assert (code, text) == (1, "ls: cannot read symbolic link 't/out': Permission denied\n")
    assert said(mount.path, "find", "t", "-type", "l") == (0, "")
    code, text = said(mount.path, "cat", "t/out")
    assert (code, text) == (1, "cat: t/out: Permission denied\n")
    for command, want in (
        (("cp", "-a", "t", tmp_path / "cp"), (1, "cp: cannot read symbolic link 't/out': Permission denied")),
        (("rsync", "-a", "t/", tmp_path / "rsync"), (23, "failed: Permission denied (13)")),
        (("tar", "-cf", tmp_path / "tar", "t"), (2, "tar: t/out: Cannot readlink: Permission denied")),
    ):
        code, text = said(mount.path, *command)
        assert (code, want[1] in text) == (want[0], True), text
    for copy in ("cp", "rsync"):
        assert sorted(os.listdir(tmp_path / copy)) == ["f", "in"]
    assert said(mount.path, "mv", "t/out", "t/moved") == (0, "")
    assert said(mount.path, "rm", "-r", "t") == (0, "")


def test_copies_onto_the_mount_leave_out_links_that_lead_out(mount: Mount, source: Path) -> None:
    """cp ends with 1, rsync with 23, tar with 2; all files and the links within are there."""
    archive = source.parent / "source.tar"
    subprocess.run(["tar", "-cf", archive, "-C", source, "."], check=True)
    (mount.path / "tar").mkdir()
    for command, want in (
        (
            ("cp", "-a", source, "cp"),
            (1, "cp: cannot create symbolic link 'cp/out': Operation not permitted"),
        ),
        (
            ("rsync", "-a", f"{source}/", "rsync"),
            (23, '-> "/etc/hostname" failed: Operation not permitted (1)'),
        ),
        (
            ("tar", "-xf", archive, "-C", "tar", "--no-same-owner"),
            (2, "tar: ./out: Cannot create symlink to"),
        ),
    ):
        code, text = said(mount.path, *command)
        assert (code, want[1] in text) == (want[0], True), text
    for copy in ("cp", "rsync", "tar"):
        assert sorted(os.listdir(mount.path / copy)) == ["d", "f"]
        assert (mount.path / copy / "d" / "in").read_text() == "f\n"
    assert said(mount.path, "rsync", "-a", "--no-links", f"{source}/", "files") == (0, "")


def test_git_checks_out_links_within_the_repository(mount: Mount, source: Path) -> None:
    """One that leads out ends the checkout; without links at all, which git can do, they are small files."""
    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "1")):
        assert said(source, "git", *command) == (0, "")
    code, text = said(mount.path, "git", "clone", "-q", source, "clone")
    assert (code, "error: unable to create symlink out: Operation not permitted" in text) == (128, True)
    assert said(mount.path, "git", "clone", "-q", "-c", "core.symlinks=false", source, "plain") == (0, "")
    assert (mount.path / "plain" / "out").read_text() == "/etc/hostname"
    for name in ("out", "mid"):
        assert said(source, "git", "rm", "-q", name) == (0, "")
    assert said(source, "git", "commit", "-qm", "2") == (0, "")
    assert said(mount.path, "git", "clone", "-q", source, "good") == (0, "")
    assert os.readlink(mount.path / "good" / "d" / "in") == "../f"
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=mount.path / "good", capture_output=True, check=True
    )
    assert status.stdout == b""


@pytest.mark.parametrize("links", ["inside", "all"])
def test_a_python_environment_has_its_interpreter(make_mount: MakeMount, minio: Server, links: str) -> None:
    """Its link leads out: venv copies the interpreter instead and says so; with --links=all it links."""
    mount = make_mount(minio, None, f"--links={links}")
    code, text = said(mount.path, sys.executable, "-m", "venv", "--without-pip", "v")
    assert (code, "Unable to symlink" in text) == (0, links == "inside")
    python = mount.path / "v" / "bin" / "python"
    assert said(mount.path, python, "-c", f"import sys; assert sys.prefix == {str(mount.path / 'v')!r}") == (
        0,
        "",
    )
    (real,) = (path for path in python.parent.iterdir() if os.path.realpath(python).endswith(path.name))
    assert real.is_symlink() == (links == "all")


def test_with_links_all_everything_is_as_on_a_disk(
    make_mount: MakeMount, minio: Server, source: Path
) -> None:
    """cp, rsync and tar keep every link, to and fro, and say nothing."""
    mount = make_mount(minio, None, "--links=all")
    assert said(mount.path, "cp", "-a", source, "cp") == (0, "")
    assert said(mount.path, "rsync", "-a", f"{source}/", "rsync") == (0, "")
    mount.remount()
    for copy in ("cp", "rsync"):
        for name in ("d/in", "out", "mid"):
            assert os.readlink(mount.path / copy / name) == os.readlink(source / name)
    assert (mount.path / "cp" / "out").read_bytes() == Path("/etc/hostname").read_bytes()


def test_a_link_that_is_moved_leads_where_it_leads_now(place: Workplace) -> None:
    """The kernel asks again: `../f` can be followed from a directory, from the mount's root it cannot."""
    place.shell("echo text > f; mkdir -p d/e; ln -s ../f d/link; ln -s ../../f d/e/link")
    assert place.run("cat", "d/link", "d/e/link") == "text\ntext\n"
    root = place.mount.path
    (place.path / "d" / "link").rename(root / "link-of-a-test")
    with pytest.raises(PermissionError):
        os.readlink(root / "link-of-a-test")
    (root / "link-of-a-test").rename(place.path / "d" / "link")
    (place.path / "d" / "e").rename(root / "directory-of-a-test")
    with pytest.raises(PermissionError):
        (root / "directory-of-a-test" / "link").read_text()
    (root / "directory-of-a-test").rename(place.path / "d" / "e")
    assert place.run("cat", "d/link", "d/e/link") == "text\ntext\n"
