"""The kernel's side of a mount: its number, its read-ahead and its background queue.

Reads and writes of /proc and /sys alone: the mount itself is not touched.
"""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger(__name__)

#: The largest READ is 1 MiB: the kernel's default read-ahead of 128 KiB would make eight of each.
READ_AHEAD_KB = 1024
#: Requests that the kernel has under way for read-ahead and releases; its default is 12.
MAX_BACKGROUND = 64


def tune(mountpoint: str) -> str | None:
    """Widen read-ahead and background queue of the mount: an eighth of the requests per GiB.

    Only root may, and only once the kernel has the daemon's first answer, which sets both; otherwise the
    kernel's defaults stay.

    Returns the mount's ``major:minor``, None where mountinfo does not show it.
    """
    device = device_of(mountpoint)
    if device is None:
        log.debug("no mount at %s in mountinfo, so nothing is tuned", mountpoint)
        return None
    minor = device.partition(":")[2]
    _set(Path(f"/sys/class/bdi/{device}/read_ahead_kb"), READ_AHEAD_KB)
    _set(Path(f"/sys/fs/fuse/connections/{minor}/max_background"), MAX_BACKGROUND)
    _set(Path(f"/sys/fs/fuse/connections/{minor}/congestion_threshold"), MAX_BACKGROUND * 3 // 4)
    return device


def device_of(mountpoint: str) -> str | None:
    """Return ``major:minor`` of the mount that was made last at *mountpoint*, None where there is none."""
    found = None
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    for line in text.splitlines():
        fields = line.split(" ")
        if _unescaped(fields[4]) == mountpoint:
            found = fields[2]
    return found


def _set(path: Path, value: int) -> None:
    try:
        path.write_text(f"{value}\n", encoding="ascii")
    except OSError as exc:
        log.debug("%s stays as it is: %s", path, exc.strerror)


def _unescaped(field: str) -> str:
    """Undo mountinfo's octal escapes of white space and backslash."""
    for octal, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(octal, character)
    return field
