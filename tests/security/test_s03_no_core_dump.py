"""S-3: keys and data in the memory of a mount leave it neither as a core dump nor through a debugger."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.security.others import NOBODY
from tests.support.mounting import Mount
from tests.support.servers import Server


class InAnotherGroup(Mount):
    """A mount whose process is of another group than root's: /proc then shows whether it can be dumped."""

    def command(self) -> list[str]:
        """Return the command line of the daemon, with a group of its own."""
        return ["setpriv", f"--regid={NOBODY}", "--keep-groups", *super().command()]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to choose a group")
def test_s03_a_mount_dumps_no_core_and_is_closed_to_its_users_other_processes(
    minio: Server, tmp_path: Path
) -> None:
    """RLIMIT_CORE is 0 for good; what is not dumpable has root's files in /proc, so no ptrace either."""
    with InAnotherGroup(minio, minio.fresh_bucket(), tmp_path, ["--allow-other"]) as mount:
        (mount.path / "f").write_text("text")
        process = Path("/proc") / str(mount.pid)
        assert re.search(r"^Max core file size\s+0\s+0\s", (process / "limits").read_text(), re.MULTILINE)
        assert re.search(rf"^Gid:\s+{NOBODY}\s", (process / "status").read_text(), re.MULTILINE)
        assert (process / "environ").stat().st_gid == 0
