"""Directories that are open: each reads its entries page by page and remembers only the last two pages."""

from __future__ import annotations

from s3mount.errors import BadDescriptor
from s3mount.meta.directory_stream import DirectoryStream, Page
from s3mount.meta.inodes import DirectoryNode
from s3mount.meta.namespace import Namespace


class DirectoryHandle:
    """One opendir(3): entries by position, from 0.

    Reading on is cheap; going back (rewinddir, seekdir) further than the window begins a new listing.
    INVARIANT: ``_window[0]`` is the entry at position ``_first``.
    """

    def __init__(self, namespace: Namespace, directory: DirectoryNode) -> None:
        self.directory = directory
        self._namespace = namespace
        self._stream: DirectoryStream | None = None
        self._window: Page = []
        self._first = 0
        self._last_page = 0
        self._is_complete = False

    async def entries_from(self, position: int) -> Page:
        """Return the known entries from *position* on, at least one unless that is the end.

        Raises: what the store raises; the next call goes on from there.
        """
        if position == 0 or position < self._first:
            self._rewind()
        while not self._is_complete and position >= self._first + len(self._window):
            await self._read_page()
        return self._window[position - self._first :]

    def close(self) -> None:
        """End the listing."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _rewind(self) -> None:
        self.close()
        self._window, self._first, self._last_page, self._is_complete = [], 0, 0, False

    async def _read_page(self) -> None:
        if self._stream is None:
            cached = self._namespace.cached_listing(self.directory)
            if cached is not None:
                await self._namespace.filler.fill(self.directory, [node for _, node in cached])
                self._window, self._is_complete = cached, True
                return
            self._stream = self._namespace.stream(self.directory)
        page = await self._stream.next_page()
        if page is None:
            self._is_complete = True
            self.close()
            return
        drop = len(self._window) - self._last_page
        self._window = self._window[drop:] + page
        self._first += drop
        self._last_page = len(page)


class DirectoryHandles:
    """Open directories by number."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._handles: dict[int, DirectoryHandle] = {}
        self._last_number = 0

    def open(self, directory: DirectoryNode) -> int:
        """Open *directory*; return the handle's number."""
        directory.pins += 1
        self._last_number += 1
        self._handles[self._last_number] = DirectoryHandle(self._namespace, directory)
        return self._last_number

    def __getitem__(self, number: int) -> DirectoryHandle:
        try:
            return self._handles[number]
        except KeyError:
            raise BadDescriptor(f"no directory handle {number}") from None

    def release(self, number: int) -> None:
        """Close a handle for good."""
        handle = self._handles.pop(number)
        handle.close()
        self._namespace.table.unpin(handle.directory)
