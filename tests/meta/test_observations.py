"""What the store says, laid over what is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from s3mount.core.keys import Location
from s3mount.core.objects import ObjectHeaders, ObjectStat
from s3mount.meta.inodes import DirectoryNode, FileNode, InodeTable
from s3mount.meta.observations import (
    has_local_files,
    observe_absence,
    observe_directory,
    observe_file,
    observe_marker,
)
from tests.support.names import check

SECOND = 1_000_000_000
FIRST = ObjectStat("a", 10, '"one"', 1000 * SECOND)
SECOND_VERSION = ObjectStat("a", 20, '"two"', 2000 * SECOND)
WITH_MODE = ObjectHeaders(metadata={"mode": "33152"})


@pytest.fixture
def table() -> InodeTable:
    """An empty table."""
    return InodeTable(Location(""))


def seen(table: InodeTable, stat: ObjectStat = FIRST) -> FileNode:
    """The node of ``a`` after *stat* was observed."""
    return observe_file(table, table.root, b"a", stat)


def test_a_new_object_gets_a_node(table: InodeTable) -> None:
    """With its size and times; attributes are unknown until an answer carries headers."""
    node = seen(table)
    assert (node.size, node.mtime_ns, node.attributes) == (10, 1000 * SECOND, None)
    node = seen(table, replace(FIRST, headers=WITH_MODE))
    assert node.attributes is not None and node.attributes.mode == 0o600
    check(table)


def test_a_closed_file_keeps_its_inode_over_versions(table: InodeTable) -> None:
    """Nobody has it open, so the same inode shows the new version; old attributes are not believed."""
    node = seen(table, replace(FIRST, headers=WITH_MODE))
    assert seen(table, SECOND_VERSION) is node
    assert (node.size, node.mtime_ns, node.attributes) == (20, 2000 * SECOND, None)


def test_an_open_file_gives_its_name_to_another_inode(table: InodeTable) -> None:
    """Its pages and its size stay those of the version that is open."""
    node = seen(table)
    node.pins = 1
    new = seen(table, SECOND_VERSION)
    assert new is not node
    assert (node.size, new.size) == (10, 20)
    assert table.root.children == {b"a": new}
    check(table)


def test_an_open_file_whose_metadata_changed_keeps_its_inode(table: InodeTable) -> None:
    """The bytes are the same: chmod elsewhere closes nobody's file."""
    node = seen(table, replace(FIRST, headers=ObjectHeaders()))
    node.pins = 1
    changed = replace(FIRST, last_modified_ns=1500 * SECOND, headers=WITH_MODE)
    assert seen(table, changed) is node
    assert node.attributes is not None and node.attributes.mode == 0o600


def test_headers_outlive_a_listing_without_them(table: InodeTable) -> None:
    """The next upload must carry the content type along, though a plain LIST came between."""
    node = seen(table, replace(FIRST, headers=WITH_MODE))
    seen(table)
    assert node.stat is not None and node.stat.headers == WITH_MODE
    assert node.attributes is not None and node.attributes.mode == 0o600


def test_a_file_that_is_being_changed_here_is_left_alone(table: InodeTable) -> None:
    """What the store has is older than what is in the spool."""
    node = seen(table)
    node.is_local, node.size = True, 99
    assert seen(table, SECOND_VERSION) is node
    assert node.size == 99
    assert node.stat == FIRST
    assert observe_directory(table, table.root, b"a", Location("a/")) is node
    observe_absence(table, table.root, b"a")
    assert table.root.children == {b"a": node}


def test_the_time_of_our_own_write_is_taken_over(table: InodeTable) -> None:
    """The answer to a PUT has no Last-Modified; the first listing brings it, and nothing else changes."""
    node = seen(table, replace(FIRST, headers=WITH_MODE))
    node.is_own, node.mtime_ns = True, 1234
    later = replace(FIRST, last_modified_ns=1001 * SECOND)
    assert seen(table, later) is node
    assert node.stat is not None and node.stat.last_modified_ns == 1001 * SECOND
    assert node.mtime_ns == 1234
    assert not node.is_own


def test_kinds_replace_each_other(table: InodeTable) -> None:
    """A file becomes a directory and a file again, each time with another inode."""
    file = seen(table)
    directory = observe_directory(table, table.root, b"a", Location("a/"))
    assert isinstance(directory, DirectoryNode)
    assert not file.is_linked
    again = seen(table)
    assert isinstance(again, FileNode)
    assert not directory.is_linked
    check(table)
    assert len(table) == 2


def test_a_known_directory_stays_itself(table: InodeTable) -> None:
    """Its entries with it."""
    directory = observe_directory(table, table.root, b"d", Location("d/"))
    assert isinstance(directory, DirectoryNode)
    child = observe_file(table, directory, b"x", replace(FIRST, key="d/x"))
    assert observe_directory(table, table.root, b"d", Location("d/")) is directory
    assert directory.children == {b"x": child}


def test_a_directory_that_is_gone_takes_what_is_known_of_it_along(table: InodeTable) -> None:
    """Nothing below it stays in memory, save what the kernel holds or the spool has."""
    directory = observe_directory(table, table.root, b"d", Location("d/"))
    assert isinstance(directory, DirectoryNode)
    for number in range(10):
        observe_file(table, directory, str(number).encode(), replace(FIRST, key=f"d/{number}"))
    held = directory.children[b"3"]
    held.lookup_count = 1
    observe_absence(table, table.root, b"d")
    assert {node.inode for node in table.nodes()} == {table.root.inode, held.inode}
    check(table)
    table.forget(held.inode, 1)
    assert len(table) == 1


def test_a_directory_with_unsent_files_is_not_gone(table: InodeTable) -> None:
    """However deep they lie."""
    upper = table.new_directory(table.root, b"d", Location("d/"))
    lower = table.new_directory(upper, b"e", Location("d/e/"))
    node = table.new_file(lower, b"f", "d/e/f")
    assert not has_local_files(upper)
    node.is_local = True
    assert has_local_files(upper)
    observe_absence(table, table.root, b"d")
    assert table.root.children == {b"d": upper}


def test_a_marker_brings_a_directorys_attributes(table: InodeTable) -> None:
    """A stored time holds, and the newest of marker and entries shows."""
    directory = table.new_directory(table.root, b"d", Location("d/"))
    directory.mtime_ns = 5
    headers = ObjectHeaders(metadata={"mode": "16832", "mtime": "1.000000002"})
    observe_marker(directory, replace(FIRST, key="d/", size=0, headers=headers))
    assert directory.has_marker is True
    assert directory.attributes is not None and directory.attributes.mode == 0o700
    assert directory.mtime_ns == SECOND + 2
    observe_marker(directory, None)
    assert directory.has_marker is False
    assert directory.attributes.mode == 0o700
