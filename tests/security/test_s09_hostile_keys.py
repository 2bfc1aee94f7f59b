"""S-9: no key leads a program out of the mount, or is taken for another one."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import ServerPool
from tests.mounted.conftest import MakeMount, make_mount
from tests.support.bucket import Bucket
from tests.support.mounting import Tools

__all__ = ["make_mount"]

KEYS = ["../up", "a/../../../outside", "..", ".", "/etc/hosts", "//", "a//b", "n\0l", "x" * 300, "d", "d/e"]


def test_s09_programs_that_walk_and_delete_stay_within_the_mount(
    server_pool: ServerPool, make_mount: MakeMount, tmp_path: Path
) -> None:
    """cp -r finds one file for each key and makes none elsewhere; rm -r takes all of them, no other."""
    moto = server_pool.get("moto")
    bucket = Bucket(moto, moto.fresh_bucket())
    for number, key in enumerate(KEYS):
        bucket.put(f"in/{key}", f"body {number}".encode())
    bucket.put("beside", b"stays")
    mount = make_mount(moto, bucket.name)
    tools = Tools(mount)
    (tmp_path / "below" / "copy").mkdir(parents=True)
    tools.run("cp", "-r", "in", str(tmp_path / "below" / "copy"))
    copied = [path for path in (tmp_path / "below").rglob("*") if path.is_file()]
    assert sorted(path.read_text() for path in copied) == sorted(f"body {n}" for n in range(len(KEYS)))
    tools.run("rm", "-r", "in")
    assert set(bucket.keys()) <= {"beside"}
    assert bucket.get("beside") == b"stays"
