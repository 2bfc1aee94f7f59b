"""Run the ``s3mount`` command as a user does, in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.apart import APART

ROOT = Path(__file__).parents[2]
NOBODY = 65534
DEADLINE_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def line(self) -> str:
        """The single line on standard error, without its end; anything but one line fails the test."""
        lines = self.stderr.splitlines()
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith("s3mount: ")
        return lines[0].removeprefix("s3mount: ")


def s3mount(
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
    launcher: Sequence[str] = (sys.executable, "-m", "s3mount"),
    cwd: Path | None = None,
) -> Outcome:
    """Run ``s3mount ARGUMENTS`` and return how it ended."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "XDG_"))}
    done = subprocess.run(
        [*launcher, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**own, "PYTHONPATH": str(ROOT), **(environment or {})},
        cwd=cwd,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def as_nobody(program: Sequence[str] = ("-m", "s3mount")) -> list[str]:
    """Return a launcher that runs as an ordinary user; skips where this user cannot become one."""
    if os.geteuid() != 0:
        return [sys.executable, *program]
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("needs setpriv to become an ordinary user")
    become = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    # The interpreter may lie in root's home. This capability lets one read anything, and no more.
    reading = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    return [*become, *reading, sys.executable, *program]


def in_private_mounts() -> list[str]:
    """Return a launcher prefix whose mounts nobody else sees; skips where that is not permitted."""
    if shutil.which("unshare") is None or subprocess.run([*APART, "true"], capture_output=True).returncode:
        pytest.skip("needs to be root with mount namespaces")
    return APART
