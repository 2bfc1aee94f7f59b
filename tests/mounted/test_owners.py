"""What programs that keep owners say and leave, where owners are the mount's and where they are the bucket's.

What is said here is in docs/semantics.md.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.cli.command import s3mount
from tests.mounted.conftest import MakeMount
from tests.security.others import NOBODY, as_other, let_others_to
from tests.support.counted_mount import PATIENT, counted_mount
from tests.support.mounting import Mount
from tests.support.servers import Server

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files to other users")

OTHER = (1001, 1002)
TIME_S = 1_400_000_000


class Source:
    """A tree on a local disk that is another user's, and an archive of it."""

    def __init__(self, base: Path) -> None:
        self.tree = base / "source"
        self.tar = base / "source.tar"
        (self.tree / "d").mkdir(parents=True)
        for name in ("f", "d/x"):
            (self.tree / name).write_text(f"{name}\n")
            (self.tree / name).chmod(0o664)
        for path in (self.tree / "d" / "x", self.tree / "d", self.tree / "f", self.tree):
            os.chown(path, *OTHER)
            os.utime(path, (TIME_S, TIME_S))
        subprocess.run(["tar", "cf", self.tar, "-C", self.tree, "."], check=True)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Another user's tree."""
    return Source(tmp_path)


@pytest.fixture
def mount(make_mount: MakeMount, minio: Server) -> Mount:
    """A mount with the default: its own owner."""
    return make_mount(minio)


@pytest.fixture
def sharing(make_mount: MakeMount, minio: Server) -> Mount:
    """A mount that shows and stores owners."""
    return make_mount(minio, None, "--owners=bucket")


