"""A directory whose last object somebody else has deleted."""

from __future__ import annotations

from tests.mounted.conftest import MakeMount
from tests.support.bucket import Bucket
from tests.support.servers import Server


def test_a_directory_that_others_have_emptied_lists_as_empty(
    real_server: Server, make_mount: MakeMount
) -> None:
    """It is gone, or where the server keeps it (SeaweedFS) empty; it can be used and removed, never EIO."""
    mount = make_mount(real_server, None, "--ttl=0", "--negative-ttl=0")
    bucket = Bucket(real_server, mount.bucket)
    for name in ("looked-at", "used"):
        bucket.put(f"{name}/only.txt", b"x")
        bucket.client.delete_object(Bucket=mount.bucket, Key=f"{name}/only.txt")
    left = {entry.name for entry in mount.path.iterdir()}
    assert left <= {"looked-at", "used"}
    for name in left:
        assert list((mount.path / name).iterdir()) == []
    (mount.path / "used").mkdir(exist_ok=True)
    (mount.path / "used" / "new.txt").write_text("y")
    assert bucket.get("used/new.txt") == b"y"
    (mount.path / "used" / "new.txt").unlink()
    for name in left | {"used"}:
        (mount.path / name).rmdir()
    assert list(mount.path.iterdir()) == []
    assert bucket.keys() == []
