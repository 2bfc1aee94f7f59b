"""What mount(8), umount(8) and mount.fuse(8) call s3mount with becomes its own commands."""

from __future__ import annotations

import pytest

from s3mount.cli.mount8 import Call, call_of, with_name
from s3mount.core.exits import Exit
from s3mount.errors import StartupError


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            ["/sbin/mount.s3mount", "b/p", "/mnt", "-o", "rw,ttl=1m"],
            ["mount", "-o", "rw,ttl=1m,fsname=b/p", "--", "b/p", "/mnt"],
        ),
        (
            ["/sbin/mount.s3mount", "s3://b", "/mnt", "-sfnv", "-o", "ro", "-t", "fuse.s3mount"],
            ["mount", "-o", "ro,fsname=s3://b", "--", "s3://b", "/mnt"],
        ),
        (["mount.fuse.s3mount", "b", "/mnt", "-r"], ["mount", "-o", "ro,fsname=b", "--", "b", "/mnt"]),
        (["/usr/bin/s3mount", "b", "/mnt", "-o", "rw"], ["mount", "-o", "rw,fsname=b", "--", "b", "/mnt"]),
        (["/sbin/umount.s3mount", "/mnt"], ["umount", "--", "/mnt"]),
        (
            ["/sbin/umount.fuse.s3mount", "/mnt", "-l", "-t", "fuse.s3mount"],
            ["umount", "--lazy", "--", "/mnt"],
        ),
    ],
)
def test_a_helper_s_arguments_become_a_command(argv: list[str], words: list[str]) -> None:
    """Whatever the name it is called by."""
    call = call_of(argv)
    assert call.words == words
    assert call.is_helper


def test_what_a_user_types_is_left_alone() -> None:
    """Also where it begins like what mount.fuse(8) passes."""
    for words in (["mount", "b", "/mnt"], ["umount", "/mnt"], ["mount", "-o", "ro", "b", "/mnt"], []):
        assert call_of(["/usr/bin/s3mount", *words]) == Call(words)


def test_fake_does_everything_but_mount() -> None:
    """mount -f."""
    assert call_of(["mount.s3mount", "b", "/mnt", "-f"]).is_fake
    assert not call_of(["mount.s3mount", "b", "/mnt"]).is_fake


@pytest.mark.parametrize(
    "argv",
    [
        ["mount.s3mount"],
        ["mount.s3mount", "b"],
        ["mount.s3mount", "b", "/mnt", "more"],
        ["mount.s3mount", "b", "/mnt", "-x"],
        ["mount.s3mount", "b", "/mnt", "-o"],
        ["mount.s3mount", "b", "/mnt", "-N", "/proc/1/ns/mnt"],
        ["umount.s3mount"],
        ["umount.s3mount", "/mnt", "-N", "1"],
        ["umount.s3mount", "/mnt", "-x"],
        ["umount.s3mount", "/mnt", "-o", "ro"],
        ["umount.s3mount", "/mnt", "-t"],
    ],
)
def test_what_no_mount_8_passes_is_refused(argv: list[str]) -> None:
    """With mount(8)'s number for a wrong use."""
    with pytest.raises(StartupError) as caught:
        call_of(argv)
    assert caught.value.thing == argv[0]
    assert Call([], is_helper=True).exit_code(caught.value.exit_code) == 1


def test_the_name_in_the_mount_table_is_what_fstab_says() -> None:
    """`mount -a` finds by it that a line is mounted already; who gives one has his own."""
    assert with_name("", "b/p") == "fsname=b/p"
    assert with_name("ro", "b,c") == r"ro,fsname=b\,c"
    assert with_name("ro,fsname=x", "b") == "ro,fsname=x"


def test_failures_have_the_numbers_of_mount_8() -> None:
    """1 for a wrong use, 32 for every other, and a user's command keeps its own."""
    helper = Call([], is_helper=True)
    assert [helper.exit_code(code) for code in (Exit.OK, Exit.USAGE, Exit.NO_SUCH_BUCKET)] == [0, 1, 32]
    assert Call([]).exit_code(Exit.NO_SUCH_BUCKET) == Exit.NO_SUCH_BUCKET
