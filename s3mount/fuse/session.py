"""One kernel session: mount, serve until unmounted, clean up.

pyfuse3 keeps its session in module globals, so a process serves one mount.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import Protocol

import pyfuse3

from s3mount.core.exits import Exit
from s3mount.errors import StartupError
from s3mount.fuse.operations import Operations

log = logging.getLogger(__name__)

#: Handlers at work at once. Lookups of one directory come one by one, reads of one file in dozens.
MAX_HANDLERS = 256


class Mounter(Protocol):
    """What a session needs of who mounts; see s3mount/mounter/base.py."""

    def mount(self) -> str:
        """Mount, and return what libfuse is to open. Raises: StartupError."""

    def unmount(self) -> None:
        """Unmount, if it is still mounted."""


def open_session(operations: Operations, mounter: Mounter, options: set[str]) -> None:
    """Mount by *mounter*. Nothing is answered before :func:`serve` runs.

    Raises: StartupError.
    """
    logging.getLogger("pyfuse3").addFilter(_somebody_waits)
    place = mounter.mount()
    try:
        # A name /dev/fd/N is a mount that is made already: libfuse only serves it.
        pyfuse3.init(operations, place, options)
    except RuntimeError as exc:
        mounter.unmount()
        raise StartupError(
            f"mountpoint {place}",
            "the kernel refused the mount",
            "see the line above from fusermount3; check that the fuse module is loaded",
            Exit.FUSE,
        ) from exc


async def serve() -> None:
    """Answer the kernel until the mount is gone or :func:`stop` is called."""
    await pyfuse3.main(max_tasks=MAX_HANDLERS)


def stop() -> None:
    """Let :func:`serve` return once the handlers at work are done."""
    pyfuse3.terminate()


def close_session(mounter: Mounter) -> None:
    """Unmount, if it is still mounted, and free the session."""
    mounter.unmount()
    pyfuse3.close(unmount=True)


def _somebody_waits(record: logging.LogRecord) -> bool:
    """Whether a record of pyfuse3's is more than an answer that nobody waits for any longer.

    The kernel refuses with ENOENT an answer to a request that it has given up: its caller was killed,
    or the mount went while a RELEASE, which nobody waits for, was on its way.
    """
    return not record.getMessage().endswith(f"fuse_reply_* failed with {os.strerror(errno.ENOENT)}")
