"""The mount table, and resolving a path without touching what is mounted at it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s3mount.cli.mount_table import MountEntry, mounted_at, resolve
from tests.cli import bare_fuse

TABLE = r"""
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/root rw,discard
40 22 0:35 / /mnt/a\040b\134c rw,nosuid,nodev,relatime shared:9 master:2 - fuse.s3mount s3://b/\040x/ rw,user_id=1000,group_id=100
41 22 0:36 / /mnt/twice rw - fuse.s3mount s3://first/ rw,user_id=1,group_id=1
42 22 0:37 / /mnt/twice rw - tmpfs none rw
nonsense
""".lstrip()  # noqa: E501


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A mountinfo file."""
    path = tmp_path / "mountinfo"
    path.write_text(TABLE)
    return path


def test_names_with_blanks_and_backslashes_are_read_as_they_are(table: Path) -> None:
    """The kernel writes them in octal."""
    expected = MountEntry(r"/mnt/a b\c", "fuse.s3mount", "s3://b/ x/", 1000)
    assert mounted_at(r"/mnt/a b\c", table) == expected


def test_the_topmost_of_several_mounts_counts(table: Path) -> None:
    """It is the one that would be unmounted."""
    assert mounted_at("/mnt/twice", table) == MountEntry("/mnt/twice", "tmpfs", "none", None)


def test_nothing_mounted(table: Path) -> None:
    """A directory below a mount is not a mount."""
    assert mounted_at("/mnt", table) is None
    assert mounted_at("/mnt/twice/below", table) is None


def test_the_real_table_is_understood() -> None:
    """Whatever else is mounted on this machine."""
    entry = mounted_at("/proc")
    assert entry is not None
    assert entry.fs_type == "proc"


def test_links_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative ones, in the middle and at the end, and chains of them."""
    real = tmp_path.resolve() / "real"
    (real / "dir").mkdir(parents=True)
    (tmp_path / "one").symlink_to("real")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    monkeypatch.chdir(tmp_path)
    assert resolve("two/dir") == str(real / "dir")
    assert resolve("two") == str(real)
    assert resolve("two/absent") == str(real / "absent")
    assert resolve("real/dir/../dir/") == str(real / "dir")
    assert resolve("/") == "/"


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/fuse").exists(), reason="needs root and /dev/fuse")
def test_a_mount_that_never_answers_is_resolved_without_asking_it(tmp_path: Path) -> None:
    """Through a link to it as well; the test would hang otherwise."""
    mountpoint = tmp_path.resolve() / "hung"
    mountpoint.mkdir()
    (tmp_path / "link").symlink_to("hung")
    descriptor = bare_fuse.mount(str(mountpoint))
    try:
        assert resolve(str(mountpoint)) == str(mountpoint)
        assert resolve(str(tmp_path / "link")) == str(mountpoint)
    finally:
        os.close(descriptor)
        bare_fuse.unmount(mountpoint)
