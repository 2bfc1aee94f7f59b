"""File descriptors for spool files, so that some are always left for connections."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from s3mount.errors import TooManyFiles

log = logging.getLogger(__name__)


class SpoolDescriptors:
    """Lets spool files have the descriptors below *first_reserved*, and none above.

    The kernel gives out the lowest free number, so the number that a descriptor gets now tells whether
    room is left, without counting what is open.
    INVARIANT: ``_opening`` has for each who was let in and is not done whether its file is open by now.
    """

    def __init__(self, first_reserved: int) -> None:
        self.first_reserved = first_reserved
        self._opening: list[Callable[[], bool]] = []
        self._was_full = False

    @contextmanager
    def room(self, is_open: Callable[[], bool]) -> Iterator[None]:
        """Hold room for the one file that the block may open, unless it *is_open* already.

        Raises: TooManyFiles, and the block is not entered.
        """
        if is_open():
            yield
            return
        self.check()
        self._opening.append(is_open)
        try:
            yield
        finally:
            self._opening.remove(is_open)

    def check(self) -> None:
        """See that one more file could be opened now. Raises: TooManyFiles."""
        opening = sum(not is_open() for is_open in self._opening)
        if self._lowest_free() + opening < self.first_reserved:
            self._was_full = False
            return
        if not self._was_full:  # once for each time, not for each file
            self._was_full = True
            log.warning(
                "too many files are open for writing: of this process's file descriptors no more than %d "
                "may be taken so; opening more fails with ENFILE",
                self.first_reserved,
            )
        raise TooManyFiles("no file descriptor is left for another file that is being written")

    def _lowest_free(self) -> int:
        try:
            probe = os.eventfd(0, os.EFD_CLOEXEC)
        except OSError:
            return self.first_reserved
        os.close(probe)
        return probe
