"""S-20: a mount listens nowhere but on its control socket, which its user and root alone can reach."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from s3mount import runtime
from s3mount.control.address import short_address
from tests.cli.command import as_nobody, s3mount
from tests.mounted.conftest import MakeMount, make_mount
from tests.support.servers import Server

__all__ = ["make_mount"]


def listening(pid: int) -> list[str]:
    """Return the sockets on which process *pid* listens: ``port 80`` or a path."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except FileNotFoundError:
            continue  # a connection to the server that has just ended
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for name in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            # 0A is TCP_LISTEN, 07 is TCP_CLOSE, which a bound UDP socket is in.
            if fields[3] == ("0A" if name.startswith("tcp") else "07") and fields[9] in inodes:
                found.append(f"port {int(fields[1].rpartition(':')[2], 16)}")
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        # __SO_ACCEPTCON
        if int(fields[3], 16) & 0x10000 and fields[6] in inodes:
            found.append(fields[7] if len(fields) > 7 else "unnamed")
    return found


def test_s20_a_mount_listens_on_its_control_socket_alone(make_mount: MakeMount, minio: Server) -> None:
    """No port, and one socket of mode 0600 in a directory that nobody else can list or write to."""
    mount = make_mount(minio)
    found = runtime.find(str(mount.path), os.geteuid())
    assert found is not None
    path = runtime.control_socket(*found)
    assert path is not None
    (listener,) = listening(mount.pid)
    assert Path(listener).name == path.name
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    directory = path.parent.lstat()
    assert (directory.st_uid, stat.S_IMODE(directory.st_mode) & 0o066) == (os.geteuid(), 0)


def test_s20_another_user_is_refused(make_mount: MakeMount, minio: Server) -> None:
    """By the socket's mode; and by the mount, where the mode was opened by mistake."""
    mount = make_mount(minio)
    found = runtime.find(str(mount.path), os.geteuid())
    assert found is not None
    path = runtime.control_socket(*found)
    assert path is not None
    launcher = as_nobody(["-c", _ASK])
    assert s3mount(path, launcher=launcher).stdout == "PermissionError\n"
    path.chmod(0o666)
    path.parent.chmod(0o711)
    try:
        answer = s3mount(path, launcher=launcher).stdout
    finally:
        path.parent.chmod(0o700)
    assert '"ok":false' in answer
    assert "belongs to another user" in answer


_ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as s:
    try:
        s.connect(sys.argv[1])
        s.sendall(b'{"version": 1, "command": "status"}\\n')
        print(s.makefile().read())
    except PermissionError as error:
        print(type(error).__name__)
"""


def test_s20_a_hostile_client_does_not_hold_up_the_mount(make_mount: MakeMount, minio: Server) -> None:
    """Connections that say nothing, or garbage without end, cost others nothing."""
    mount = make_mount(minio)
    found = runtime.find(str(mount.path), os.geteuid())
    assert found is not None
    path = runtime.control_socket(*found)
    assert path is not None
    silent = []
    for _ in range(200):
        client = socket.socket(socket.AF_UNIX)
        with short_address(path) as address:
            client.connect(address)
        silent.append(client)
        try:
            client.sendall(b"\xff" * 100)
        except OSError:
            continue  # too many already, and told so
    (mount.path / "f").write_bytes(b"text")
    assert (mount.path / "f").read_bytes() == b"text"
    for client in silent:
        client.close()
    while s3mount("status", mount.path).exit_code:
        pass  # those places are free again as soon as their ends were noticed
