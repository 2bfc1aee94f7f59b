"""The names layer on a store in memory, with a clock that stands still until it is told to go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from s3mount.core.keys import Location
from s3mount.meta.directory_stream import Page
from s3mount.meta.inodes import DirectoryNode, FileNode, InodeTable, Node
from s3mount.meta.namespace import Namespace
from s3mount.meta.policy import NamePolicy
from tests.support.memory_store import Call, MemoryStore

T = TypeVar("T")
TTL_S = 10.0
NEGATIVE_TTL_S = 4.0


class Lookups:
    """Looks paths up in its ``namespace``."""

    namespace: Namespace

    async def find(self, path: str) -> Node:
        """Look *path* up, name by name, as the kernel does; the root is the empty path."""
        node: Node = self.namespace.table.root
        for name in filter(None, path.split("/")):
            assert isinstance(node, DirectoryNode)
            node = await self.namespace.lookup(node, name.encode())
        return node

    async def directory(self, path: str) -> DirectoryNode:
        """Look a directory up."""
        node = await self.find(path)
        assert isinstance(node, DirectoryNode)
        return node

    async def file(self, path: str) -> FileNode:
        """Look a file up."""
        node = await self.find(path)
        assert isinstance(node, FileNode)
        return node


class Names(Lookups):
    """A namespace over a MemoryStore.

    Args:
        keys: objects to begin with; each has one byte.
        policy: further fields of NamePolicy.
    """

    def __init__(self, *keys: str, store: MemoryStore | None = None, **policy: Any) -> None:
        self.now = 1000.0
        self.store = store or MemoryStore()
        for key in keys:
            self.store.store(key, b"" if key.endswith("/") else b"x")
        settings = {"ttl_s": TTL_S, "negative_ttl_s": NEGATIVE_TTL_S, "attributes": "list"} | policy
        self.table = InodeTable(Location(""))
        self.root = self.table.root
        self.namespace = Namespace(self.store, self.table, NamePolicy(**settings), lambda: self.now)

    def requests(self) -> Counter[str]:
        """Return how many calls of each method the store has had since the last time."""
        counts = Counter(call.method for call in self.store.calls)
        self.store.calls.clear()
        return counts

    async def list(self, directory: DirectoryNode | None = None) -> list[bytes]:
        """Return the names of a whole new listing, as it gives them."""
        stream = self.namespace.stream(directory or self.root)
        try:
            names = []
            while (page := await stream.next_page()) is not None:
                names += names_of(page)
            return names
        finally:
            stream.close()

    def create(self, parent: DirectoryNode, name: bytes) -> FileNode:
        """Make a file that only this host has, as create(2) does."""
        node = self.table.new_file(parent, name, parent.location.prefix + name.decode())
        node.is_local = True
        self.namespace.note_change(parent, name)
        return node

    def remove(self, node: Node) -> None:
        """Remove an entry from the store and from the names, as unlink(2) does."""
        assert node.parent is not None
        parent, name = node.parent, node.name
        self.namespace.note_change(parent, name)
        if isinstance(node, FileNode) and node.stat is not None:
            self.store.remove(node.key)
        self.table.unlink(node)
        self.namespace.note_change(parent, name)


def names_of(page: Page | None) -> list[bytes]:
    """Return the names of a page."""
    return [name for name, _ in page or []]


def run(main: Callable[[], Awaitable[T]], deadline_s: float = 20.0) -> T:
    """Run *main*; a hang is a failure."""

    async def bounded() -> T:
        with trio.fail_after(deadline_s):
            return await main()

    return trio.run(bounded)


def once(method: str, key: str, act: Callable[[], None]) -> Callable[[Call], Awaitable[None]]:
    """Return a hook that lets *act* happen at the first call of *method* on *key*."""
    done = False

    async def hook(call: Call) -> None:
        nonlocal done
        await trio.lowlevel.checkpoint()
        if not done and (call.method, call.key) == (method, key):
            done = True
            act()

    return hook


def check(table: InodeTable) -> None:
    """Hold *table* to its invariants."""
    linked = {table.root, *table.root.descendants()}
    for node in linked:
        assert table.get(node.inode) is node, f"{node.path()} is not in the table"
        if node.parent is not None:
            assert node.parent.children[node.name] is node
    for node in table.nodes():
        assert node.lookup_count >= 0
        assert node.pins >= 0
        top = node
        while top.parent is not None:
            assert top.parent.children[top.name] is top
            top = top.parent
        assert top.is_root or top.lookup_count or top.pins, f"nobody holds what {top.path()} was"
