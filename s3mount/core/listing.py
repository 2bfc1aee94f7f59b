"""Pages of a delimited LIST -> the entries of a directory, page by page.

An object ``a`` cannot be named before it is known whether the prefix ``a/`` exists, and that may come
many keys later: ``a-b`` sorts before ``a/``. So objects are held back until the listing has passed the
place of their prefix. Two orders are understood: byte order of keys and prefixes (AWS, MinIO), and
byte order with the slash at a prefix's end left out (SeaweedFS). A store without an order (S3 Express)
would get an object and a prefix of the same name shown under one name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from s3mount.core.keys import Location, plain_name, shown_name
from s3mount.core.objects import ListPage, ObjectStat
from s3mount.errors import BadAnswer

HIDDEN_KEPT = 10
"""Keys remembered for the log; a bucket may hold millions that cannot be shown."""


@dataclass(frozen=True, slots=True)
class DirEntry:
    """One name in a directory: a file has its ``stat``, a directory its ``location``."""

    name: bytes
    stat: ObjectStat | None
    location: Location | None

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.location is not None


_by_name = attrgetter("name")


class ListingReader:
    """Turns the pages of one LIST (prefix ``location.prefix``, delimiter ``/``) into entries.

    ``marker`` is the directory's own marker, once it was seen; it is an entry as well if it holds
    bytes. ``hidden_count`` keys could not be shown, as they are not UTF-8; ``hidden`` has the first few.
    Trusts that keys begin with the prefix: whoever checks the store's answers has seen to it.
    """

    def __init__(self, location: Location) -> None:
        self.marker: ObjectStat | None = None
        self.hidden: list[str] = []
        self.hidden_count = 0
        self._location = location
        self._component_start = len(location.prefix) - len(location.begun)
        # INVARIANT: an object here may still be followed by its prefix. In byte order each key is a
        # beginning of the next one, so there are never more of them than a key has bytes.
        self._held: list[ObjectStat] = []
        self._last_prefix = ""
        # Pseudo-directories that were given and may come again with the next key.
        self._given: set[Location] = set()

    def feed(self, page: ListPage) -> list[DirEntry]:
        """Return the entries that are certain by now: those held back so far, then this page's by name.

        Raises: BadAnswer if the page is not one of a delimited LIST.
        """
        prefixes = {self._last_prefix, *page.prefixes}
        held, self._held = self._held, []
        entries = self._files(self._certain(held, page, prefixes), prefixes) if held else []
        fresh = self._files(self._certain(page.objects, page, prefixes), prefixes)
        if page.prefixes:
            fresh += self._directories(page.prefixes)
            fresh.sort(key=_by_name)
            self._last_prefix = page.prefixes[-1]
        if self._given:
            self._forget_given(page)
        return entries + fresh if entries else fresh

    def finish(self) -> list[DirEntry]:
        """Return the entries that were held back: the listing is complete."""
        held, self._held = self._held, []
        return self._files(held, set())

    def _certain(self, objects: Iterable[ObjectStat], page: ListPage, prefixes: set[str]) -> list[ObjectStat]:
        """Return those of *objects* whose prefix has come or can no longer come; hold the others."""
        last_object = page.objects[-1].key if page.objects else ""
        last_prefix = page.prefixes[-1] if page.prefixes else ""
        # Passed in the one order and in the other: both must hold, as the order is not known.
        last = max(last_object, last_prefix)
        last_bare = max(last_object, last_prefix[:-1])
        certain = []
        for stat in objects:
            as_prefix = stat.key + "/"
            if (last >= as_prefix and last_bare > stat.key) or as_prefix in prefixes:
                certain.append(stat)
            else:
                self._held.append(stat)
                if stat.key == self._location.marker_key:
                    self.marker = stat
        return certain

    def _files(self, objects: Iterable[ObjectStat], prefixes: set[str]) -> list[DirEntry]:
        entries: list[DirEntry] = []
        start = self._component_start
        partial = self._location.partial
        for stat in objects:
            component = stat.key[start:]
            if "/" in component:
                raise BadAnswer(f"{stat.key!r} in a LIST of {self._location.prefix!r} by slashes")
            beside_prefix = stat.key + "/" in prefixes
            try:
                name = None if partial or beside_prefix else plain_name(component)
                if name is not None:
                    entries.append(DirEntry(name, stat, None))
                else:
                    entries += self._odd_file(stat, component, beside_prefix)
            except UnicodeEncodeError:
                self._hide(stat.key)
        return entries

    def _odd_file(self, stat: ObjectStat, component: str, beside_prefix: bool) -> list[DirEntry]:
        if stat.key == self._location.marker_key:
            self.marker = stat
            if stat.size == 0:
                return []
        shown = shown_name(self._location, component, beside_prefix=beside_prefix)
        if shown is None:
            return []
        if shown.more is not None:
            return self._give(shown.name, shown.more)
        return [DirEntry(shown.name, stat, None)]

    def _directories(self, prefixes: Iterable[str]) -> list[DirEntry]:
        entries: list[DirEntry] = []
        start = self._component_start
        partial = self._location.partial
        for prefix in prefixes:
            if prefix == self._last_prefix:
                continue  # SeaweedFS may repeat one on the next page
            component = prefix[start:-1]
            if "/" in component:
                raise BadAnswer(f"{prefix!r} in a LIST of {self._location.prefix!r} by slashes")
            try:
                name = None if partial else plain_name(component)
                if name is not None:
                    entries.append(DirEntry(name, None, Location(prefix)))
                else:
                    entries += self._odd_directory(prefix, component)
            except UnicodeEncodeError:
                self._hide(prefix)
        return entries

    def _odd_directory(self, prefix: str, component: str) -> list[DirEntry]:
        shown = shown_name(self._location, component)
        if shown is None:
            return []
        if shown.more is not None:
            return self._give(shown.name, shown.more)
        return [DirEntry(shown.name, None, Location(prefix))]

    def _give(self, name: bytes, more: Location) -> list[DirEntry]:
        if more in self._given:
            return []
        self._given.add(more)
        return [DirEntry(name, None, more)]

    def _forget_given(self, page: ListPage) -> None:
        # All keys of a pseudo-directory stand together in either order, though other names and longer
        # pseudo-directories may stand among them, and objects that are held back come later.
        held = (stat.key for stat in self._held)
        last = [*(stat.key for stat in page.objects[-1:]), *page.prefixes[-1:], *held]
        if last:
            self._given = {more for more in self._given if any(key.startswith(more.prefix) for key in last)}

    def _hide(self, key: str) -> None:
        self.hidden_count += 1
        if len(self.hidden) < HIDDEN_KEPT:
            self.hidden.append(key)
