"""S-4: a log at its most talkative has no key, no signature, no header that carries one."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.mounted.conftest import MakeMount, make_mount
from tests.security.secrets import NO_KEYS, key_file
from tests.support.servers import Server

__all__ = ["make_mount"]


def test_s04_a_debug_log_has_no_secret(make_mount: MakeMount, minio: Server, tmp_path: Path) -> None:
    """Of a mount that reads, writes, renames, deletes and meets errors; nor has its access log."""
    access = tmp_path / "access.log"
    keys = key_file(minio, tmp_path)
    mount = make_mount(
        minio,
        None,
        f"--credentials-file={keys}",
        "--log-level=debug",
        f"--access-log={access}",
        environment=NO_KEYS,
    )
    (mount.path / "d").mkdir()
    (mount.path / "d" / "f").write_text("text")
    (mount.path / "d" / "f").rename(mount.path / "g")
    assert (mount.path / "g").read_text() == "text"
    assert not (mount.path / "absent").exists()
    (mount.path / "g").unlink()
    mount.stop()
    lines = access.read_text().splitlines()
    assert {"unlink", "rename"} <= {json.loads(line)["operation"] for line in lines}
    log = mount.log.read_text()
    assert " DEBUG " in log
    for text in (log, *lines):
        assert minio.secret_key not in text
        assert not re.search(r"(?i)authorization|signature=|x-amz-security-token|AWS4-HMAC", text)
