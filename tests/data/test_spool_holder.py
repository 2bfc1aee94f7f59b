"""Who has a spool directory: one mount, and whoever comes second is told which."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from s3mount.core.exits import Exit
from s3mount.data.spool import SpoolDir
from s3mount.data.spool_holder import HOLDER_NAME, Holder, holder_of
from s3mount.errors import StartupError
from tests.data.spools import ROOT, die_with, spool_at

MOUNT = """
import sys, os
from s3mount.data.spool import SpoolDir
spool = SpoolDir(sys.argv[1], cap_bytes=None, free_floor_bytes=0, mountpoint=sys.argv[2], source=sys.argv[3])
print("mounted", flush=True)
sys.stdin.read()
"""


@contextmanager
def other_mount(path: Path, mountpoint: str, source: str) -> Iterator[int]:
    """Let another process have the directory; give its id."""
    with subprocess.Popen(
        [sys.executable, "-c", MOUNT, str(path), mountpoint, source],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "mounted\n"
        yield process.pid
        process.communicate()
    assert process.returncode == 0


def refusal(path: Path) -> str:
    """Return why the directory cannot be had."""
    with pytest.raises(StartupError) as caught:
        SpoolDir(str(path), cap_bytes=None, free_floor_bytes=0, mountpoint="/mnt/mine", source="mine")
    assert caught.value.exit_code == Exit.CACHE_DIR
    return caught.value.cause


def test_the_second_mount_is_told_which_is_the_first(tmp_path: Path) -> None:
    """By mountpoint, source and process; its refusal does not change what a third one is told."""
    path = tmp_path / "spool"
    with other_mount(path, "/mnt/photos", "s3://bucket/photos") as pid:
        expected = f"is in use by the mount of s3://bucket/photos at /mnt/photos (process {pid})"
        assert refusal(path) == expected
        assert refusal(path) == expected
    with spool_at(path):
        pass


def test_a_mount_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    """Its name is still in the file, and the next mount has the directory all the same."""
    path = tmp_path / "spool"
    die_with(path, "pass")
    left = holder_of(str(path))
    assert left is not None
    assert left.mountpoint == "/mnt/x"
    with spool_at(path, mountpoint="/mnt/new", source="new"):
        assert holder_of(str(path)) == Holder(os.getpid(), "/mnt/new", "new")
        assert refusal(path) == f"is in use by the mount of new at /mnt/new (process {os.getpid()})"


@pytest.mark.parametrize("left", ["", "{", "[]", '{"pid": "x"}', "dead"])
def test_a_name_that_cannot_be_true_is_not_told(tmp_path: Path, left: str) -> None:
    """Cut off, damaged, or of a process that is no more: the refusal says only that there is another."""
    path = tmp_path / "spool"
    if left == "dead":
        with subprocess.Popen(["true"]) as process:
            process.wait()
        left = json.dumps({"pid": process.pid, "mountpoint": "/mnt/old", "source": "old"})
    with spool_at(path):
        (path / HOLDER_NAME).write_text(left)
        assert refusal(path) == "is in use by another mount"


def test_a_command_holds_the_directory_as_a_process(tmp_path: Path) -> None:
    """It has no mountpoint to be named by."""
    path = tmp_path / "spool"
    with other_mount(path, "", "") as pid:
        assert refusal(path) == f"is in use by process {pid}"
