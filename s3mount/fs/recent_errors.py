"""The errors that were met of late, for ``s3mount explain``: what the log says, by path and in fields."""

from __future__ import annotations

import errno
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from s3mount.core.advice import advice_for
from s3mount.core.status import ErrorRecord
from s3mount.errors import FsError, answer_behind

MOST: Final = 256
"""Errors that are remembered; the one that was met longest ago goes first."""
MOST_TEXT: Final = 1000
"""Characters of a message that are kept: a server may say anything."""

_Same = tuple[str, str, str, int | None, str | None]


class RecentErrors:
    """A bounded list of errors; one that is met again counts up instead of pushing others out.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, *, most: int = MOST, clock: Callable[[], float] = time.time) -> None:
        self._most = most
        self._clock = clock
        self._records: OrderedDict[_Same, ErrorRecord] = OrderedDict()

    def note(self, operation: str, path: str, error: FsError) -> None:
        """Remember that *operation* on *path* met *error*."""
        answer = answer_behind(error)
        name = errno.errorcode[error.errno]
        status, code = (None, None) if answer is None else (answer.http_status, answer.code)
        same = (operation, path, name, status, code)
        known = self._records.pop(same, None)
        record = ErrorRecord(
            at_s=self._clock(),
            count=1 if known is None else known.count + 1,
            operation=operation,
            path=path,
            error=name,
            message=str(error)[:MOST_TEXT],
            advice=advice_for(error, status, code),
        )
        if answer is not None:
            record = replace(
                record,
                request=answer.operation,
                key=answer.key,
                http_status=answer.http_status,
                code=answer.code,
                said=answer.message[:MOST_TEXT],
                request_id=answer.request_id,
            )
        self._records[same] = record
        if len(self._records) > self._most:
            self._records.popitem(last=False)

    def __iter__(self) -> Iterator[ErrorRecord]:
        """Yield the records, the last one first."""
        return reversed(list(self._records.values()))

    def of_path(self, path: str) -> list[ErrorRecord]:
        """Return what was met at *path* and below it, the last one first."""
        below = path.rstrip("/") + "/"
        return [one for one in self if one.path == path or one.path.startswith(below)]

    def of_errno(self, name: str) -> list[ErrorRecord]:
        """Return what became the errno of that *name* (``EACCES``), the last one first."""
        return [one for one in self if one.error == name]
