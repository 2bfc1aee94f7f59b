"""A program that works on a mount and keeps a manifest of what was promised to it.

``python -m tests.crash.agent WORK ROOT MANIFEST``. The manifest, on another disk, gets a line of JSON,
synced, before each step begins and after each phase of it that the file system has answered for:
"begin", "edit", "synced", "done"; "failed" is the last.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.crash.works import WORKS, Work

INTERRUPTED = 3


@dataclass
class Progress:
    """What a manifest says: how many steps were done, and how far the next one came.

    ``step`` is the number of the step that had begun and was not done, None if there is none.
    """

    done: int = 0
    step: int | None = None
    edits: int = 0
    is_synced: bool = False
    error: str = ""

    @classmethod
    def read(cls, path: Path) -> Progress:
        """Read the lines that were written whole."""
        progress = cls()
        text = path.read_text() if path.exists() else ""
        for line in text.splitlines(keepends=True):
            if line.endswith("\n"):
                progress._take(**json.loads(line))
        return progress

    def _take(self, step: int, phase: str, error: str = "") -> None:
        if phase == "begin":
            self.step, self.edits, self.is_synced = step, 0, False
        elif phase == "done":
            self.done, self.step = step + 1, None
        self.edits += phase == "edit"
        self.is_synced |= phase == "synced"
        self.error = error


def carry_out(work: Work, root: Path, manifest: Path) -> bool:
    """Do the steps; return whether all succeeded."""
    descriptor = os.open(manifest, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def note(step: int, phase: str, **more: str) -> None:
        os.write(descriptor, json.dumps({"step": step, "phase": phase, **more}).encode() + b"\n")
        os.fsync(descriptor)

    for number, step in enumerate(work.steps):
        note(number, "begin")
        try:
            step.do(root, partial(note, number))
        except OSError as exc:
            note(number, "failed", error=str(exc))
            return False
        note(number, "done")
    return True


def main() -> None:
    """Do as the arguments say."""
    name, root, manifest = sys.argv[1:]
    sys.exit(0 if carry_out(WORKS[name](), Path(root), Path(manifest)) else INTERRUPTED)


if __name__ == "__main__":
    main()
