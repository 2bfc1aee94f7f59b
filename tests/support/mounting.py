"""Mounts for tests: the daemon in a process of its own, under a watchdog that frees a hung mount.

A process that waits for a FUSE mount cannot be killed, and `sync` waits for it too. So every mount has
a watchdog thread, which aborts the kernel's FUSE connection when a test takes too long: every call
into the mount then fails with ENOTCONN.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from s3mount import runtime
from tests.support.processes import running
from tests.support.servers import Server

CONNECTIONS = Path("/sys/fs/fuse/connections")
#: What a daemon may log at WARNING or above without failing the test that did not expect it.
QUIET: tuple[str, ...] = ()
#: What every mount on that server says.
OF_SERVER = {"moto": ["this server leaves a moment between check and write"]}


class Mount:
    """One mounted bucket; a context manager that leaves nothing behind.

    Args:
        server: where the bucket is.
        bucket: ``bucket`` or ``bucket/prefix``.
        base: an empty directory for mountpoint, spool, cache and log.
        options: further options of ``s3mount mount``.
        endpoint_url: instead of the server's own, for example a proxy's.
        expected: parts of log lines at WARNING or above that the test provokes.
        watchdog_s: how long the mount may live before it is cut off.
        environment: of the daemon, further variables.
        python: of the daemon.
    """

    def __init__(
        self,
        server: Server,
        bucket: str,
        base: Path,
        options: Sequence[str] = (),
        *,
        endpoint_url: str | None = None,
        expected: Sequence[str] = (),
        watchdog_s: float = 300.0,
        environment: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        self.server = server
        self.bucket = bucket
        self.path = base / "mnt"
        self.spool = base / "spool"
        self.log = base / "s3mount.log"
        self.expected = [*expected, *OF_SERVER.get(server.name, ())]
        self._base = base
        self._options = list(options)
        self._endpoint_url = endpoint_url or server.endpoint_url
        self._watchdog_s = watchdog_s
        self._environment = dict(environment or {})
        self._python = python
        self._daemon: Iterator[subprocess.Popen[bytes]] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: Watchdog | None = None
        self._log_checked = 0
        #: The exit code that the daemon should have.
        self.ends_with = 0

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Mount:
        self.path.mkdir(exist_ok=True)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop(check=kind is None)
        finally:
            self._clean_up()

    def command(self) -> list[str]:
        """Return the command line of the daemon."""
        return [
            self._python,
            "-m",
            "s3mount",
            "mount",
            self.bucket,
            str(self.path),
            "--foreground",
            "--endpoint-url",
            self._endpoint_url,
            "--spool-dir",
            str(self.spool),
            "--log-file",
            str(self.log),
            *self._options,
        ]

    def start(self) -> None:
        """Mount; return when the kernel gets answers."""
        size = self.log.stat().st_size if self.log.exists() else 0

        def is_up() -> bool:
            return self.log.exists() and b"mounted s3://" in self.log.read_bytes()[size:]

        self._daemon = running(
            self.command(),
            log_path=self._base / "daemon.out",
            ready=is_up,
            extra_environment={
                **self.server.environment(),
                "XDG_STATE_HOME": str(self._base / "state"),
                **self._environment,
            },
            deadline_s=30,
        )
        self._process = self._daemon.__enter__()  # type: ignore[attr-defined]
        self._watchdog = Watchdog(self.path, self._watchdog_s)

    def stop(self, *, check: bool = True, timeout_s: float = 60.0) -> int | None:
        """Unmount and wait for the daemon's end; *check* its exit code and its log."""
        if self._process is None:
            return None
        process = self._process
        try:
            for _ in range(100):
                done = subprocess.run(["umount", str(self.path)], capture_output=True, text=True)
                if done.returncode == 0 or "not mounted" in done.stderr:
                    break
                time.sleep(0.1)  # a file of the test's is being closed still: RELEASE comes after close
            else:
                if check:
                    raise AssertionError(f"cannot unmount: {done.stderr}\n{self._users()}")
            code = process.wait(timeout_s)
        finally:
            self._end()
        if check:
            self.check_log()
            assert code == self.ends_with, f"the daemon ended with {code}:\n{self.tail()}"
        return code

    def watch(self, timeout_s: float) -> None:
        """Cut the mount off *timeout_s* seconds from now. Raises: AssertionError if it has been cut off."""
        assert self._watchdog is not None
        old, self._watchdog = self._watchdog, None
        old.cancel()
        self._watchdog = Watchdog(self.path, timeout_s)

    def remount(self, *options: str) -> None:
        """Unmount and mount again: a new process, so with empty caches."""
        self.stop()
        if options:
            self._options = [*self._options, *options]
        self.start()

    def kill(self) -> None:
        """SIGKILL the daemon and clear the dead mount away."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        subprocess.run(["umount", "-l", str(self.path)], capture_output=True)
        self._end()

    def tail(self) -> str:
        """Return the end of the daemon's log and of its other output."""
        texts = [self._base / "daemon.out", self.log]
        return "\n".join(p.read_text(errors="replace")[-4000:] for p in texts if p.exists())

    def check_log(self) -> None:
        """Fail on a WARNING or worse that the test did not provoke."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        bad = [
            line
            for line in text[self._log_checked :].splitlines()
            if any(f" {level} " in line for level in ("WARNING", "ERROR", "CRITICAL"))
            and not any(part in line for part in (*self.expected, *QUIET))
        ]
        self._log_checked = len(text)
        assert not bad, "unexpected in the daemon's log:\n" + "\n".join(bad)

    def _users(self) -> str:
        return subprocess.run(["fuser", "-vm", str(self.path)], capture_output=True, text=True).stderr

    def _end(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        if self._daemon is not None:
            daemon, self._daemon, self._process = self._daemon, None, None
            daemon.__exit__(None, None, None)  # type: ignore[attr-defined]

    def _clean_up(self) -> None:
        self._end()
        subprocess.run(["umount", "-l", str(self.path)], capture_output=True)
        # How a mount ended that did not end well is kept for whoever asks; here nobody will.
        if (found := runtime.find(str(self.path), os.geteuid())) is not None:
            runtime.forget(*found)


class Watchdog:
    """Cuts the mount at *path* off after *timeout_s* seconds, unless cancelled before."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        # Found out now: later even looking at the mount could hang.
        self._connection = CONNECTIONS / connection_number(path)
        self._cancelled = threading.Event()
        self.has_bitten = False
        self._thread = threading.Thread(target=self._watch, args=(timeout_s,), daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Stand down. Raises: AssertionError if it has cut the mount off."""
        self._cancelled.set()
        self._thread.join()
        assert not self.has_bitten, "the mount hung and was cut off"

    def _watch(self, timeout_s: float) -> None:
        if not self._cancelled.wait(timeout_s):
            self.has_bitten = True
            with suppress(OSError):
                (self._connection / "abort").write_text("1")


def connection_number(path: Path) -> str:
    """Return the number of the FUSE connection that serves *path*, without touching the mount."""
    if not any(CONNECTIONS.iterdir()) and not os.path.ismount(CONNECTIONS):
        subprocess.run(["mount", "-t", "fusectl", "none", str(CONNECTIONS)], capture_output=True)
    device = ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        if fields[4] == str(path):
            device = fields[2]
    assert device, f"{path} is not in mountinfo"
    return device.partition(":")[2]


def mounts_below(base: Path) -> list[str]:
    """Return the mountpoints under *base* that are still mounted."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split(" ")[4] for line in lines if line.split(" ")[4].startswith(str(base))]


@contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the main thread when the block takes longer than *seconds*."""

    def over(number: int, frame: object) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    old = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


@dataclass
class Tools:
    """Where a test runs programs: in the mount, with a clean environment."""

    mount: Mount
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, cwd: Path | None = None, timeout_s: float = 120.0) -> str:
        """Run *command* in the mount; return what it printed. Raises: AssertionError if it fails."""
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}
        environment |= self.environment
        done = subprocess.run(
            command,
            cwd=cwd or self.mount.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        said = f"{done.stdout}{done.stderr}\n{self.mount.tail()}"
        assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{said}"
        return done.stdout

    def shell(self, script: str, cwd: Path | None = None, timeout_s: float = 120.0) -> str:
        """Run *script* with bash -e in the mount; return what it printed."""
        return self.run("bash", "-euo", "pipefail", "-c", script, cwd=cwd, timeout_s=timeout_s)
