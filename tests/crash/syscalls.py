"""Stops a daemon at exactly its k-th system call of a kind, and kills it there.

The calls of all its threads count together, and only those that matter: a write to the log is no event.
strace's ``inject=…:when=k`` counts each thread by itself, and a path must be known before; so this uses
what the kernel has for supervisors, seccomp's user notification: the call waits until it is answered
for, here, by a thread of the test::

    with SyscallWatch(spool) as watch:
        ...  # start watch.prefix() + command
        watch.arm(Kind.SYNC, 3)
        ...
        assert watch.fired is not None
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType

LAUNCHER = Path(__file__).with_name("launch.py")

#: Numbers of the calls (x86_64, aarch64), from the kernel's tables; None where there is none.
NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "write": (1, 64),
    "pwrite64": (18, 68),
    "writev": (20, 66),
    "pwritev": (296, 70),
    "ftruncate": (77, 46),
    "sendfile": (40, 71),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "unlink": (87, None),
    "unlinkat": (263, 35),
}
#: The calls that carry no descriptor but a path, by the place of its directory and of its name.
PATHS = {
    "rename": (None, 0),
    "renameat": (0, 1),
    "renameat2": (0, 1),
    "unlink": (None, 0),
    "unlinkat": (0, 1),
}
SENDERS = frozenset({"write", "writev", "sendfile", "sendto", "sendmsg"})
SYNCS = frozenset({"fsync", "fdatasync"})
#: Those whose arguments do not say at once how many bytes they move.
UNSIZED = SYNCS | {"ftruncate", "writev", "pwritev", "sendmsg"}

# include/uapi/linux/seccomp.h
NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101
LET_IT_HAPPEN = 1
NOTIFICATION = struct.Struct("=QIIiIQ6Q")
ANSWER = struct.Struct("=QqiI")
PIDFD_GETFD = 438


class Kind(StrEnum):
    """What a system call is to the daemon."""

    WRITE = "write"
    """Bytes, or a new size, for a file of the spool: data or journal."""
    SYNC = "sync"
    RENAME = "rename"
    UNLINK = "unlink"
    SEND = "send"
    """Bytes for the server."""
    ANSWER = "answer"
    """To the kernel: what the program waits for."""


@dataclass(frozen=True)
class Call:
    """A system call that waits: of process *pid*, with its *path* or what its descriptor *fd* is."""

    pid: int
    kind: Kind
    name: str
    path: str
    fd: int = -1
    size: int = 0


#: What is done at the chosen call before the process is killed.
Action = Callable[[Call], None]


class SyscallWatch:
    """Supervises the processes that begin with :meth:`prefix`; one after the other.

    Args:
        spool: the directory whose files count.
    """

    def __init__(self, spool: Path) -> None:
        self._fired: Call | None = None
        self._spool = str(spool)
        self._lock = threading.Lock()
        self._counts: Counter[Kind] = Counter()
        self._sent_bytes = 0
        self._armed: Callable[[Call, Counter[Kind], int], bool] | None = None
        self._action: Action | None = None
        self._home = tempfile.TemporaryDirectory(prefix="s3mount-watch-")
        self._address = str(Path(self._home.name) / "s")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self._address)
        self._listener.listen()
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._internet: dict[str, bool] = {}
        column = ("x86_64", "aarch64").index(platform.machine())
        self._names = {row[column]: name for name, row in NUMBERS.items() if row[column] is not None}
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> SyscallWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._listener.close()
        self._home.cleanup()
        if self._failure is not None and kind is None:
            raise self._failure

    @property
    def fired(self) -> Call | None:
        """The call at which the process dies, or did; None before. An action under way is waited for."""
        with self._lock:
            return self._fired

    def prefix(self) -> list[str]:
        """Return the beginning of a command line that is to be watched."""
        numbers = ",".join(str(number) for number in self._names)
        return [sys.executable, "-S", "-E", str(LAUNCHER), self._address, numbers]

    def arm(self, kind: Kind, number: int, action: Action | None = None) -> None:
        """Begin to count anew; at call *number* of *kind*, from 1 on, the process dies, by SIGKILL.

        The call does not happen, and *action* does, before.
        """
        self._arm(lambda call, counts, sent: call.kind is kind and counts[kind] == number, action)

    def arm_bytes(self, sent_bytes: int) -> None:
        """Begin to count anew; the process dies once that many bytes have been given to sockets."""
        self._arm(lambda call, counts, sent: sent >= sent_bytes, None)

    def disarm(self) -> Counter[Kind]:
        """Let everything happen from now on; return how many calls of each kind there were since arming."""
        with self._lock:
            self._armed = None
            return Counter(self._counts)

    def _arm(self, applies: Callable[[Call, Counter[Kind], int], bool], action: Action | None) -> None:
        with self._lock:
            self._fired = None
            self._counts = Counter()
            self._sent_bytes = 0
            self._armed, self._action = applies, action

    def _run(self) -> None:
        try:
            while (accepted := self._accept()) is not None:
                with closing(accepted):
                    pid, listener = self._take_listener(accepted)
                try:
                    self._supervise(pid, listener)
                finally:
                    os.close(listener)
        except BaseException as exc:  # noqa: BLE001  (raised again by who uses it)
            self._failure = exc

    def _accept(self) -> socket.socket | None:
        while not self._stopping.is_set():
            if select.select([self._listener], [], [], 0.1)[0]:
                return self._listener.accept()[0]
        return None

    @staticmethod
    def _take_listener(talk: socket.socket) -> tuple[int, int]:
        credentials = talk.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid: int = struct.unpack("3i", credentials)[0]
        (number,) = struct.unpack("i", talk.recv(4))
        deadline = time.monotonic() + 10
        link = ""
        while link != "anon_inode:seccomp notify":
            assert time.monotonic() < deadline, "no filter in the process that was to have one"
            with suppress(FileNotFoundError):
                link = os.readlink(f"/proc/{pid}/fd/{number}")
        listener = descriptor_of(pid, number)
        talk.sendall(b"!")
        return pid, listener

    def _supervise(self, pid: int, listener: int) -> None:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        self._internet.clear()
        process = os.pidfd_open(pid)
        try:
            while not self._stopping.is_set():
                for _, events in poll.poll(100):
                    if events & (select.POLLHUP | select.POLLERR):
                        return
                    if not self._answer_one(pid, process, listener):
                        return
        finally:
            os.close(process)

    def _answer_one(self, pid: int, process: int, listener: int) -> bool:
        """Answer for one call; return whether the process goes on."""
        buffer = bytearray(NOTIFICATION.size)
        try:
            fcntl.ioctl(listener, NOTIF_RECV, buffer)
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.EINTR):  # it was killed just now
                return True
            raise
        key, thread, _, number, _, _, *arguments = NOTIFICATION.unpack(buffer)
        try:
            # A thread of a program that the daemon has started is none of its own.
            is_own = os.path.exists(f"/proc/{pid}/task/{thread}")
            call = self._call(pid, thread, self._names[number], arguments) if is_own else None
        except (FileNotFoundError, ProcessLookupError):
            call = None  # the thread is gone
        if call is not None and self._is_chosen(call):
            with suppress(ProcessLookupError):  # who saw it fire has been so quick to clear away
                signal.pidfd_send_signal(process, signal.SIGKILL)
            return False  # unanswered: a call that is let go on after the signal still happens
        try:
            fcntl.ioctl(listener, NOTIF_SEND, ANSWER.pack(key, 0, 0, LET_IT_HAPPEN))
        except OSError as exc:
            if exc.errno != errno.ENOENT:
                raise
        return True

    def _is_chosen(self, call: Call) -> bool:
        """Count the call; return whether it is the chosen one, with the action done."""
        with self._lock:
            self._counts[call.kind] += 1
            if call.kind is Kind.SEND:
                self._sent_bytes += call.size
            if self._armed is None or not self._armed(call, self._counts, self._sent_bytes):
                return False
            self._armed = None
            if self._action is not None:
                self._action(call)
            self._fired = call
        return True

    def _call(self, pid: int, thread: int, name: str, arguments: list[int]) -> Call | None:
        """Return the call if it is one that counts."""
        if name in PATHS:
            path = self._path(thread, *PATHS[name], arguments)
            kind = Kind.UNLINK if name.startswith("unlink") else Kind.RENAME
            return Call(pid, kind, name, path) if self._is_spool(path) else None
        fd = arguments[0] & 0xFFFFFFFF
        path = os.readlink(f"/proc/{thread}/fd/{fd}")
        size = 0 if name in UNSIZED else arguments[3 if name == "sendfile" else 2]
        if path.startswith("/dev/fuse"):
            return Call(pid, Kind.ANSWER, name, path, fd)
        if path.startswith("socket:"):
            is_sent = name in SENDERS and self._is_internet(pid, fd, path)
            return Call(pid, Kind.SEND, name, path, fd, size) if is_sent else None
        if not self._is_spool(path):
            return None
        return Call(pid, Kind.SYNC if name in SYNCS else Kind.WRITE, name, path, fd, size)

    def _is_spool(self, path: str) -> bool:
        return path == self._spool or path.startswith(self._spool + "/")

    def _is_internet(self, pid: int, fd: int, link: str) -> bool:
        """Whether a socket leads to a server: trio wakes itself through sockets, too."""
        if link not in self._internet:
            with socket.socket(fileno=descriptor_of(pid, fd)) as found:
                self._internet[link] = found.family in (socket.AF_INET, socket.AF_INET6)
        return self._internet[link]

    @staticmethod
    def _path(thread: int, directory: int | None, name: int, arguments: list[int]) -> str:
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
            memory.seek(arguments[name])
            # A page may end just behind the name, and the next be nobody's.
            text = memory.read(4096 - arguments[name] % 4096)
            if b"\0" not in text:
                text += memory.read(4096)
        path = os.fsdecode(text.partition(b"\0")[0])
        if path.startswith("/"):
            return path
        at = ctypes.c_int(arguments[directory] & 0xFFFFFFFF).value if directory is not None else -100
        where = f"/proc/{thread}/cwd" if at == -100 else f"/proc/{thread}/fd/{at}"
        return os.path.join(os.readlink(where), path)


def descriptor_of(pid: int, number: int) -> int:
    """Return a descriptor for what descriptor *number* of process *pid* is. Raises: OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    try:
        found = libc.syscall(PIDFD_GETFD, pidfd, number, 0)
    finally:
        os.close(pidfd)
    if found < 0:
        raise OSError(ctypes.get_errno(), f"descriptor {number} of {pid}")
    return int(found)
