"""The control socket: whatever a client does, the others are answered and the mount goes on."""

from __future__ import annotations

import functools
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from s3mount.control import server as server_module
from s3mount.control.address import short_address
from s3mount.control.client import NoMount, ask
from s3mount.control.protocol import MOST_REQUEST_BYTES, ControlError, Request, read_answer
from s3mount.control.server import MOST_CLIENTS, ControlServer, serving
from s3mount.errors import NotFound

Test = Callable[[Path], Awaitable[None]]


async def answer(request: Request) -> dict[str, Any]:
    """Say what was asked; fail in one of three ways; or never come to an end."""
    match request.command:
        case "refuse":
            raise ControlError("not today")
        case "miss":
            raise NotFound("/f: no entry")
        case "crash":
            raise ZeroDivisionError("secret")
        case "hang":
            await trio.sleep_forever()
    return {"asked": dict(request.arguments)}


def run(tmp_path: Path, test: Test) -> None:
    """Run *test* with a socket that *answer* serves, and see that nothing of it is left."""
    path = tmp_path / "control.sock"

    async def main() -> None:
        with trio.fail_after(60):
            async with serving(path, answer):
                await test(path)

    trio.run(main)
    assert not path.exists()


async def asking(socket_path: Path, command: str, **arguments: Any) -> dict[str, Any]:
    """Ask as commands do, from another thread."""
    call = functools.partial(ask, socket_path, command, arguments, timeout_s=20)
    return await trio.to_thread.run_sync(call)


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[trio.SocketStream]:
    """Connect without saying anything."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short_address(path) as address:
        sock.connect(address)
    sock.setblocking(False)
    async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
        yield stream


async def rest(stream: trio.SocketStream) -> bytes:
    """Return everything that comes until the end."""
    received = bytearray()
    while data := await stream.receive_some(65536):
        received += data
    return bytes(received)


def test_a_request_is_answered(tmp_path: Path) -> None:
    """With what its command says."""

    async def test(path: Path) -> None:
        answer = await asking(path, "echo", path="/a\udcff")
        assert answer == {"version": 1, "ok": True, "asked": {"path": "/a\udcff"}}

    run(tmp_path, test)


def test_nobody_else_can_reach_the_socket(tmp_path: Path) -> None:
    """Its mode is 0600 from the first moment, whatever the umask is."""
    old = os.umask(0)
    try:

        async def test(path: Path) -> None:
            found = os.lstat(path)
            assert stat.S_ISSOCK(found.st_mode)
            assert stat.S_IMODE(found.st_mode) == 0o600

        run(tmp_path, test)
    finally:
        os.umask(old)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("refuse", "^not today$"),
        ("miss", "^/f: no entry$"),
        ("crash", "^a bug .* .ZeroDivisionError"),
    ],
)
def test_a_command_that_fails_is_refused_with_its_reason(
    tmp_path: Path, command: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug as well, without its message, and the next request is answered."""

    async def test(path: Path) -> None:
        with pytest.raises(ControlError, match=said) as caught:
            await asking(path, command)
        assert "secret" not in str(caught.value)
        assert (await asking(path, "echo"))["ok"]

    run(tmp_path, test)
    assert ("a bug in s3mount" in caplog.text) is (command == "crash")


def test_who_is_another_user_is_refused(tmp_path: Path) -> None:
    """Even over a connection that was handed to it: the kernel says who made it."""

    async def main() -> None:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        left.setblocking(False)
        right.setblocking(False)
        server = ControlServer(answer, user=os.geteuid() + 1)
        server._users = {os.geteuid() + 1}
        async with trio.open_nursery() as nursery:
            theirs = trio.SocketStream(trio.socket.from_stdlib_socket(left))
            nursery.start_soon(server._attend, trio.SocketStream(trio.socket.from_stdlib_socket(right)))
            async with theirs:
                with pytest.raises(ControlError, match="another user"):
                    read_answer(await rest(theirs))

    trio.run(main)


def test_a_client_that_says_nothing_is_cut_off(tmp_path: Path) -> None:
    """Its turn ends after a while, and it is told."""

    async def main() -> None:
        left, right = (trio.socket.from_stdlib_socket(one) for one in _pair())
        server = ControlServer(answer, request_s=0.05)
        async with trio.open_nursery() as nursery, trio.SocketStream(left) as theirs:
            nursery.start_soon(server._attend, trio.SocketStream(right))
            await theirs.send_all(b'{"version": 1,')
            with pytest.raises(ControlError, match="in time"):
                read_answer(await rest(theirs))

    trio.run(main)


