"""One pass over a directory, page by page, so that a million entries need not fit anywhere."""

from __future__ import annotations

import logging
from collections.abc import Callable

from s3mount.core.listing import DirEntry, ListingReader
from s3mount.meta.attribute_filler import AttributeFiller
from s3mount.meta.inodes import DirectoryNode, FileNode, InodeTable, Node
from s3mount.meta.observations import (
    contradicts,
    has_local_files,
    observe_directory,
    observe_file,
    observe_marker,
)
from s3mount.meta.policy import NamePolicy
from s3mount.store.base import ObjectStore

log = logging.getLogger(__name__)

#: A directory whose first page was not its last is asked for single names for this long, in seconds.
BIG_DIRECTORY_S = 60.0

Page = list[tuple[bytes, Node]]


class DirectoryStream:
    """Lists *directory* from its beginning and lays what it sees over what is known.

    Names that this host changes after *as_of* (a number of the namespace's change counter) are left
    alone: the listing's news of them may be older. So are those that it has changed lately, where the
    listing says anything else of them: not every server's listing has what was stored before it was
    asked. ``close`` must be called.
    """

    _last_id = 0

    def __init__(
        self,
        store: ObjectStore,
        table: InodeTable,
        filler: AttributeFiller,
        policy: NamePolicy,
        clock: Callable[[], float],
        directory: DirectoryNode,
        as_of: int,
    ) -> None:
        self._store = store
        self._table = table
        self._filler = filler
        self._policy = policy
        self._clock = clock
        self._directory = directory
        self._as_of = as_of
        self._reader = ListingReader(directory.location)
        self._token: str | None = None
        self._given_changed: set[bytes] = set()
        self._started = clock()
        # A listing that was not believed in everything is itself believed only until it would be.
        self._whole_until = float("inf")
        DirectoryStream._last_id += 1
        self._id = DirectoryStream._last_id
        self.is_done = False
        self._goes_on = False
        # A page whose attributes could not be asked for: the next call tries again.
        self._unfilled: Page | None = None
        self._is_open = True
        directory.listings += 1

    def close(self) -> None:
        """Stop holding back this host's changes for the sake of this listing."""
        if self._is_open:
            self._is_open = False
            self._directory.listings -= 1
            if not self._directory.listings:
                self._directory.changes.clear()

    async def next_page(self, *, with_attributes: bool = True) -> Page | None:
        """Return the next entries with their nodes (perhaps none yet), None after the last.

        Raises: what the store raises; the stream may be asked again then.
        """
        if self._unfilled is None:
            if self.is_done:
                return None
            self._unfilled = await self._ask()
        if with_attributes:
            nodes = [node for _, node in self._unfilled]
            await self._filler.fill(self._directory, nodes, goes_on=self._goes_on)
        self._goes_on = True
        page, self._unfilled = self._unfilled, None
        return page

    async def _ask(self) -> Page:
        asked_at = self._clock()
        answer = await self._store.list_page(self._directory.location.prefix, token=self._token)
        self._filler.learn(answer)
        entries = self._reader.feed(answer)
        self._token = answer.next_token
        if answer.truncated:
            self._directory.big_until = asked_at + BIG_DIRECTORY_S
        else:
            entries += self._reader.finish()
        page = self._take(entries, asked_at)
        if not answer.truncated:
            page += self._finish()
        return page

    def _take(self, entries: list[DirEntry], asked_at: float) -> Page:
        directory, page = self._directory, list[tuple[bytes, Node]]()
        fresh_until = asked_at + self._policy.ttl_s
        for entry in entries:
            name = entry.name
            known = directory.children.get(name)
            if directory.changes.get(name, 0) > self._as_of:
                if known is None:
                    continue
                node = known
                self._given_changed.add(name)
            elif self._is_behind(entry, known, asked_at):
                if known is None:
                    continue
                node = known
            elif known is not None and known.fresh_until > fresh_until:
                node = known  # asked for after this page was
            elif entry.stat is not None:
                beside = name.endswith(b"%s3=file")
                node = observe_file(self._table, directory, name, entry.stat, beside_prefix=beside)
                node.fresh_until = fresh_until
            else:
                assert entry.location is not None
                node = observe_directory(self._table, directory, name, entry.location)
                node.fresh_until = fresh_until
            # A listing that began later has looked at it, too, perhaps: it must find its own number.
            node.seen_in = max(node.seen_in, self._id)
            page.append((name, node))
        return page

    def _is_behind(self, entry: DirEntry, known: Node | None, asked_at: float) -> bool:
        """Whether *entry* is from before this host's own change, which is not long ago."""
        until = self._directory.removed.get(entry.name, 0.0) if known is None else known.own_until
        if until <= asked_at or (known is not None and not contradicts(known, entry.stat)):
            return False
        self._whole_until = min(self._whole_until, until)
        return True

    def _finish(self) -> Page:
        """Conclude from the whole listing what is not there; return what only this host has."""
        directory = self._directory
        self.is_done = True
        rest: Page = []
        for name, node in list(directory.children.items()):
            if node.seen_in == self._id:
                continue
            if node.own_until > self._started:
                self._whole_until = min(self._whole_until, node.own_until)
            if self._is_known_otherwise(name, node):
                if node.seen_in < self._id or self._is_unlisted(name, node):
                    node.seen_in = max(node.seen_in, self._id)
                    rest.append((name, node))
            else:
                self._table.lose(node)
        is_own = directory.own_until > self._started and directory.attributes is not None
        if directory.changes.get(b"", 0) <= self._as_of and not is_own:
            observe_marker(directory, self._reader.marker)
        until = min(self._started + self._policy.ttl_s, self._whole_until)
        directory.listed_until = max(directory.listed_until, until)
        until = min(self._started + self._policy.negative_ttl_s, self._whole_until)
        directory.absent_until = max(directory.absent_until, until)
        directory.fresh_until = max(directory.fresh_until, directory.listed_until)
        directory.absent.clear()
        if self._reader.hidden_count != directory.hidden_names:
            directory.hidden_names = self._reader.hidden_count
            log.warning(
                "%d key(s) under %r have names that are not UTF-8 and are not shown, for example %r",
                self._reader.hidden_count,
                directory.location.prefix,
                self._reader.hidden[:1],
            )
        return rest

    def _is_known_otherwise(self, name: bytes, node: Node) -> bool:
        """Whether there is newer or better news of *node* than that this listing lacks it."""
        return (
            node.seen_in > self._id
            or self._directory.changes.get(name, 0) > self._as_of
            or node.fresh_until > self._started + self._policy.ttl_s
            or node.own_until > self._started
            or has_local_files(node)
        )

    def _is_unlisted(self, name: bytes, node: Node) -> bool:
        """Whether this listing has not given *node*, though a later one has seen it."""
        is_new = isinstance(node, FileNode) and node.is_local and node.stat is None
        is_changed = self._directory.changes.get(name, 0) > self._as_of
        return (is_new or is_changed) and name not in self._given_changed
