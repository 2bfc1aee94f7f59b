"""S-2: a credentials file that others can read, replace or redirect is refused, before any request."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s3mount.core.exits import Exit
from tests.cli.command import s3mount
from tests.security.others import NOBODY


@pytest.mark.parametrize(
    ("fault", "cause"),
    [("mode", "others can read it"), ("link", "symbolic link"), ("owner", "belongs to another user")],
)
def test_s02_an_open_credentials_file_is_refused(tmp_path: Path, fault: str, cause: str) -> None:
    """Mode 0644, a link to a good one, one that another user owns: one line says which."""
    keys, mountpoint = tmp_path / "keys", tmp_path / "mnt"
    mountpoint.mkdir()
    keys.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    keys.chmod(0o644 if fault == "mode" else 0o600)
    if fault == "link":
        (tmp_path / "link").symlink_to(keys)
        keys = tmp_path / "link"
    elif fault == "owner":
        if os.geteuid() != 0:
            pytest.skip("needs root to give a file away")
        os.chown(keys, NOBODY, NOBODY)
    outcome = s3mount(
        "mount",
        "bucket",
        mountpoint,
        f"--credentials-file={keys}",
        environment={"XDG_STATE_HOME": str(tmp_path / "state")},
    )
    if "/dev/fuse" in outcome.stderr:
        pytest.skip("needs /dev/fuse")
    assert outcome.exit_code == Exit.CONFIG
    assert f"credentials file {keys}: " in outcome.line and cause in outcome.line
