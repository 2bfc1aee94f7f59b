"""How editors save: in place, with backups, or through a temporary file that takes the name over."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.support.workplace import Workplace

OLD = b"one\ntwo\nthree\n"
NEW = b"one\nchanged\nthree\n"
VIM = ("vim", "-es", "-u", "NONE", "-i", "NONE")


@pytest.mark.parametrize(
    "settings",
    [
        "nobackup nowritebackup",
        "nobackup writebackup backupcopy=yes",
        "nobackup writebackup backupcopy=no",
        "nobackup writebackup backupcopy=auto fsync",
        "backup backupcopy=no",
    ],
)
def test_vim_saves(place: Workplace, settings: str) -> None:
    """`:wq` of vim changes the object, keeps its mode and leaves only the backup that was asked for."""
    place.bucket.put(place.key("notes.txt"), OLD)
    place.shell("chmod 640 notes.txt")
    # By default vim makes no backups of files below /tmp.
    commands = ["set backupskip=", f"set {settings}", "%s/two/changed/", "wq"]
    place.run(*VIM, "notes.txt", *(part for command in commands for part in ("-c", command)))
    assert place.bucket.get(place.key("notes.txt")) == NEW
    assert place.run("stat", "-c", "%a", "notes.txt") == "640\n"
    backup = ["notes.txt~"] if settings.startswith("backup ") else []
    assert place.below() == ["notes.txt", *backup]
    if backup:
        assert place.bucket.get(place.key("notes.txt~")) == OLD


def test_vim_keeps_its_swap_file_beside_the_file(place: Workplace) -> None:
    """vim with a swap file on the mount edits, saves and takes the swap file away again."""
    place.bucket.put(place.key("notes.txt"), OLD)
    commands = ["set swapfile updatecount=1", "edit notes.txt", "%s/two/changed/", "preserve", "wq"]
    place.run(*VIM, *(part for command in commands for part in ("-c", command)))
    assert place.bucket.get(place.key("notes.txt")) == NEW
    assert place.below() == ["notes.txt"]


def save_like_glib(path: Path, data: bytes, *, fsync: bool) -> None:
    """What g_file_set_contents does: a temporary file beside *path* that takes its name over."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if fsync:
            os.fsync(file.fileno())
    os.rename(temporary, path)


@pytest.mark.parametrize("fsync", [False, True], ids=["without fsync", "with fsync"])
@pytest.mark.parametrize("exists", [False, True], ids=["new", "existing"])
def test_glib_saves(place: Workplace, fsync: bool, exists: bool) -> None:
    """Temporary file, then rename over the name: the bucket has the new bytes and nothing else."""
    path = place.path / "settings.ini"
    if exists:
        place.bucket.put(place.key("settings.ini"), OLD)
        assert path.read_bytes() == OLD
    save_like_glib(path, NEW, fsync=fsync)
    assert place.bucket.get(place.key("settings.ini")) == NEW
    assert place.below() == ["settings.ini"]
    assert path.read_bytes() == NEW
    save_like_glib(path, OLD, fsync=fsync)
    assert path.read_bytes() == OLD
    place.mount.remount()
    assert path.read_bytes() == OLD


def test_rename_before_close(place: Workplace) -> None:
    """A file that is renamed while it is still open and unsent ends up under the new name only."""
    place.bucket.put(place.key("target"), OLD)
    with open(place.path / "temporary", "wb") as file:
        file.write(NEW[:5])
        file.flush()
        os.rename(place.path / "temporary", place.path / "target")
        file.write(NEW[5:])
    assert place.bucket.get(place.key("target")) == NEW
    assert place.below() == ["target"]


def test_a_reader_of_the_old_version_goes_on(place: Workplace) -> None:
    """Who has the file open while it is saved over reads the old bytes to the end; a new open the new."""
    place.bucket.put(place.key("f"), OLD)
    with open(place.path / "f", "rb", buffering=0) as old:
        assert old.read(4) == OLD[:4]
        save_like_glib(place.path / "f", NEW, fsync=False)
        assert old.read() == OLD[4:]
        assert (place.path / "f").read_bytes() == NEW
