"""The tree of names: what is known answers, what is not known is asked with as few requests as it takes.

The kernel sends the lookups of one directory one after the other, so a lookup that goes to the store
holds up every other name there. The first one in a cold directory therefore brings its whole first page.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from s3mount.core.keys import Location, Target, resolve
from s3mount.core.listing import ListingReader
from s3mount.core.objects import ListPage, ObjectStat
from s3mount.errors import NotFound, StaleObject, Unreachable, collapsed
from s3mount.meta.attribute_filler import AttributeFiller
from s3mount.meta.busy_names import BusyNames
from s3mount.meta.directory_stream import DirectoryStream, Page
from s3mount.meta.inodes import DirectoryNode, FileNode, InodeTable, Node
from s3mount.meta.observations import (
    contradicts,
    observe_absence,
    observe_directory,
    observe_file,
    observe_marker,
)
from s3mount.meta.policy import NamePolicy
from s3mount.store.base import Breaker, ObjectStore

#: More remembered absences than this in one directory and the old ones are swept out.
MAX_ABSENT = 4096


class Namespace:
    """Names through nodes, listings and the store.

    While the store is out of reach, what was once known is believed however old it is: names, attributes
    and complete listings, with what they say of absent names. What is not known is Unreachable.

    Args:
        breaker: says when the store is out of reach; None: it never is.
        clock: monotonic seconds; ``trio.current_time`` unless a test says otherwise.
    """

    def __init__(
        self,
        store: ObjectStore,
        table: InodeTable,
        policy: NamePolicy,
        clock: Callable[[], float] = trio.current_time,
        *,
        breaker: Breaker | None = None,
    ) -> None:
        self.table = table
        self.policy = policy
        self.filler = AttributeFiller(store, policy)
        self.busy = BusyNames()
        self._store = store
        self._clock = clock
        self._breaker = breaker
        self._changes = 0
        self._listed: OrderedDict[DirectoryNode, None] = OrderedDict()

    async def lookup(self, parent: DirectoryNode, name: bytes, *, force: bool = False) -> Node:
        """Return the node under *name*, its attributes known as far as the policy goes.

        *force*: ask the store whatever is known.
        Raises: NotFound, NameTooLong, IllegalName, Busy, what the store raises.
        """
        self.busy.check_look(parent.location, name)
        child = self._known(parent, name, force)
        if child is None:
            target = resolve(parent.location, name)
            if force or parent.big_until > self._clock():
                await self._ask_one(parent, target)
            else:
                await self._ask_directory(parent, target)
            child = parent.children.get(name)
            if child is None:
                self._remember_absence(parent, name)
                raise NotFound(f"{parent.path()}: no entry {name!r}")
        child.pins += 1
        try:
            await self.filler.fill_one(child)
        finally:
            self.table.unpin(child)
        # Meanwhile it may have been removed, or found to be another one by now.
        if (current := parent.children.get(name)) is None:
            raise NotFound(f"{parent.path()}: no entry {name!r}")
        return current

    async def existing(self, parent: DirectoryNode, name: bytes) -> Node:
        """Return the node under *name* for an operation that the kernel has just looked it up for.

        Raises: as ``lookup``.
        """
        return parent.children.get(name) or await self.lookup(parent, name)

    async def refresh(self, node: Node) -> None:
        """Make sure that what is known of *node* is not older than the TTL.

        Raises: NotFound (gone), StaleObject (its name leads elsewhere now), what the store raises.
        """
        if node.parent is None or self.is_fresh(node):
            return
        if isinstance(node, FileNode) and await self._is_unchanged(node, node.parent):
            return
        # Meanwhile somebody else's look at the name may have found what replaced it.
        if node.parent is None or await self.lookup(node.parent, node.name) is not node:
            raise StaleObject(f"{node.path()} has been replaced")

    def is_fresh(self, node: Node) -> bool:
        """Whether *node* can be believed without asking."""
        if isinstance(node, FileNode) and node.is_local:
            return True
        return node.parent is None or node.fresh_until > self._clock() or self.is_cut_off

    @property
    def is_cut_off(self) -> bool:
        """Whether the store is out of reach, so that what is known has to do."""
        return self._breaker is not None and self._breaker.is_open

    def time_left_s(self, node: Node) -> float:
        """Return how long the kernel may believe what it is told of *node*, in seconds."""
        if isinstance(node, DirectoryNode) and self.busy.is_top(node.location.prefix):
            return 0.0
        if node.is_root or (isinstance(node, FileNode) and node.is_local):
            return self.policy.ttl_s
        return min(self.policy.ttl_s, max(0.0, node.fresh_until - self._clock()))

    def cached_listing(self, directory: DirectoryNode) -> Page | None:
        """Return all entries of *directory* if they are known, else None."""
        if not self.is_listed(directory):
            return None
        self._touch(directory)
        return [(name, node) for name, node in directory.children.items()]

    def stream(self, directory: DirectoryNode) -> DirectoryStream:
        """Begin a listing; close it afterwards."""
        self._touch(directory)
        self._prune()
        return DirectoryStream(
            self._store, self.table, self.filler, self.policy, self._clock, directory, self._changes
        )

    async def holds_keys(self, location: Location, *, beside_marker: bool = False) -> bool:
        """Ask whether the store has any key under *location* (*beside_marker*: but for its marker).

        A marker with bytes counts in either case: it shows as a file.
        """
        if location.partial:
            pages: list[ListPage] = []
            await self._first_key(location, pages)
            return bool(pages)
        answer = await self._store.list_page(location.prefix, delimiter="", max_keys=2)
        marker_key = location.marker_key if beside_marker else None
        return any(stat.key != marker_key or stat.size for stat in answer.objects)

    def holds_own(self, directory: DirectoryNode) -> bool:
        """Whether this host has made something in *directory* so lately that a listing may lack it."""
        now = self._clock()
        return any(child.own_until > now for child in directory.children.values())

    def note_change(self, parent: DirectoryNode, name: bytes, *, adds_or_removes: bool = True) -> None:
        """Say that this host is changing, or has changed, *name*: call it before and after.

        A listing that began earlier may not undo it. *adds_or_removes*: the directory's own time moves.
        """
        self._changes += 1
        if parent.listings:
            parent.changes[name] = self._changes
        parent.absent.pop(name, None)
        if adds_or_removes:
            parent.mtime_ns = parent.ctime_ns = time.time_ns()

    def note_fresh(self, node: Node) -> None:
        """Say that the store has *node* as this host has just made it.

        Not every server's listing shows that at once: for the TTL, answers that contradict it are not
        believed.
        """
        node.fresh_until = node.own_until = self._clock() + self.policy.ttl_s

    def note_removed(self, parent: DirectoryNode, name: bytes) -> None:
        """Say that this host has taken *name* away in the store.

        As with ``note_fresh``, for as long as absence is believed.
        """
        now = self._clock()
        _drop_old(parent.removed, now)
        if len(parent.removed) < MAX_ABSENT and self.policy.negative_ttl_s:
            parent.removed[name] = now + self.policy.negative_ttl_s

    def note_empty(self, directory: DirectoryNode) -> None:
        """Say that *directory* was just made, so that nothing in it need be asked for."""
        directory.listed_until = self._clock() + self.policy.ttl_s
        directory.absent_until = self._clock() + self.policy.negative_ttl_s

    def is_listed(self, directory: DirectoryNode) -> bool:
        """Whether all entries of *directory* are known."""
        return directory.listed_until > self._clock() or (self.is_cut_off and directory.listed_until > 0)

    def expire(self, node: Node) -> None:
        """Say that what is known of *node* is not to be believed any longer."""
        node.fresh_until = node.own_until = 0.0
        if node.parent is not None:
            node.parent.forget_listing()

    @contextmanager
    def changing(self, *places: tuple[DirectoryNode, bytes]) -> Iterator[None]:
        """While the block runs, this host changes the names *places*: no listing may undo it.

        If the block fails nobody knows how far the store has come, so all that is known of them is asked
        for again. Not where the store was not asked at all: what is known is all there is to show then, and
        is no younger for it.
        """
        for parent, name in places:
            self.note_change(parent, name)
        try:
            yield
        except Unreachable:
            raise
        except BaseException:
            for parent, name in places:
                self._doubt(parent, name)
            raise
        finally:
            for parent, name in places:
                self.note_change(parent, name)

    def _doubt(self, parent: DirectoryNode, name: bytes) -> None:
        parent.forget_listing()
        parent.removed.pop(name, None)
        child = parent.children.get(name)
        below = child.descendants() if isinstance(child, DirectoryNode) else ()
        for node in () if child is None else (child, *below):
            node.fresh_until = node.own_until = 0.0
            if isinstance(node, DirectoryNode):
                node.forget_listing()
                node.absent.clear()
                node.removed.clear()
                node.has_marker = None

    def move(self, node: Node, parent: DirectoryNode, name: bytes) -> None:
        """Give *node* another name; the keys of files below a directory follow."""
        target = resolve(parent.location, name)
        old_parent, old_name = node.parent, node.name
        self.table.move(node, parent, name)
        if old_parent is not None:
            self.note_removed(old_parent, old_name)
        if isinstance(node, FileNode):
            assert target.file_key is not None
            node.key = target.file_key
            node.beside_prefix = target.beside_prefix
        elif isinstance(node, DirectoryNode):
            assert target.directory is not None
            node.location = target.directory
            for below in node.descendants():
                assert below.parent is not None
                place = resolve(below.parent.location, below.name)
                if isinstance(below, FileNode):
                    below.key = place.file_key or below.key
                elif isinstance(below, DirectoryNode) and place.directory is not None:
                    below.location = place.directory

    def _known(self, parent: DirectoryNode, name: bytes, force: bool) -> Node | None:
        """Return what is known under *name*, None if it must be asked. Raises: NotFound."""
        child = parent.children.get(name)
        if child is not None:
            is_local = isinstance(child, FileNode) and child.is_local
            return child if is_local or (not force and self.is_fresh(child)) else None
        # Once is late enough where nobody can be asked, unless absence is never to be believed.
        since = 0.0 if self.is_cut_off and self.policy.negative_ttl_s else self._clock()
        known_until = max(parent.absent_until, parent.absent.get(name, 0.0), parent.removed.get(name, 0.0))
        if not force and known_until > since:
            resolve(parent.location, name)  # a name that can never be has an errno of its own
            raise NotFound(f"{parent.path()}: no entry {name!r}")
        return None

    async def _is_unchanged(self, node: FileNode, parent: DirectoryNode) -> bool:
        """Ask for the one object; whether it is the version that *node* knows."""
        asked_at, as_of = self._clock(), self._changes
        name = node.name
        found: list[ObjectStat] = []
        with self._holding_changes(parent):
            await self._head(node.key, found)
            if parent.changes.get(name, 0) > as_of or parent.children.get(name) is not node:
                return False
        if not found or node.stat is None or found[0].etag != node.stat.etag:
            return False
        if observe_file(self.table, parent, name, found[0]) is not node:
            return False
        node.fresh_until = asked_at + self.policy.ttl_s
        return True

    @contextmanager
    def _holding_changes(self, parent: DirectoryNode) -> Iterator[None]:
        """Keep account of what this host changes in *parent* while the store is asked about it."""
        parent.listings += 1
        try:
            yield
        finally:
            parent.listings -= 1
            if not parent.listings:
                parent.changes.clear()

    async def _ask_directory(self, parent: DirectoryNode, target: Target) -> None:
        """Ask for the first page of *parent*, and beside it for the one object if a page shows less."""
        as_of = self._changes
        stream = self.stream(parent)
        found: list[ObjectStat] = []
        asks = self.filler.asks_beside_list and (
            self.policy.attributes == "exact" or parent.ask_files is not False
        )
        head_key = target.file_key if asks else None
        try:
            with collapsed():
                async with trio.open_nursery() as nursery:
                    if head_key is not None:
                        nursery.start_soon(self._head, head_key, found)
                    await stream.next_page(with_attributes=False)
            if parent.changes.get(target.name, 0) > as_of:
                found.clear()
        finally:
            stream.close()
        child = parent.children.get(target.name)
        if found and isinstance(child, FileNode) and child.stat and child.stat.etag == found[0].etag:
            until = child.fresh_until
            child = observe_file(
                self.table, parent, target.name, found[0], beside_prefix=target.beside_prefix
            )
            child.fresh_until = until
            self.filler.judge(parent, child)
        if not stream.is_done and (child is None or child.fresh_until <= self._clock()):
            await self._ask_one(parent, target)

    async def _ask_one(self, parent: DirectoryNode, target: Target) -> None:
        """Ask for one name: the object, and whether anything lies under it, both at once."""
        as_of = self._changes
        asked_at = self._clock()
        found: list[ObjectStat] = []
        pages: list[ListPage] = []
        below = target.directory or (
            Location(f"{target.file_key}/") if target.file_key and target.beside_prefix else None
        )
        with self._holding_changes(parent):
            with collapsed():
                async with trio.open_nursery() as nursery:
                    if target.file_key:
                        nursery.start_soon(self._head, target.file_key, found)
                    if below is not None:
                        nursery.start_soon(self._first_key, below, pages)
            if parent.changes.get(target.name, 0) <= as_of:
                self._observe_one(parent, target, found, pages, asked_at + self.policy.ttl_s)

    def _observe_one(
        self,
        parent: DirectoryNode,
        target: Target,
        found: list[ObjectStat],
        pages: list[ListPage],
        fresh_until: float,
    ) -> None:
        has_keys = bool(pages and (pages[0].objects or pages[0].prefixes))
        child = parent.children.get(target.name)
        if child is not None and child.own_until > fresh_until - self.policy.ttl_s:
            is_there = bool(found) or has_keys
            if not is_there or contradicts(child, None if has_keys else found[0]):
                return  # from before this host's own change
        first = pages[0].objects[0] if pages and pages[0].objects else None
        node: Node
        if target.directory is not None and has_keys:
            node = observe_directory(self.table, parent, target.name, target.directory)
            if isinstance(node, DirectoryNode) and first and first.key == target.directory.marker_key:
                observe_marker(node, first)
        elif found and _shows_as_file(target, found[0]) and (has_keys or not target.beside_prefix):
            node = observe_file(self.table, parent, target.name, found[0], beside_prefix=target.beside_prefix)
        else:
            observe_absence(self.table, parent, target.name)
            return
        node.fresh_until = fresh_until

    async def _head(self, key: str, found: list[ObjectStat]) -> None:
        try:
            found.append(await self._store.head(key))
        except NotFound:
            return

    async def _first_key(self, location: Location, pages: list[ListPage]) -> None:
        if not location.partial:
            pages.append(await self._store.list_page(location.prefix, delimiter="", max_keys=1))
            return
        # Under the prefix of a pseudo-directory lie short names too, which it does not show.
        reader = ListingReader(location)
        token: str | None = None
        while True:
            page = await self._store.list_page(location.prefix, token=token)
            if reader.feed(page) or (not page.truncated and reader.finish()):
                pages.append(page)
                return
            if not page.truncated:
                return
            token = page.next_token

    def _remember_absence(self, parent: DirectoryNode, name: bytes) -> None:
        now = self._clock()
        _drop_old(parent.absent, now)
        if len(parent.absent) < MAX_ABSENT:
            parent.absent[name] = now + self.policy.negative_ttl_s

    def _touch(self, directory: DirectoryNode) -> None:
        self._listed[directory] = None
        self._listed.move_to_end(directory)

    def _prune(self) -> None:
        """Drop cached entries of the directories that were listed longest ago, over the cap."""
        while len(self.table) > self.policy.max_cached_names and self._listed:
            directory, _ = self._listed.popitem(last=False)
            if not directory.is_being_read:
                self.table.drop_cached(directory)


def _drop_old(names: dict[bytes, float], now: float) -> None:
    """Make room among so many remembered names."""
    if len(names) >= MAX_ABSENT:
        for name in [name for name, until in names.items() if until <= now]:
            del names[name]


def _shows_as_file(target: Target, stat: ObjectStat) -> bool:
    """Whether the object is an entry: a directory's own marker is one only while it holds bytes."""
    return stat.size > 0 or not target.is_marker
