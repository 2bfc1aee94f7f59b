"""How far ``s3mount spool push`` is, by the bytes that have gone out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from s3mount.cli.bar import Show, shown_bar
from s3mount.cli.words import plural
from s3mount.core.progress import Sending
from s3mount.core.spool_record import SpoolRecord
from s3mount.data.spool_file import SpoolFile
from s3mount.errors import collapsed

_LOOK_S = 0.2


class PushProgress:
    """Counts files, and the bytes of the one that is being sent.

    Args:
        records: of all that are to be sent.
        sending: what has gone out; what is sent again after a failure counts as what it replaces.
    """

    def __init__(self, records: Sequence[SpoolRecord], sending: Callable[[], Sending]) -> None:
        self._files = len(records)
        self._total_bytes = sum(record.size for record in records)
        self._sending = sending
        self._passed_files = 0
        self._passed_bytes = 0
        self._current: SpoolRecord | None = None
        self._began_bytes = 0

    def begins(self, record: SpoolRecord, file: SpoolFile) -> None:
        """Note that *record* is sent from here on, but for what an earlier try has sent of it."""
        upload = file.record.upload
        sent_before = 0 if upload is None else sum(part.size for part in upload.parts)
        self._current = record
        self._began_bytes = self._sending().wire_bytes - sent_before

    def ends(self, record: SpoolRecord) -> None:
        """Note that nothing more is done for *record*, sent or not."""
        self._passed_files += 1
        self._passed_bytes += record.size
        self._current = None

    def state(self) -> tuple[str, int, int]:
        """Return what is being done, and how many bytes of how many have gone out."""
        current = 0
        if self._current is not None:
            current = min(self._current.size, self._sending().wire_bytes - self._began_bytes)
        text = f"{self._passed_files:,} of {plural(self._files, 'file')}"
        return text, self._passed_bytes + current, self._total_bytes

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Show it while the block runs, on a terminal."""
        with shown_bar("sending") as show, collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._draw, show)
                yield
                nursery.cancel_scope.cancel()
                show(*self.state())

    async def _draw(self, show: Show) -> None:
        while True:
            show(*self.state())
            await trio.sleep(_LOOK_S)
