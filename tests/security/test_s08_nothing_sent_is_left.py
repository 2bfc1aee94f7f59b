"""S-8: what the bucket has is on this machine's disk no more, and never was readable by others."""

from __future__ import annotations

from pathlib import Path

from tests.mounted.conftest import MakeMount, make_mount
from tests.security.others import as_other, let_others_to
from tests.security.test_s07_nothing_read_is_kept_on_disk import os_random_text
from tests.support.servers import Server

__all__ = ["make_mount"]


def holding(marker: bytes, directory: Path) -> list[Path]:
    """Return the files below *directory* that have *marker* in them."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return [path for path in files if marker in path.read_bytes()]


def test_s08_after_unmounting_no_file_has_what_was_written(make_mount: MakeMount, minio: Server) -> None:
    """Neither the spool's files nor its journal, though the file waited there; the directory stays closed."""
    mount = make_mount(minio, None, "--write-back=1h")
    marker = os_random_text()
    (mount.path / "f").write_bytes(marker * 1000)
    (held,) = holding(marker, mount.spool)
    mount.stop()
    assert holding(marker, mount.spool) == []
    let_others_to(held.parent)
    assert "Permission denied" in as_other("ls", held.parent).stderr
