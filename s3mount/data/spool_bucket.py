"""Where the files of a spool directory are to go: the journal says it, for commands that have no mount."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from s3mount.data.journal import Journal, JournalDamaged, Schema, open_to_read

SCHEMA: Final = Schema(
    "bucket",
    (
        """CREATE TABLE bucket (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            source TEXT NOT NULL,
            endpoint_url TEXT NOT NULL,
            mountpoint TEXT NOT NULL,
            options TEXT NOT NULL
        )""",
    ),
)


@dataclass(frozen=True, slots=True)
class SpoolBucket:
    """The bucket of the mount that works, or last worked, in a spool directory.

    ``source`` is ``s3://bucket/prefix/``. ``endpoint_url`` is the server that was talked to, whoever
    chose it. ``options`` are what the mount was told about the server, by field of MountConfig; no secrets.
    """

    source: str
    endpoint_url: str
    mountpoint: str = ""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)


def remember_bucket(journal: Journal, bucket: SpoolBucket) -> None:
    """Note *bucket*. Raises: as :meth:`Journal.run`."""
    journal.ensure(SCHEMA)
    values = (bucket.source, bucket.endpoint_url, bucket.mountpoint, json.dumps(dict(bucket.options)))
    statement = "REPLACE INTO bucket (id, source, endpoint_url, mountpoint, options) VALUES (1, ?, ?, ?, ?)"
    journal.run(lambda db: db.execute(statement, values))


def read_bucket(directory: str) -> SpoolBucket | None:
    """Return what was noted in *directory*, None where nobody did. Changes nothing.

    Raises: JournalDamaged.
    """
    with ExitStack() as stack:
        opened = open_to_read(directory)
        if opened is None:
            return None
        db = stack.enter_context(opened)
        try:
            if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'bucket'").fetchone():
                return None
            row = db.execute("SELECT source, endpoint_url, mountpoint, options FROM bucket").fetchone()
            return None if row is None else SpoolBucket(row[0], row[1], row[2], json.loads(row[3]))
        except (sqlite3.Error, ValueError) as exc:
            raise JournalDamaged(f"{directory}: the spool's journal cannot be read: {exc}") from exc
