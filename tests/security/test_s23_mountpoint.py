"""S-23: root mounts on the directory that was looked at, and on none that others can swap."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s3mount.errors import StartupError
from s3mount.mounter.mountpoint import open_mountpoint


def test_s23_what_is_opened_stays_what_was_looked_at(tmp_path: Path) -> None:
    """Put in its place afterwards, another directory is not the one that is mounted on."""
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    inode = mountpoint.stat().st_ino
    descriptor = open_mountpoint(str(mountpoint))
    try:
        mountpoint.rename(tmp_path / "away")
        mountpoint.symlink_to("/etc")
        assert os.stat(f"/proc/self/fd/{descriptor}").st_ino == inode
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("where", ["mnt", ""])
def test_s23_a_link_that_was_put_there_is_not_followed(tmp_path: Path, where: str) -> None:
    """Neither in the place of the mountpoint nor on the way to it."""
    real, link = tmp_path / "real", tmp_path / "link"
    (real / "mnt").mkdir(parents=True)
    if where:
        link.mkdir()
        (link / "mnt").symlink_to(real / "mnt")
    else:
        link.symlink_to(real)
    with pytest.raises(StartupError, match="has become a symbolic link"):
        open_mountpoint(str(link / "mnt"))


@pytest.mark.parametrize("where", [".", "above"])
def test_s23_a_directory_that_everybody_can_write_to_is_refused(tmp_path: Path, where: str) -> None:
    """Whoever can rename it decides what root mounts on; a sticky directory protects what is in it."""
    above = tmp_path / "above"
    mountpoint = above / "mnt"
    mountpoint.mkdir(parents=True)
    open_to_all = mountpoint if where == "." else above
    open_to_all.chmod(0o777)
    with pytest.raises(StartupError, match="everybody can write to") as caught:
        open_mountpoint(str(mountpoint))
    assert caught.value.advice == f"chmod o-w {open_to_all}"
    open_to_all.chmod(0o1777)
    os.close(open_mountpoint(str(mountpoint)))


def test_s23_what_is_missing_or_a_file_is_said(tmp_path: Path) -> None:
    """As before a mount, should it have changed since."""
    with pytest.raises(StartupError, match="does not exist"):
        open_mountpoint(str(tmp_path / "mnt"))
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match="cannot be opened"):
        open_mountpoint(str(tmp_path / "file"))