def test_a_request_without_end_is_refused(tmp_path: Path) -> None:
    """It is read up to its bound and no further, and the next client is answered."""

    async def test(path: Path) -> None:
        async with connected(path) as stream:
            with pytest.raises(trio.BrokenResourceError):
                for _ in range(MOST_REQUEST_BYTES):
                    await stream.send_all(b"x" * 1024)
        assert (await asking(path, "echo"))["ok"]

    run(tmp_path, test)


def test_more_clients_than_there_are_places_are_told_so(tmp_path: Path) -> None:
    """Who came before keeps its place, and a place that is left is given again."""

    async def test(path: Path) -> None:
        async with trio.open_nursery() as nursery:
            here: list[trio.SocketStream] = []
            everybody_is = trio.Event()
            leave = trio.Event()

            async def stay() -> None:
                async with connected(path) as stream:
                    here.append(stream)
                    await stream.send_all(b'{"version": 1, "command": "hang"}\n')
                    if len(here) == MOST_CLIENTS:
                        everybody_is.set()
                    await leave.wait()

            for _ in range(MOST_CLIENTS):
                nursery.start_soon(stay)
            await everybody_is.wait()
            with pytest.raises(ControlError, match="too many clients"):
                await asking(path, "echo")
            leave.set()
        while True:
            try:
                assert (await asking(path, "echo"))["ok"]
                return
            except ControlError:
                await trio.lowlevel.checkpoint()  # the server has not seen yet that they have gone

    run(tmp_path, test)


def test_who_hangs_up_is_worked_for_no_longer(tmp_path: Path) -> None:
    """A command that waits ends with its client."""
    ended: list[bool] = []

    async def main() -> None:
        left, right = (trio.socket.from_stdlib_socket(one) for one in _pair())
        began = trio.Event()

        async def wait(request: Request) -> dict[str, Any]:
            began.set()
            try:
                await trio.sleep_forever()
            finally:
                ended.append(True)
            raise AssertionError

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ControlServer(wait)._attend, trio.SocketStream(right))
            async with trio.SocketStream(left) as theirs:
                await theirs.send_all(b'{"version": 1, "command": "wait"}\n')
                await began.wait()

    trio.run(main)
    assert ended == [True]


def test_who_only_says_that_there_is_no_more_is_answered(tmp_path: Path) -> None:
    """`echo … | nc -U` closes its side for writing at once."""

    async def test(path: Path) -> None:
        async with connected(path) as stream:
            await stream.send_all(b'{"version": 1, "command": "echo"}\n')
            stream.socket.shutdown(socket.SHUT_WR)
            assert read_answer(await rest(stream))["ok"]

    run(tmp_path, test)


def test_a_path_longer_than_an_address_works(tmp_path: Path) -> None:
    """A socket's address has 108 bytes, and XDG_RUNTIME_DIR may have more."""
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)

    async def test(path: Path) -> None:
        assert (await asking(path, "echo"))["ok"]

    run(directory, test)


def test_where_no_socket_can_be_made_the_mount_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once."""

    async def main() -> None:
        async with serving(tmp_path / "missing" / "control.sock", answer):
            await trio.lowlevel.checkpoint()

    trio.run(main)
    assert "no control socket" in caplog.text


def test_a_dead_socket_is_no_mount(tmp_path: Path) -> None:
    """Whoever was killed has left its socket: nobody answers there, which is said at once."""
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(NoMount, match="refused"):
        ask(path, "status")
    with pytest.raises(NoMount, match="No such file"):
        ask(tmp_path / "none.sock", "status")


def test_who_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    """A process that is stuck accepts and is silent."""
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen(1)
        with pytest.raises(NoMount, match="no answer within 0.05 s"):
            ask(path, "status", timeout_s=0.05)


def test_a_bug_in_the_server_does_not_reach_the_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody foresaw ends one conversation."""

    def break_down(connection: object) -> int:
        raise ZeroDivisionError

    async def test(path: Path) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(server_module, "peer_user", break_down)
            with pytest.raises(NoMount, match="ended before the answer|reset|Broken pipe"):
                await asking(path, "echo")
        assert (await asking(path, "echo"))["ok"]

    run(tmp_path, test)
    assert "a bug in s3mount" in caplog.text


def _pair() -> tuple[socket.socket, socket.socket]:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    left.setblocking(False)
    right.setblocking(False)
    return left, right
