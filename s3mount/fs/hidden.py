"""The directory ``.s3mount`` at the root of a mount: files about the mount itself, of which no bucket knows.

It is found by its name and never listed, so that ``find``, ``cp -r`` and backups pass it by. A key that has
this name has another spelling (``core.keys``), so nothing in the bucket is hidden by it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from s3mount.core.keys import OWN_NAME
from s3mount.errors import ReadOnly, TooManyFiles
from s3mount.meta.inodes import RESERVED_INODES, ROOT_INODE

NAME: Final = OWN_NAME.encode()
FIRST_HANDLE: Final = 1 << 62
"""Numbers of handles from here on are of hidden files: others count from 1."""
MOST_HANDLES: Final = 256
"""Each holds its text: nobody needs more, and a program that forgets to close must not fill the memory."""

_DIRECTORY_INODE: Final = ROOT_INODE + 1
_FIRST_FILE_INODE: Final = _DIRECTORY_INODE + 1


@dataclass(frozen=True, slots=True)
class HiddenEntry:
    """The directory or a file in it."""

    inode: int
    name: bytes
    is_directory: bool


class HiddenFiles:
    """Names, inodes and handles of the hidden directory.

    Args:
        texts: what makes the text of each file, by its name; a text is made when the file is opened.
    """

    def __init__(self, texts: Mapping[bytes, Callable[[], bytes]]) -> None:
        assert _FIRST_FILE_INODE + len(texts) <= RESERVED_INODES
        self._texts = dict(texts)
        self._directory = HiddenEntry(_DIRECTORY_INODE, NAME, True)
        self.files = [
            HiddenEntry(_FIRST_FILE_INODE + number, name, False) for number, name in enumerate(self._texts)
        ]
        self._by_inode = {entry.inode: entry for entry in (self._directory, *self.files)} if texts else {}
        self._handles: dict[int, bytes] = {}
        self._last_number = FIRST_HANDLE

    def find(self, parent_inode: int, name: bytes) -> HiddenEntry | None:
        """Return the entry of *name* in a directory, None if it is none of these."""
        if parent_inode == ROOT_INODE:
            return self._by_inode.get(_DIRECTORY_INODE) if name == NAME else None
        if parent_inode == _DIRECTORY_INODE:
            return next((file for file in self.files if file.name == name), None)
        return None

    def entry(self, inode: int) -> HiddenEntry | None:
        """Return the entry of *inode*, None if it is none of these."""
        return self._by_inode.get(inode)

    def check_changeable(self, inode: int) -> None:
        """Raise ReadOnly if *inode* is one of these."""
        if (entry := self._by_inode.get(inode)) is not None:
            raise ReadOnly(f"{entry.name!r} is s3mount's own, and read-only")

    def open(self, entry: HiddenEntry, flags: int) -> int:
        """Make the text of a file; return the handle's number. Raises: ReadOnly, TooManyFiles."""
        if flags & os.O_ACCMODE != os.O_RDONLY:
            self.check_changeable(entry.inode)
        if len(self._handles) >= MOST_HANDLES:
            raise TooManyFiles(f"{MOST_HANDLES} of s3mount's own files are open")
        text = self._texts[entry.name]()
        self._last_number += 1
        self._handles[self._last_number] = text
        return self._last_number

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Return *size* bytes of the text from *offset*, fewer at its end."""
        return self._handles[number][offset : offset + size]

    def release(self, number: int) -> None:
        """Forget the handle."""
        self._handles.pop(number, None)


def is_hidden_handle(number: int) -> bool:
    """Whether *number* is a handle of one of these."""
    return number >= FIRST_HANDLE
