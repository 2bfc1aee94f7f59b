"""Inode numbers, lookup counts, and what is forgotten when."""

from __future__ import annotations

import random
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from s3mount.core.keys import Location
from s3mount.errors import NotFound
from s3mount.meta.inodes import ROOT_INODE, DirectoryNode, InodeTable, Node
from tests.support.names import Names, check, run

TREE = ("a/1", "a/2", "a/b/3", "a/b/c/4", "d/", "e", "f/g")


def new_table() -> InodeTable:
    """An empty table."""
    return InodeTable(Location(""))


def test_numbers_are_those_of_the_key() -> None:
    """git and rsync compare inode numbers: a forgotten name comes back with its own, also after a remount."""
    one, other = new_table(), new_table()
    first = one.new_file(one.root, b"a", "a")
    number = first.inode
    first.lookup_count = 1
    one.forget(number, 1)
    assert one.get(number) is None
    assert one.new_file(one.root, b"a", "a").inode == number
    other.new_file(other.root, b"b", "b")
    assert other.new_file(other.root, b"a", "a").inode == number


def test_files_and_directories_of_one_name_have_different_numbers() -> None:
    """A name that changes its kind changes its inode, or the kernel would keep the old kind."""
    table = new_table()
    file = table.new_file(table.root, b"a", "a")
    file.lookup_count = 1
    assert table.new_directory(table.root, b"a", Location("a/")).inode != file.inode
    assert table.get(file.inode) is file


def test_a_number_that_is_taken_gives_way() -> None:
    """A replaced file that is still open keeps its number, so the new one gets another."""
    table = new_table()
    old = table.new_file(table.root, b"a", "a")
    old.pins = 1
    new = table.new_file(table.root, b"a", "a")
    assert new.inode != old.inode
    assert (table.get(old.inode), table.get(new.inode)) == (old, new)
    table.unpin(old)
    assert table.get(old.inode) is None
    check(table)


def test_numbers_fit_a_signed_integer() -> None:
    """Old programs keep them in one."""
    table = new_table()
    for n in range(1000):
        assert ROOT_INODE < table.new_file(table.root, str(n).encode(), str(n)).inode < 2**63


def test_an_unlinked_file_lives_for_those_who_hold_it() -> None:
    """It goes with the last of lookup count and pins, in either order."""
    for forget_first in (True, False):
        table = new_table()
        node = table.new_file(table.root, b"a", "a")
        node.lookup_count, node.pins = 2, 1
        table.unlink(node)
        assert not node.is_linked
        for forget in (forget_first, not forget_first):
            assert table.get(node.inode) is node
            if forget:
                table.forget(node.inode, 2)
            else:
                table.unpin(node)
        assert table.get(node.inode) is None
        assert len(table) == 1


def test_what_is_only_here_is_not_forgotten() -> None:
    """A file whose bytes only the spool has keeps its name though the kernel forgets it."""
    table = new_table()
    node = table.new_file(table.root, b"a", "a")
    node.lookup_count, node.is_local = 1, True
    table.forget(node.inode, 1)
    assert table.root.children == {b"a": node}
    assert table.get(node.inode) is node


def test_a_directory_is_not_forgotten_before_its_entries() -> None:
    """The kernel may forget a directory first; the entries still need their way up."""
    table = new_table()
    parent = table.new_directory(table.root, b"a", Location("a/"))
    child = table.new_file(parent, b"b", "a/b")
    parent.lookup_count = child.lookup_count = 1
    table.forget(parent.inode, 1)
    assert child.path() == "/a/b"
    assert table.get(parent.inode) is parent
    table.forget(child.inode, 1)
    assert parent.children == {}
    assert table.drop_cached(table.root) == 1
    assert len(table) == 1


def test_entries_of_a_directory_that_is_read_are_kept() -> None:
    """A FORGET while a listing or a look-up goes on must not make an entry look gone."""
    table = new_table()
    node = table.new_file(table.root, b"a", "a")
    for attribute in ("pins", "listings"):
        node.lookup_count = 1
        setattr(table.root, attribute, 1)
        table.forget(node.inode, 1)
        assert table.root.children == {b"a": node}
        setattr(table.root, attribute, 0)
    assert table.drop_cached(table.root) == 1


def test_forgetting_ends_the_belief_that_all_entries_are_known() -> None:
    """A cached listing that lost an entry is no whole listing any more."""
    table = new_table()
    node = table.new_file(table.root, b"a", "a")
    node.lookup_count = 1
    table.root.listed_until = table.root.absent_until = 1e9
    table.forget(node.inode, 1)
    assert (table.root.listed_until, table.root.absent_until) == (0, 0)


def test_moving_takes_the_place_of_what_is_there() -> None:
    """rename(2): the old target loses its name, the moved node its old one."""
    table = new_table()
    moved = table.new_file(table.root, b"a", "a")
    target = table.new_file(table.root, b"b", "b")
    target.pins = 1
    table.move(moved, table.root, b"b")
    assert table.root.children == {b"b": moved}
    assert not target.is_linked
    check(table)


def test_counts_never_go_below_nothing() -> None:
    """More is forgotten than was looked up, or what never was: nothing breaks."""
    table = new_table()
    node = table.new_file(table.root, b"a", "a")
    node.lookup_count = 1
    table.forget(node.inode, 5)
    table.forget(node.inode, 1)
    table.forget(12345, 1)
    table.forget(ROOT_INODE, 100)
    assert table.get(ROOT_INODE) is table.root


@settings(max_examples=60, deadline=None, print_blob=True, database=None)
@given(st.integers(0, 2**32))
def test_forgetting_everything_returns_the_table_to_its_baseline(seed: int) -> None:
    """Lookups, listings, forgets, changes elsewhere in any order: at the end only the root is left."""
    rng = random.Random(seed)

    async def main() -> None:
        names = Names(*TREE)
        held: dict[int, int] = {}

        def hold(node: Node) -> None:
            node.lookup_count += 1
            held[node.inode] = held.get(node.inode, 0) + 1

        for _ in range(rng.randint(1, 40)):
            action = rng.choice(("find", "find", "list", "forget", "time", "change"))
            known = [node for node in names.table.nodes() if isinstance(node, DirectoryNode)]
            directory = rng.choice([node for node in known if node.is_linked])
            if action == "find" and directory.children:
                with suppress(NotFound):
                    hold(await names.namespace.lookup(directory, rng.choice(list(directory.children))))
            elif action == "list":
                stream = names.namespace.stream(directory)
                while (page := await stream.next_page()) is not None:
                    for _, node in page:
                        if rng.random() < 0.7:
                            hold(node)
                stream.close()
            elif action == "forget" and held:
                inode = rng.choice(list(held))
                count = rng.randint(1, held[inode])
                names.table.forget(inode, count)
                held[inode] -= count
                held = {inode: left for inode, left in held.items() if left}
            elif action == "time":
                names.now += 60
            elif action == "change":
                key = rng.choice(TREE)
                is_there = set(names.store.keys()) & {key}
                names.store.remove(key) if is_there else names.store.store(key, rng.randbytes(3))
            check(names.table)
            for inode, count in held.items():
                node = names.table.get(inode)
                assert node is not None and node.lookup_count == count
        for inode, count in held.items():
            names.table.forget(inode, count)
        directories = [node for node in names.root.descendants() if isinstance(node, DirectoryNode)]
        for directory in (*reversed(directories), names.root):
            names.table.drop_cached(directory)
        check(names.table)
        assert names.table.nodes() == [names.root]

    run(main)