def said(mount: Mount, *command: str | Path) -> tuple[int, str]:
    """Run *command* in the mount; return its exit code and what it complained of."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=mount.path,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


def looks(path: Path) -> tuple[int, int, int, bool]:
    """Return owner, group and mode, and whether it has the time of what it was copied from."""
    found = path.lstat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), found.st_mtime == TIME_S


def test_cp_p_says_so_and_keeps_the_bytes_and_the_time(mount: Mount, source: Source) -> None:
    """As on a file system without owners: exit code 1, and the mode is the careful one of a beginning."""
    code, text = said(mount, "cp", "-p", source.tree / "f", "f")
    assert (code, text) == (1, "cp: failed to preserve ownership for 'f': Operation not permitted\n")
    assert (mount.path / "f").read_text() == "f\n"
    assert looks(mount.path / "f") == (0, 0, 0o600, True)
    assert said(mount, "cp", "--preserve=mode,timestamps", source.tree / "f", "g") == (0, "")
    assert looks(mount.path / "g") == (0, 0, 0o664, True)


def test_mv_from_a_disk_complains_and_succeeds(mount: Mount, source: Source) -> None:
    """Everything but the owner arrives, the exit code is 0, and the source is gone."""
    code, text = said(mount, "mv", source.tree / "d", "d")
    assert (code, text.count("failed to preserve ownership")) == (0, 2)
    assert looks(mount.path / "d" / "x") == (0, 0, 0o664, True)
    assert (mount.path / "d" / "x").read_text() == "d/x\n"
    assert not (source.tree / "d").exists()


def test_rsync_a_as_root_needs_to_be_told(mount: Mount, source: Source) -> None:
    """With -o and -g it ends with 23 and gives up modes and times as well; without them it is clean."""
    code, text = said(mount, "rsync", "-a", f"{source.tree}/", "r")
    assert code == 23
    assert "chown" in text
    assert "Operation not permitted (1)" in text
    assert (mount.path / "r" / "f").read_text() == "f\n"
    assert looks(mount.path / "r" / "f") == (0, 0, 0o600, False)
    quiet = ("rsync", "-a", "--no-o", "--no-g", "--itemize-changes", f"{source.tree}/", "r")
    assert said(mount, *quiet) == (0, "")
    assert looks(mount.path / "r" / "f") == (0, 0, 0o664, True)
    again = subprocess.run(quiet, cwd=mount.path, capture_output=True, text=True, timeout=60, check=True)
    assert again.stdout == ""


def test_tar_x_as_root_needs_to_be_told(mount: Mount, source: Source) -> None:
    """It ends with 2, with everything there but the owners; with --no-same-owner it is clean."""
    for directory, options, want in (("a", (), 2), ("b", ("--no-same-owner",), 0)):
        (mount.path / directory).mkdir()
        code, text = said(mount, "tar", "-xf", source.tar, "-C", directory, *options)
        assert code == want
        assert ("Cannot change ownership to uid 1001" in text) == bool(want)
        assert looks(mount.path / directory / "f")[:2] == (0, 0)
        assert (mount.path / directory / "d" / "x").read_text() == "d/x\n"


def test_install_with_an_owner_is_refused(mount: Mount, source: Source) -> None:
    """-o and -g fail with a message; without them install(1) works."""
    assert said(mount, "install", "-m", "750", source.tree / "f", "f") == (0, "")
    assert looks(mount.path / "f")[:3] == (0, 0, 0o750)
    code, text = said(mount, "install", "-o", "1001", source.tree / "f", "g")
    assert (code, "cannot change ownership" in text) == (1, True)


def test_explain_says_what_to_do_about_a_refused_chown(mount: Mount) -> None:
    """It names the option; nothing else is lost by the refusal."""
    (mount.path / "f").write_text("text")
    for owner in ((1001, -1), (-1, 1002), (0, 1002)):
        with pytest.raises(PermissionError):
            os.chown(mount.path / "f", *owner)
    text = s3mount("explain", mount.path / "f").stdout
    assert "setattr /f: EPERM, 3 times" in text
    assert "--owners=bucket shows and stores owners" in text
    assert (mount.path / "f").read_text() == "text"


def test_chown_to_who_it_is_already_costs_no_request(minio: Server, tmp_path: Path) -> None:
    """sed -i and editors do so after each rewrite; chmod is one copy all the same."""
    with counted_mount(minio, tmp_path / "m", *PATIENT) as counted:
        counted.shell("echo x > f; mkdir d")
        assert counted.spent(lambda: counted.run("chown", "-R", "0:0", ".")) == Counter()
        assert counted.spent(lambda: counted.run("chmod", "600", "f")) == {"CopyObject": 1}


def test_with_owners_of_the_bucket_copies_keep_them(sharing: Mount, source: Source) -> None:
    """cp, mv, rsync and tar end with 0 and say nothing; another mount of the bucket shows the same."""
    assert said(sharing, "cp", "-a", source.tree, "cp") == (0, "")
    assert said(sharing, "rsync", "-a", f"{source.tree}/", "rsync") == (0, "")
    (sharing.path / "tar").mkdir()
    assert said(sharing, "tar", "-xf", source.tar, "-C", "tar") == (0, "")
    assert said(sharing, "mv", source.tree, "mv") == (0, "")
    for _ in range(2):
        for copy in ("cp", "rsync", "tar", "mv"):
            for name, mode in (("f", 0o664), ("d/x", 0o664), ("d", 0o755)):
                assert looks(sharing.path / copy / name) == (*OTHER, mode, True), (copy, name)
        sharing.remount()


@pytest.mark.parametrize("owners", ["mount", "bucket"])
def test_an_ordinary_users_own_mount(
    make_mount: MakeMount, minio: Server, tmp_path: Path, owners: str
) -> None:
    """Copies of the user's own files, an archive of another's, editing in place: all as on a disk."""
    source = Source(tmp_path)
    for path in (source.tree, *source.tree.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    who = ("--allow-other", f"--uid={NOBODY}", f"--gid={NOBODY}", f"--owners={owners}")
    mount = make_mount(minio, None, *who)
    let_others_to(mount.path / "f")
    script = f"""
        set -eu
        cd {mount.path}
        cp -a {source.tree} cp
        rsync -a {source.tree}/ rsync
        rsync -ai {source.tree}/ rsync
        mkdir tar
        tar -xf {source.tar} -C tar
        git init -q repository
        install -m 640 cp/f installed
        sed -i s/f/g/ cp/f
        chown {NOBODY}:{NOBODY} cp/f
        mv {mount.path}/rsync/f moved
    """
    done = as_other("sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {path.lstat().st_uid for path in mount.path.rglob("*")} == {NOBODY}
    refused = as_other("chown", "0", mount.path / "moved")
    assert "Operation not permitted" in refused.stderr


def test_users_who_share_a_mount_need_owners_of_the_bucket(make_mount: MakeMount, minio: Server) -> None:
    """Else what one of them makes is the mount's owner's, and the kernel keeps its maker out of it."""
    for owners, outcome in (("bucket", "done\n"), ("mount", "")):
        mount = make_mount(minio, None, "--allow-other", "--dir-mode=0777", f"--owners={owners}")
        let_others_to(mount.path / "f")
        made = as_other("sh", "-c", f"cd {mount.path} && mkdir d && echo x > f")
        assert (made.returncode, made.stderr) == (0, "")
        used = as_other(
            "sh", "-c", f"cd {mount.path} && echo y >> f && touch d/f && chmod 600 f && echo done"
        )
        assert used.stdout == outcome
        assert (mount.path / "f").stat().st_uid == (NOBODY if owners == "bucket" else 0)
