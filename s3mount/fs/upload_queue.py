"""Which file is sent next, and when: uploads that no program waits for.

Every file whose close has been answered and whose bytes the bucket does not have is in the queue: after
a close in write-back mode, after an upload that failed, and what an earlier mount has left. It is tried
until the bucket has it, however long that takes.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from s3mount.store.base import Breaker

if TYPE_CHECKING:
    from s3mount.fs.open_file import OpenFile

log = logging.getLogger(__name__)

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 300.0
"""The wait after a failure doubles from the first to the last of these."""


class UploadQueue:
    """Files by the time at which each is due; one that is being sent is not among them.

    Args:
        delay_s: between a close and its upload. A file that is closed again meanwhile is sent once.
        files_at_once: files that are sent at the same time.
        most_files: beyond this many a close had better wait for its upload: each has a descriptor open.
        rng: of the jitter, so that files that failed together do not come back together.
    """

    def __init__(
        self, *, delay_s: float, files_at_once: int, most_files: int, rng: random.Random | None = None
    ) -> None:
        self._delay_s = delay_s
        self._files_at_once = files_at_once
        self._most_files = most_files
        self._rng = random.Random() if rng is None else rng
        self._due: dict[OpenFile, float] = {}
        self._sending: set[OpenFile] = set()
        self._is_held = False
        self._changed = trio.Event()

    def __len__(self) -> int:
        return len(self._due) + len(self._sending)

    @property
    def is_full(self) -> bool:
        """Whether a close had better wait for its own upload."""
        return len(self) >= self._most_files

    def put(self, file: OpenFile, *, is_failure: bool = False, at_once: bool = False) -> None:
        """Let *file* be sent: after the delay; after a failure later and later; or *at_once*.

        One that waits already keeps its time, unless the new one is earlier or it has failed.
        """
        now = trio.current_time()
        if is_failure:
            due = now + self._backoff_s(file.failures)
        else:
            due = min(now + (0.0 if at_once else self._delay_s), self._due.get(file, float("inf")))
        self._due[file] = due
        self._wake()

    @property
    def is_held(self) -> bool:
        """Whether nothing is tried, since the store is out of reach."""
        return self._is_held

    def due_in_s(self, file: OpenFile) -> float | None:
        """Return when *file* is sent; None where it does not wait, or is being sent."""
        due = self._due.get(file)
        if due is None or file in self._sending:
            return None
        return max(0.0, due - trio.current_time())

    def hurry(self) -> None:
        """Let everything that waits be sent now: the server is back, or somebody waits."""
        now = trio.current_time()
        self._due = dict.fromkeys(self._due, now)
        self._wake()

    async def follow(self, breaker: Breaker) -> None:
        """Try nothing while the store is out of reach, and everything as soon as it is back; for ever."""
        while True:
            await breaker.wait_open()
            self._is_held = True
            await breaker.wait_closed()
            self._is_held = False
            self.hurry()

    async def run(self, send: Callable[[OpenFile], Awaitable[None]]) -> None:
        """Send what is due, for ever.

        Args:
            send: tries once.

        Cancel: what is being sent is given up, and is unsent.
        """
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                self._start_due(nursery, send)
                with trio.move_on_at(self._next_due()):
                    await self._changed.wait()

    def _next_due(self) -> float:
        if self._is_held or len(self._sending) >= self._files_at_once:
            return float("inf")
        return min(
            (due for file, due in self._due.items() if file not in self._sending), default=float("inf")
        )

    def _start_due(self, nursery: trio.Nursery, send: Callable[[OpenFile], Awaitable[None]]) -> None:
        if self._is_held:
            return
        now = trio.current_time()
        ready = [file for file, due in self._due.items() if due <= now and file not in self._sending]
        ready.sort(key=self._due.__getitem__)
        for file in ready[: self._files_at_once - len(self._sending)]:
            del self._due[file]
            self._sending.add(file)
            nursery.start_soon(self._send, file, send)

    async def _send(self, file: OpenFile, send: Callable[[OpenFile], Awaitable[None]]) -> None:
        try:
            await send(file)
        except Exception:
            # A bug that one file has met is no reason to leave the others behind.
            log.exception("upload of %s failed: a bug in s3mount", file.node.path())
            file.failures += 1
        finally:
            self._sending.discard(file)
            if file.is_waiting and file not in self._due:
                self.put(file, is_failure=file.failures > 0)  # it gave way to somebody
            self._wake()

    def _backoff_s(self, failures: int) -> float:
        longest = min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(max(0, failures - 1), 30))
        return self._rng.uniform(0.5, 1) * longest

    def _wake(self) -> None:
        self._changed.set()
