"""Another user of the machine, with no capability at all."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

NOBODY = 65534


def let_others_to(path: Path) -> None:
    """Open the directories above *path*, which pytest keeps to its user, to those who know a name."""
    for parent in path.parents:
        mode = stat.S_IMODE(parent.stat().st_mode)
        if not mode & 0o001:
            parent.chmod(mode | 0o011)


def as_other(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run *command* as nobody, without groups and capabilities; skips where this user cannot become one."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("needs root and setpriv to become another user")
    become = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all"]
    return subprocess.run([*become, *map(str, command)], cwd="/", capture_output=True, text=True, timeout=30)
