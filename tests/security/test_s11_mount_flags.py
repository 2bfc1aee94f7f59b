"""S-11: every mount is nosuid and nodev, and cannot be made otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s3mount.core.exits import Exit
from tests.cli.command import s3mount
from tests.mounted.conftest import MakeMount, make_mount
from tests.support.servers import Server

__all__ = ["make_mount"]


def test_s11_the_kernel_has_the_mount_as_nosuid_and_nodev(make_mount: MakeMount, minio: Server) -> None:
    """Also where other flags are asked for."""
    mount = make_mount(minio, None, "-o", "exec,atime")
    flags = os.statvfs(mount.path).f_flag
    assert flags & os.ST_NOSUID
    assert flags & os.ST_NODEV


@pytest.mark.parametrize("option", ["suid", "dev"])
def test_s11_suid_and_dev_are_refused(tmp_path: Path, option: str) -> None:
    """Not taken in silence, as an entry of fstab would need."""
    outcome = s3mount("mount", "bucket", tmp_path, "-o", option)
    assert outcome.exit_code == Exit.USAGE
    assert "could then gain privileges" in outcome.line
