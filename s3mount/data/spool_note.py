"""The note beside a spool file that was kept: which object it was to become."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass

NOTE_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class SpoolNote:
    """What is known of a kept file; stored as JSON in ``PATH.json``.

    ``present`` lists the ranges that are here, None if all are; what else lies below ``base_limit``
    is to be taken from the object with ``base_etag``. ``poison`` says why it must not be uploaded.
    """

    key: str
    size: int
    time_ns: int
    base_etag: str | None = None
    base_limit: int = 0
    present: tuple[tuple[int, int], ...] | None = None
    poison: str | None = None

    def write(self, path: str) -> None:
        """Put the note beside the file at *path*, whole or not at all, and safe from a crash."""
        fresh = path + NOTE_SUFFIX + ".new"
        with suppress(FileNotFoundError):
            os.unlink(fresh)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(fresh, flags, 0o600), "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(fresh, path + NOTE_SUFFIX)

    @classmethod
    def read(cls, path: str) -> SpoolNote | None:
        """Return the note beside the file at *path*, None if there is none that can be read."""
        try:
            with open(path + NOTE_SUFFIX, encoding="utf-8") as file:
                fields = json.load(file)
            present = fields.pop("present")
            ranges = None if present is None else tuple((int(start), int(stop)) for start, stop in present)
            return cls(**fields, present=ranges)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    @staticmethod
    def remove(path: str) -> None:
        """Take the note beside the file at *path* away; none is fine."""
        with suppress(FileNotFoundError):
            os.unlink(path + NOTE_SUFFIX)
