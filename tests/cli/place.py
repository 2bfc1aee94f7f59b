"""A mountpoint of the test's own, where something else than S3 is mounted."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from s3mount import runtime
from tests.cli.command import Outcome, s3mount

needs_root_and_fuse = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/fuse").exists(), reason="needs root and /dev/fuse"
)


@dataclass(frozen=True)
class Place:
    """A mountpoint, and a state directory of the test's own."""

    mountpoint: Path
    state: Path

    def s3mount(self, behaviour: str, *arguments: str | Path) -> Outcome:
        """Run ``s3mount`` with *behaviour* in the place of the mount."""
        return s3mount(
            *arguments, launcher=self.launcher(behaviour), environment={"XDG_STATE_HOME": str(self.state)}
        )

    def mount(self, behaviour: str, *options: str | Path) -> Outcome:
        """Run ``s3mount mount bucket MOUNTPOINT``."""
        return self.s3mount(behaviour, "mount", "bucket", self.mountpoint, *options)

    def launcher(self, behaviour: str) -> list[str]:
        """Return the command before the arguments."""
        return [sys.executable, "-m", "tests.cli.fake_mount", behaviour]

    @property
    def log(self) -> Path:
        """The log file that nobody named."""
        (path,) = (self.state / "s3mount" / "log").iterdir()
        return path

    def recorded(self) -> runtime.MountState | None:
        """Return what is on record for the mountpoint."""
        found = runtime.find(str(self.mountpoint), os.geteuid())
        return found[0] if found else None
