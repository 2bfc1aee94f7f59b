"""``s3mount install``: links and files where mount(8) and systemd look, and away again."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3mount.cli.install import Item, items_of, program
from tests.cli.command import Outcome, s3mount

HELPERS = ("mount.s3mount", "mount.fuse.s3mount", "umount.s3mount", "umount.fuse.s3mount")


def install(root: Path, *options: str) -> Outcome:
    """Run it with *root* in the place of /."""
    return s3mount("install", "--root", root, *options)


def found(root: Path) -> set[str]:
    """Return all files and links below *root*."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def test_it_puts_everything_in_place_once(tmp_path: Path) -> None:
    """It says each thing that it does; a second time there is nothing to do."""
    first = install(tmp_path)
    assert first.exit_code == 0, first.stderr
    assert {f"usr/sbin/{name}" for name in HELPERS} <= found(tmp_path)
    for manager in ("system", "user"):
        assert f"usr/local/lib/systemd/{manager}/s3mount@.service" in found(tmp_path)
    for name in found(tmp_path):
        assert f"installing {tmp_path / name}" in first.stdout
    assert (tmp_path / "usr/sbin/mount.s3mount").readlink() == program()
    assert install(tmp_path).stdout == "s3mount: nothing to do\n"


def test_a_dry_run_does_nothing(tmp_path: Path) -> None:
    """And says what it would do, in both directions."""
    outcome = install(tmp_path, "--dry-run")
    assert f"would install {tmp_path}/usr/sbin/mount.s3mount -> {program()}" in outcome.stdout
    assert found(tmp_path) == set()
    install(tmp_path)
    there = found(tmp_path)
    assert "would remove" in install(tmp_path, "--dry-run", "--uninstall").stdout
    assert found(tmp_path) == there


def test_uninstall_leaves_nothing_and_takes_nothing_that_is_not_ours(tmp_path: Path) -> None:
    """What somebody else has put there is named and stays."""
    install(tmp_path)
    theirs = tmp_path / "usr/sbin/mount.s3mount"
    theirs.unlink()
    theirs.write_text("#!/bin/sh\n")
    outcome = install(tmp_path, "--uninstall")
    assert outcome.exit_code == 0
    assert f"leaving {theirs}: it is not of s3mount" in outcome.stdout
    assert found(tmp_path) == {"usr/sbin/mount.s3mount"}


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    """Nothing of anybody's is replaced."""
    theirs = tmp_path / "usr/sbin/mount.s3mount"
    theirs.parent.mkdir(parents=True)
    theirs.symlink_to("/opt/other/thing")
    outcome = install(tmp_path)
    assert outcome.exit_code == 1
    assert outcome.line.startswith(f"{theirs}: it is there, and not of s3mount; ")
    assert theirs.readlink() == Path("/opt/other/thing")


def test_a_link_of_an_earlier_version_is_moved_to_this_one(tmp_path: Path) -> None:
    """As after a new virtual environment."""
    old = tmp_path / "usr/sbin/mount.s3mount"
    old.parent.mkdir(parents=True)
    old.symlink_to("/opt/old/bin/s3mount")
    assert install(tmp_path).exit_code == 0
    assert old.readlink() == program()


@pytest.mark.parametrize("place", ["/usr/bin/s3mount", "/usr/local/bin/s3mount"])
def test_a_program_in_its_usual_place_needs_no_link_to_itself(tmp_path: Path, place: str) -> None:
    """As a package installs it."""
    items: list[Item] = list(items_of(tmp_path, Path(place), Path("/usr")))
    assert tmp_path / "usr/local/bin/s3mount" not in {item.target for item in items}
