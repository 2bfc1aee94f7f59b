"""Wait until the bucket has what was written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import trio

from s3mount.core.filestate import FileState
from s3mount.core.status import HeldFile, UploadStatus
from s3mount.fs.open_file import OpenFile

LOOK_S: Final = 0.05
"""How often a file that somebody waits for is looked at: nothing of this costs a request."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the files that were waited for.

    Args:
        files: how many there were.
        left: those that the bucket does not have.
        held: what is in the spool for the user to decide about, and would become one of their keys.
        is_over: nothing more comes of waiting for ``left``: what failed is tried again by itself, though.
    """

    files: int
    left: list[UploadStatus]
    held: list[HeldFile]
    is_over: bool

    def as_json(self) -> dict[str, Any]:
        """Return it as objects that JSON has."""
        return {"is_done": not self.left and not self.held, **asdict(self)}


async def wait_sent(
    files: list[OpenFile],
    describe: Callable[[OpenFile], UploadStatus],
    *,
    timeout_s: float,
    is_over: Callable[[OpenFile], bool],
) -> Outcome:
    """Return when the bucket has all of *files*, when *is_over* says of one that it will not, or in time.

    A file that is unlinked meanwhile is waited for no longer.
    """
    is_lost = False
    with trio.move_on_after(timeout_s):
        while not is_lost and any(map(is_wanted, files)):
            is_lost = any(is_over(file) for file in files if is_wanted(file))
            if not is_lost:
                await trio.sleep(LOOK_S)
    left = [file for file in files if is_wanted(file)]
    return Outcome(len(files), [describe(file) for file in left], [], is_lost)


def is_wanted(file: OpenFile) -> bool:
    """Whether *file* has bytes that the bucket lacks and somebody may want there."""
    return file.is_unsent and (file.node.is_linked or file.state is FileState.CONFLICT)


def waits_for_user(file: OpenFile) -> bool:
    """Whether *file* is not sent by itself: it lost against somebody else's, or the disk has failed it."""
    is_poisoned = file.spool is not None and file.spool.poison is not None
    return file.state is FileState.CONFLICT or is_poisoned
