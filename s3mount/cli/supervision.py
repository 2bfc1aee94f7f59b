"""A mount under a service manager: how it is, and a sign of life after each proof of life.

systemd shows the status in ``systemctl status``, waits for a drain that gets on, and restarts a mount whose
signs of life stop.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import trio

from s3mount.cli.words import plural
from s3mount.config import MountConfig
from s3mount.config.units import format_size_short
from s3mount.control.status import Observer, renames_status, uploads_status
from s3mount.core.progress import Progress
from s3mount.core.status import UploadsStatus
from s3mount.mounter.base import Mounter
from s3mount.service import Manager

log = logging.getLogger(__name__)

REPORT_S: Final = 1.0
"""Between two looks at what is to be said."""
EXTENSION_S: Final = 30.0
"""For how long each report of a drain that gets on keeps the manager waiting."""
STALL_S: Final = 60.0
"""A drain that has not moved for so long, or for one operation's time, has no claim to more time."""
MARGIN_S: Final = 2.0
"""What a call into the mount may take beyond ``--operation-timeout``, when every handler has ended."""

LOOK_S: Final = 0.1
"""Between two looks at whether the mount has answered."""


class Supervision:
    """Tells *manager* of the mount of *config*."""

    def __init__(self, manager: Manager, config: MountConfig) -> None:
        self._manager = manager
        self._config = config
        self._place = f"{config.source} at {config.mountpoint}"
        self._said = ""
        self._is_stopping = False

    def ready(self) -> None:
        """Say that the mount answers."""
        self._said = f"serving {self._place}"
        if not self._manager.tell(READY=1, STATUS=self._said):
            log.warning("the service manager does not listen: it is not told how the mount is")

    async def follow(self, observer: Observer, mounter: Mounter) -> None:
        """Report until cancelled. A bug in here ends the reports, and not the mount."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._report, observer)
                if self._manager.watchdog_s is not None:
                    nursery.start_soon(self._watch, observer, mounter, self._manager.watchdog_s)
        except Exception:
            log.exception("the service manager is told no more: a bug in s3mount")
        finally:
            if self._said and not self._is_stopping:
                self._manager.tell(STOPPING=1)  # the end came between two looks

    async def _report(self, observer: Observer) -> None:
        progress = Progress(max(STALL_S, self._config.operation_timeout_s))
        while True:
            uploads = uploads_status(observer.open_files, observer.services)
            told: dict[str, Any] = {}
            if observer.state != "serving":
                if not self._is_stopping:
                    told["STOPPING"] = 1
                if _moves(progress, observer, uploads):
                    told["EXTEND_TIMEOUT_USEC"] = int(EXTENSION_S * 1e6)
            text = status_line(
                self._place, observer.state, uploads, is_reachable=not observer.breaker.is_open
            )
            if self._said and text != self._said:
                told["STATUS"] = text
            if told and self._manager.tell(**told):
                self._said = told.get("STATUS", self._said)
                self._is_stopping = self._is_stopping or "STOPPING" in told
            await trio.sleep(REPORT_S)

    async def _watch(self, observer: Observer, mounter: Mounter, watchdog_s: float) -> None:
        least_s = 2 * (self._config.operation_timeout_s + MARGIN_S)
        if watchdog_s < least_s:
            # While a server hangs, every handler may be taken for an operation's time: that is no hung mount.
            watchdog_s = least_s
            self._manager.tell(WATCHDOG_USEC=int(watchdog_s * 1e6))
        while True:
            if await self._is_alive(observer, mounter, watchdog_s / 2):
                self._manager.tell(WATCHDOG=1)
            else:
                log.error("watchdog: no sign of life from the mount within %.0f s", watchdog_s / 2)
            await trio.sleep(watchdog_s / 4)

    async def _is_alive(self, observer: Observer, mounter: Mounter, within_s: float) -> bool:
        """Whether within *within_s* the loop has turned, a thread has come back, and the mount has answered.

        The thread has no turn at the server: those may all be taken for good reason, by requests that end
        at their deadlines.
        """
        with trio.move_on_after(within_s):
            while observer.state == "serving":
                # Also the proof that a thread comes back.
                answers = await trio.to_thread.run_sync(
                    mounter.answers, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
                )
                if answers is not None:
                    return answers
                await trio.sleep(LOOK_S)
            return True
        return False


def status_line(place: str, state: str, uploads: UploadsStatus, *, is_reachable: bool) -> str:
    """Return a mount's state in one line.

    Args:
        place: ``s3://photos/ at /srv/photos``.
        state: of ``MountStatus``.
    """
    parts = [f"{state} {place}"]
    if uploads.files:
        left = format_size_short(max(0, uploads.size_bytes - uploads.sent_bytes))
        parts.append(f"{plural(uploads.files, 'file')}, {left} to upload")
    if not is_reachable:
        parts.append("the server does not answer")
    return "; ".join(parts)


def _moves(progress: Progress, observer: Observer, uploads: UploadsStatus) -> bool:
    """Whether a drain gets on: requests that succeed, bytes that go out, files, renamed objects.

    A part may take longer than any patience: 5 GiB, or a limit under which the next begins only when the
    seconds of the last are over. Waiting at a limit is no stall, unless the server is out of reach as well.
    """
    succeeded = sum(one.made - one.failed for one in observer.requests().counts)
    renames = [(one.old, one.phase, one.done) for one in renames_status(observer.jobs)]
    sending = observer.sending()
    mark = (succeeded, uploads.files, sending.wire_bytes, renames)
    is_held_back = sending.is_held_back and not observer.breaker.is_open
    return progress.moves(mark, trio.current_time(), is_held_back=is_held_back)
