"""Asks for the stored attributes that a listing did not show.

READDIRPLUS answers every listed name with its attributes, so a listing alone must do for nearly all of
them: a HEAD per name is what makes `ls` slow elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import trio

from s3mount.core.attributes import Attributes
from s3mount.core.objects import ListPage
from s3mount.errors import AccessDenied, NotFound, collapsed
from s3mount.meta.inodes import DirectoryNode, FileNode, Node
from s3mount.meta.observations import observe_marker, stored_attributes
from s3mount.meta.policy import NamePolicy
from s3mount.store.base import ObjectStore

log = logging.getLogger(__name__)

#: How many of a directory's files, and of its sub-directories, are asked before the rest is judged by
#: them: the first, the middle and the last, since a directory is mostly filled by one tool at a time.
SAMPLE = 3

#: Stands for "judged by the sample": shown as plain, asked again once a neighbour turns out not to be.
ASSUMED_PLAIN = Attributes()


class AttributeFiller:
    """Carries out ``--attributes=list|auto|exact``."""

    def __init__(self, store: ObjectStore, policy: NamePolicy) -> None:
        self._store = store
        self._policy = policy
        self._list_shows_attributes = policy.list_shows_attributes

    @property
    def asks_beside_list(self) -> bool:
        """Whether a LIST alone will not tell the attributes of a file, so that a HEAD had better go along."""
        return self._policy.attributes != "list" and self._list_shows_attributes is False

    def learn(self, page: ListPage) -> None:
        """See from a page with objects whether this server's LIST carries their metadata."""
        if page.objects:
            self._list_shows_attributes = any(stat.headers is not None for stat in page.objects)

    async def fill(self, directory: DirectoryNode, nodes: Iterable[Node], *, goes_on: bool = False) -> None:
        """Make the attributes of a page of *directory*'s entries known, as far as the policy goes.

        *goes_on*: it is not a listing's first page, and what was judged from that one holds.
        Raises: what the store raises, save NotFound (gone meanwhile) and AccessDenied (shown as plain).
        """
        if self._policy.attributes == "list":
            return
        unknown = [node for node in nodes if node.attributes is None and _is_in_store(node)]
        files = [node for node in unknown if isinstance(node, FileNode)]
        directories = [node for node in unknown if isinstance(node, DirectoryNode)]
        if self._policy.attributes == "exact":
            await self._ask_all([*files, *directories])
            return
        if goes_on and directory.ask_files is False:
            _assume_plain(files)
        else:
            directory.ask_files = await self._fill_kind(directory, files, directory.ask_files)
        if goes_on and directory.ask_directories is False:
            _assume_plain(directories)
        else:
            asks = directory.ask_directories
            directory.ask_directories = await self._fill_kind(directory, directories, asks)

    async def fill_one(self, node: Node) -> None:
        """Make the attributes of one looked-up node known, as far as the policy goes."""
        if self._is_wanted(node):
            await self._ask(node)
            if node.parent is not None and node.attributes is not None:
                self.judge(node.parent, node)

    def _is_wanted(self, node: Node) -> bool:
        if node.attributes is not None or self._policy.attributes == "list" or not _is_in_store(node):
            return False
        parent = node.parent
        if self._policy.attributes == "exact" or parent is None:
            return True
        return (parent.ask_files if isinstance(node, FileNode) else parent.ask_directories) is not False

    async def _fill_kind(
        self, directory: DirectoryNode, unknown: list[FileNode] | list[DirectoryNode], ask: bool | None
    ) -> bool | None:
        """Sample *unknown*, ask all where the sample says so; return whether this kind is to be asked."""
        nodes: list[Node] = [*unknown]
        if not nodes:
            return ask
        if not ask:
            sample = [nodes[i] for i in sorted({0, len(nodes) // 2, len(nodes) - 1})][:SAMPLE]
            await self._ask_all(sample)
            if all(node.attributes is None or node.attributes.is_plain for node in sample):
                _assume_plain(nodes)
                return False
            kind = type(nodes[0])
            nodes = [
                node
                for node in directory.children.values()
                if isinstance(node, kind) and (node.attributes is None or node.attributes is ASSUMED_PLAIN)
            ]
        await self._ask_all([node for node in nodes if _is_in_store(node)])
        return True

    def judge(self, parent: DirectoryNode, node: Node) -> None:
        """Let one entry that was asked stand for its neighbours."""
        carries = node.attributes is not None and not node.attributes.is_plain
        if isinstance(node, FileNode):
            parent.ask_files = bool(parent.ask_files) or carries
        else:
            parent.ask_directories = bool(parent.ask_directories) or carries

    async def _ask_all(self, nodes: list[Node]) -> None:
        with collapsed():
            async with trio.open_nursery() as nursery:
                for node in nodes:
                    nursery.start_soon(self._ask, node)

    async def _ask(self, node: Node) -> None:
        key = node.key if isinstance(node, FileNode) else _marker_key(node)
        if key is None:
            node.attributes = Attributes()
            return
        before = node.attributes
        try:
            stat = await self._store.head(key)
        except NotFound:
            if isinstance(node, DirectoryNode):
                observe_marker(node, None)
            return
        except AccessDenied as exc:
            log.debug("attributes of %s are not ours to see: %s", key, exc)
            node.attributes = ASSUMED_PLAIN
            return
        if node.attributes is not before:
            return  # this host changed them meanwhile, and knows better than the answer
        if isinstance(node, DirectoryNode):
            observe_marker(node, stat)
        elif isinstance(node, FileNode) and not node.is_local:
            if node.stat is not None and node.stat.etag != stat.etag and (node.pins or node.is_own):
                return  # another version: the next look at the name sorts it out
            node.describe(stat, stored_attributes(stat))


def _assume_plain(nodes: Iterable[Node]) -> None:
    for node in nodes:
        if node.attributes is None:
            node.attributes = ASSUMED_PLAIN


def _is_in_store(node: Node) -> bool:
    return not isinstance(node, FileNode) or (node.stat is not None and not node.is_local)


def _marker_key(node: Node) -> str | None:
    assert isinstance(node, DirectoryNode)
    return node.location.marker_key
