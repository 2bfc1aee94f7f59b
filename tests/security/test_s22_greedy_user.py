"""S-22: who takes all there is gets an errno, and the others go on.

Descriptors, memory and storms of both: tests/mounted/test_caps.py.
"""

from __future__ import annotations

import os

import pytest

from tests.mounted.conftest import MakeMount, make_mount
from tests.support.bucket import Bucket
from tests.support.servers import Server

__all__ = ["make_mount"]

MIB = 1 << 20


def test_s22_who_fills_the_spool_gets_enospc_and_others_go_on(make_mount: MakeMount, minio: Server) -> None:
    """Reading, listing, and writing again as soon as there is room."""
    bucket = Bucket(minio, minio.fresh_bucket())
    bucket.put("other", b"of another user")
    mount = make_mount(minio, bucket.name, "--spool-cap=16M", expected=["spool"])
    greedy = os.open(mount.path / "greedy", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="No space left"):
        for _ in range(64):
            assert os.write(greedy, bytes(MIB)) == MIB
    assert (mount.path / "other").stat().st_size == 15
    assert (mount.path / "other").read_bytes() == b"of another user"
    with pytest.raises(OSError, match="No space left"):
        os.close(greedy)  # what could not be written is not taken for a file
    (mount.path / "greedy").unlink()
    (mount.path / "modest").write_bytes(b"room again")
    assert bucket.get("modest") == b"room again"
