"""One kernel session: mount, tune, serve until unmounted, clean up.

pyfuse3 keeps its session in module globals, so a process serves one mount.
"""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pyfuse3
import trio

from s3mount.core.exits import Exit
from s3mount.errors import StartupError
from s3mount.fuse.operations import Operations

log = logging.getLogger(__name__)

#: Handlers at work at once. Lookups of one directory come one by one, reads of one file in dozens.
MAX_HANDLERS = 256
#: The largest READ is 1 MiB: the kernel's default read-ahead of 128 KiB would make eight of each.
READ_AHEAD_KB = 1024
#: Requests that the kernel has under way for read-ahead and releases; its default is 12.
MAX_BACKGROUND = 64


def open_session(operations: Operations, mountpoint: str, options: set[str]) -> None:
    """Mount at *mountpoint*. Nothing is answered before :func:`serve` runs.

    Raises: StartupError.
    """
    logging.getLogger("pyfuse3").addFilter(_somebody_waits)
    try:
        pyfuse3.init(operations, mountpoint, options)
    except RuntimeError as exc:
        raise StartupError(
            f"mountpoint {mountpoint}",
            "the kernel refused the mount",
            "see the line above from fusermount3 or mount; as root check that the fuse module is loaded",
            Exit.FUSE,
        ) from exc


async def serve() -> None:
    """Answer the kernel until the mount is gone or :func:`stop` is called."""
    await pyfuse3.main(max_tasks=MAX_HANDLERS)


def stop() -> None:
    """Let :func:`serve` return once the handlers at work are done."""
    pyfuse3.terminate()


def close_session() -> None:
    """Unmount, if it is still mounted, and free the session."""
    pyfuse3.close(unmount=True)


async def tune(mountpoint: str) -> str | None:
    """Widen the kernel's read-ahead and its background queue: an eighth of the requests per GiB.

    Returns the mount's ``major:minor``, None where mountinfo does not show it.

    Only root may; otherwise the kernel's defaults stay. Reads of sysfs alone: the mount is not touched.
    """
    return await trio.to_thread.run_sync(_tune, mountpoint)


def _tune(mountpoint: str) -> str | None:
    device = _device_number(mountpoint)
    if device is None:
        log.debug("no mount at %s in mountinfo, so nothing is tuned", mountpoint)
        return None
    minor = device.partition(":")[2]
    _set(Path(f"/sys/class/bdi/{device}/read_ahead_kb"), READ_AHEAD_KB)
    _set(Path(f"/sys/fs/fuse/connections/{minor}/max_background"), MAX_BACKGROUND)
    _set(Path(f"/sys/fs/fuse/connections/{minor}/congestion_threshold"), MAX_BACKGROUND * 3 // 4)
    return device


def _set(path: Path, value: int) -> None:
    try:
        path.write_text(f"{value}\n", encoding="ascii")
    except OSError as exc:
        log.debug("%s stays as it is: %s", path, exc.strerror)


def _device_number(mountpoint: str) -> str | None:
    """Return ``major:minor`` of the mount that was made last at *mountpoint*."""
    found = None
    for line in (
        Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    ):
        fields = line.split(" ")
        if _unescaped(fields[4]) == mountpoint:
            found = fields[2]
    return found


def _unescaped(field: str) -> str:
    """Undo mountinfo's octal escapes of white space and backslash."""
    for octal, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(octal, character)
    return field


def _somebody_waits(record: logging.LogRecord) -> bool:
    """Whether a record of pyfuse3's is more than an answer that nobody waits for any longer.

    The kernel refuses with ENOENT an answer to a request that it has given up: its caller was killed,
    or the mount went while a RELEASE, which nobody waits for, was on its way.
    """
    return not record.getMessage().endswith(f"fuse_reply_* failed with {os.strerror(errno.ENOENT)}")
