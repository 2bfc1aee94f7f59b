"""A mount whose server is out of reach answers at once, and goes on by itself when it is back."""

from __future__ import annotations

import errno
import itertools
import os

import pytest

from tests.mounted.conftest import MakeMount
from tests.support.counting_proxy import Close, CountingProxy
from tests.support.servers import Server


def test_an_outage_is_noticed_and_ends(make_mount: MakeMount, minio: Server) -> None:
    """Names that nobody has asked for are errors, never absent; afterwards all is as before."""
    with CountingProxy(minio.endpoint_url) as proxy:
        mount = make_mount(
            minio,
            None,
            "--attempts=1",
            "--negative-ttl=0",
            endpoint_url=proxy.endpoint_url,
            expected=["does not answer; what needs it fails at once until it does"],
        )
        (mount.path / "known").write_bytes(b"body")
        with proxy.rule(Close()):
            for number in itertools.count():
                with pytest.raises(OSError, match="Input/output error") as caught:
                    os.stat(mount.path / f"unknown-{number}")
                assert caught.value.errno == errno.EIO
                if "does not answer; what needs it" in mount.log.read_text():
                    break
            proxy.clear()
            for number in range(200):
                with pytest.raises(OSError, match="Input/output error"):
                    os.stat(mount.path / f"still-unknown-{number}")
            assert set(proxy.counts()) <= {"HeadBucket"}
            os.statvfs(mount.path)
            os.stat(mount.path)
        while "answers again" not in mount.log.read_text():
            os.statvfs(mount.path)
        (mount.path / "new").write_bytes(b"body")
        assert (mount.path / "new").read_bytes() == b"body"
        with pytest.raises(FileNotFoundError):
            os.stat(mount.path / "absent")
        mount.stop()
