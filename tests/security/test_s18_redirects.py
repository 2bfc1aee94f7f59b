"""S-18: a redirect ends a mount's first question; nobody else hears of it, and it is not asked for ever.

Each operation and each kind of redirect: test_s16_no_redirect_is_followed.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from tests.cli.command import s3mount
from tests.support.lying_server import listening, read_request


@pytest.mark.parametrize("status", ["301 Moved Permanently", "307 Temporary Redirect"])
def test_s18_a_mount_follows_no_redirect(tmp_path: Path, status: str) -> None:
    """The host that the answer names is never connected to."""
    heard: list[object] = []
    asked: list[bytes] = []

    def canary(connection: socket.socket, _: threading.Event) -> None:
        heard.append(connection.getpeername())

    with listening(canary) as other:

        def redirect(connection: socket.socket, _: threading.Event) -> None:
            asked.append(read_request(connection))
            head = f"HTTP/1.1 {status}\r\nLocation: {other}/bucket\r\nContent-Length: 0\r\n"
            connection.sendall(f"{head}Connection: close\r\n\r\n".encode())

        (tmp_path / "mnt").mkdir()
        with listening(redirect) as url:
            outcome = s3mount(
                *("mount", "bucket", tmp_path / "mnt", "--foreground", "--endpoint-url", url),
                environment={
                    "AWS_ACCESS_KEY_ID": "id",
                    "AWS_SECRET_ACCESS_KEY": "key",
                    "XDG_STATE_HOME": str(tmp_path / "state"),
                },
            )
    if "/dev/fuse" in outcome.stderr:
        pytest.skip("needs /dev/fuse")
    assert outcome.exit_code != 0
    assert heard == []
    assert 1 <= len(asked) <= 2
