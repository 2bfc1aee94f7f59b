"""The trees that a directory's rename works on, and what may be done below them meanwhile."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from s3mount.core.keys import Location, resolve
from s3mount.errors import Busy, FsError


class Access(enum.IntEnum):
    """What may be done with the names of a tree."""

    FREE = 0
    READ = 1  # it is whole, and must stay as it is
    NONE = 2  # it is not whole


@dataclass(slots=True, eq=False)
class BusyTree:
    """A tree by its *prefix*, a key that ends in a slash; ``access`` changes as the rename goes on."""

    prefix: str
    access: Access


class BusyNames:
    """Asked before each use of a name; while no rename is under way the answer costs nothing."""

    def __init__(self) -> None:
        self._trees: list[BusyTree] = []

    def add(self, prefix: str, access: Access) -> BusyTree:
        """Declare a tree busy until it is removed."""
        tree = BusyTree(prefix, access)
        self._trees.append(tree)
        return tree

    def remove(self, tree: BusyTree) -> None:
        """Take back what ``add`` declared; again is fine."""
        self._trees = [other for other in self._trees if other is not tree]

    def is_top(self, prefix: str) -> bool:
        """Whether the directory *prefix* is the top of a busy tree: the kernel is to ask each time."""
        return any(tree.prefix == prefix and tree.access for tree in self._trees)

    def check_look(self, parent: Location, name: bytes) -> None:
        """Raise Busy if *name* cannot be looked up now."""
        if self._trees:
            self._check(self._keys(parent, name), Access.NONE)

    def check_change(self, parent: Location, name: bytes) -> None:
        """Raise Busy if nothing may be made, changed or removed under *name* now."""
        if self._trees:
            self._check(self._keys(parent, name), Access.READ)

    def check_key(self, key: str) -> None:
        """Raise Busy if the object *key*, or the directory whose prefix that is, may not be changed now."""
        if self._trees:
            self._check([key], Access.READ)

    def check_tree(self, prefix: str) -> None:
        """Raise Busy if the directory *prefix* cannot be moved now: it is busy, or something in it is."""
        self.check_key(prefix)
        for tree in self._trees:
            if tree.access and tree.prefix.startswith(prefix):
                raise Busy(f"{tree.prefix!r} is being renamed")

    def _check(self, keys: list[str], limit: Access) -> None:
        for tree in self._trees:
            if tree.access >= limit and any(key.startswith(tree.prefix) for key in keys):
                raise Busy(f"{tree.prefix!r} is being renamed")

    @staticmethod
    def _keys(parent: Location, name: bytes) -> list[str]:
        try:
            target = resolve(parent, name)
        except FsError:
            return []  # a name that can never be has an errno of its own
        keys = [] if target.file_key is None else [target.file_key]
        return keys if target.directory is None else [*keys, target.directory.prefix]
