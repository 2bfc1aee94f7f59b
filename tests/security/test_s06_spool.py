"""S-6: what is unsent is its owner's alone, under names that say nothing, in a directory nobody can swap."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3mount.data.spool import SpoolDir
from s3mount.errors import StartupError
from tests.mounted.conftest import MakeMount, make_mount
from tests.security.others import as_other, let_others_to
from tests.support.servers import Server

__all__ = ["make_mount"]


def test_s06_another_user_sees_nothing_of_the_spool(make_mount: MakeMount, minio: Server) -> None:
    """Neither names nor bytes; and a key is in no file's name."""
    mount = make_mount(minio)
    let_others_to(mount.spool / "x")
    with open(mount.path / "geheim.txt", "w") as file:
        file.write("not sent yet")
        file.flush()
        found = list(mount.spool.rglob("*"))
        held = [path for path in found if path.is_file() and b"not sent yet" in path.read_bytes()]
        assert held, found
        for path in found:
            assert "geheim" not in path.name
            assert path.lstat().st_mode & 0o077 == 0
        assert "Permission denied" in as_other("cat", held[0]).stderr
        assert "Permission denied" in as_other("ls", held[0].parent).stderr


@pytest.mark.parametrize("fault", ["mode", "link", "parent"])
def test_s06_a_spool_that_others_could_swap_is_refused(tmp_path: Path, fault: str) -> None:
    """One that others can enter, one behind a link, one in a directory where others may rename it."""
    parent = tmp_path / "parent"
    parent.mkdir()
    spool = parent / "spool"
    if fault == "link":
        (parent / "real").mkdir(mode=0o700)
        spool.symlink_to(parent / "real")
    else:
        spool.mkdir(mode=0o700)
        (spool if fault == "mode" else parent).chmod(0o755 if fault == "mode" else 0o777)
    with pytest.raises(StartupError, match="spool directory"):
        SpoolDir(str(spool), cap_bytes=None, free_floor_bytes=0)
