"""S-7: no block of an object is kept on a disk, so there is none that could be swapped or changed there."""

from __future__ import annotations

from pathlib import Path

from tests.mounted.conftest import MakeMount, make_mount
from tests.support.bucket import Bucket
from tests.support.servers import Server

__all__ = ["make_mount"]


def test_s07_what_is_read_is_cached_in_memory_alone(
    make_mount: MakeMount, minio: Server, tmp_path: Path
) -> None:
    """Also where a cache directory is named: it has what is known of the server, and no byte of a file."""
    bucket = Bucket(minio, minio.fresh_bucket())
    marker = os_random_text()
    bucket.put("f", marker * 1000)
    cache = tmp_path / "cache"
    mount = make_mount(minio, bucket.name, f"--cache-dir={cache}")
    assert (mount.path / "f").read_bytes() == marker * 1000
    found = [path for base in (cache, mount.spool) for path in base.rglob("*") if path.is_file()]
    assert found
    assert [path for path in found if marker in path.read_bytes()] == []


def os_random_text() -> bytes:
    """Return bytes that are nowhere by chance."""
    return b"<marker " + Path("/proc/sys/kernel/random/uuid").read_bytes().strip() + b">"
