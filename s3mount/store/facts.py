"""What is known about the server, kept on the local disk so that not every mount has to probe."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from s3mount.core.server_facts import QUESTIONS, ServerFacts
from s3mount.errors import FsError, StoreTimeout
from s3mount.store.base import ObjectStore
from s3mount.store.probe import probe

log = logging.getLogger(__name__)

VERSION: Final = 1
"""Of the file's form, and of what the questions mean: raise it with either."""

MAX_AGE_S: Final = 7 * 24 * 3600
"""A server that was exchanged for another that calls itself the same is found out within a week."""

PROBE_S: Final = 30.0
"""How long a mount may wait for the probe, which takes about ten round trips."""


@dataclass(frozen=True, slots=True)
class FactFile:
    """The facts about one bucket at one endpoint: a JSON file that its owner alone can read.

    Args:
        directory: created with mode 0700 when something is saved.
    """

    directory: Path
    endpoint_url: str
    bucket: str

    @property
    def path(self) -> Path:
        """The file."""
        identity = f"{self.endpoint_url}\0{self.bucket}"
        return self.directory / f"{self.bucket}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.json"

    def load(self, known: ServerFacts, now_s: float) -> ServerFacts | None:
        """Return *known*, completed by what was saved, if that is of this server and not too old."""
        try:
            found = self._read()
        except (OSError, ValueError, RecursionError):
            return None
        if found is None or any(found.get(name) != value for name, value in self._identity(known).items()):
            return None
        at_s, answers = found.get("probed_at"), found.get("facts")
        if not isinstance(at_s, int | float) or not 0 <= now_s - at_s <= MAX_AGE_S:
            return None
        if not isinstance(answers, dict) or set(answers) != set(QUESTIONS):
            return None
        if not all(isinstance(value, bool) for value in answers.values()):
            return None
        return known.answered(answers)

    def save(self, facts: ServerFacts, now_s: float) -> None:
        """Write the file in one step. Raises: OSError."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = {
            **self._identity(facts),
            "probed_at": now_s,
            "facts": {name: getattr(facts, name) for name in QUESTIONS},
        }
        # mkstemp gives mode 0600.
        descriptor, name = tempfile.mkstemp(prefix=".new-", dir=self.directory)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=1)
            os.replace(name, self.path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise

    def _identity(self, facts: ServerFacts) -> dict[str, Any]:
        return {
            "version": VERSION,
            "endpoint": self.endpoint_url,
            "bucket": self.bucket,
            "server": facts.server,
        }

    def _read(self) -> dict[str, Any] | None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return None
            found = json.load(file)
        return found if isinstance(found, dict) else None


async def find_out(
    store: ObjectStore, prefix: str, known: ServerFacts, file: FactFile, *, patience_s: float = PROBE_S
) -> ServerFacts:
    """Return what *file* remembers about the server, or what a probe finds out, which it then remembers.

    Never fails: what could not be found out is taken for not honoured. A WARNING says so, and so does one
    where the server leaves a window.

    Cancel: takes the probe's scratch keys away first.
    """
    if (remembered := file.load(known, time.time())) is not None:
        _warn_of_windows(remembered)
        return remembered
    try:
        with trio.move_on_after(patience_s) as patience:
            findings = await probe(store, prefix, known)
        if patience.cancelled_caught:
            raise StoreTimeout(f"no answers within {patience_s:g} s")
    except FsError as exc:
        warn_of_ignorance(exc)
        return known
    if findings.failures:
        names, failure = ", ".join(findings.failures), next(iter(findings.failures.values()))
        log.warning("whether this server honours %s could not be found out: %s", names, failure)
    else:
        _save(file, findings.facts)
    _warn_of_windows(findings.facts)
    return findings.facts


def warn_of_ignorance(reason: object) -> None:
    """Log what it means that nothing is known about the server."""
    log.warning(
        "what this server honours is not known, so writes ask for another host's changes just before, which "
        "leaves a moment in which those can be lost: %s",
        reason,
    )


def _save(file: FactFile, facts: ServerFacts) -> None:
    try:
        file.save(facts, time.time())
    except OSError as exc:
        log.info("what the server honours is not remembered for the next mount: %s", exc)


def _warn_of_windows(facts: ServerFacts) -> None:
    if windows := facts.windows():
        log.warning(
            "this server leaves a moment between check and write, in which another host's change can be "
            "lost, when %s",
            ", ".join(windows),
        )
