"""One demo from beginning to end: server, files, mount, listing, and all of it gone again."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from s3mount import runtime
from s3mount.cli.checks import check_fuse, check_mountpoint
from s3mount.cli.demo_files import demo_files
from s3mount.cli.demo_server import BUCKET, DemoServer, running_server, start_child, stop_child
from s3mount.cli.mount_table import mounted_at
from s3mount.config import make_config
from s3mount.core.exits import Exit
from s3mount.errors import StartupError

_MOUNT_READY_S = 90.0
_DRAIN_S = 60.0
_LISTING_S = 30.0


def run_demo(directory: str, home: Path, *, check: bool) -> int:
    """Run the demo until a signal ends it, and return its exit code.

    Args:
        directory: where to mount, absolute; made if need be, and then removed again.
        home: where the server's data is kept.
        check: end as soon as everything has been shown.

    Raises: StartupError.
    """
    with _signals_as_interrupts(), ExitStack() as stack:
        stack.enter_context(_mountpoint(directory))
        _say(f"starting an S3 server on this machine; its data is in {home}")
        server = stack.enter_context(running_server(home))
        _fill(server, home)
        mount = stack.enter_context(_mounted(server, directory, home))
        _show(server, directory)
        if check:
            return int(Exit.OK)
        try:
            mount.wait()
        except KeyboardInterrupt:
            print()
            _say("uploading what is pending, unmounting, stopping the server")
            return int(Exit.OK)
        _say("it was unmounted; stopping the server")
    return int(Exit.OK)


@contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt, so that each way of ending cleans up."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    old = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def _mountpoint(directory: str) -> Iterator[None]:
    """Make *directory*, and remove it afterwards if it was made here and is empty.

    Raises: StartupError if it cannot be mounted on.
    """
    created = not os.path.lexists(directory)
    if created:
        try:
            os.makedirs(directory)
        except OSError as error:
            raise StartupError(
                f"mountpoint {directory}",
                f"it cannot be created ({error.strerror})",
                "name a directory of yours: s3mount demo DIR",
                Exit.MOUNTPOINT,
            ) from None
    try:
        check_mountpoint(make_config(BUCKET, directory, {}))
        check_fuse()
        yield
    finally:
        if created:
            _remove_if_empty(directory)


def _remove_if_empty(directory: str) -> None:
    if mounted_at(directory) is None:
        try:
            os.rmdir(directory)
        except OSError as error:
            _say(f"{directory} stays: {error.strerror}")


def _fill(server: DemoServer, home: Path) -> None:
    """Put the files into the bucket, unless that was done once: what the user deleted stays deleted."""
    done = home / "filled"
    if done.exists():
        return
    _say("filling its bucket `demo`: text, CSV, Parquet, 64 MiB of binary")
    client = server.client()
    client.create_bucket(BUCKET)
    for file in demo_files():
        client.put(BUCKET, file.key, file.body, file.size, file.content_type)
    done.touch(mode=0o600)


@contextmanager
def _mounted(server: DemoServer, directory: str, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Mount the bucket with the ordinary command, in a process of its own, until the block ends.

    Raises: StartupError.
    """
    log_path = home / "mount.log"
    command = [
        *(sys.executable, "-m", "s3mount", "mount", "--foreground"),
        *("--endpoint-url", server.endpoint_url, "--spool-dir", str(home / "spool")),
        *("--drain-timeout", f"{_DRAIN_S:g}s", "--", BUCKET, directory),
    ]
    with log_path.open("wb") as log:
        mount = start_child(command, stop_with=signal.SIGTERM, output=log, environment=server.environment())
    try:
        _wait_until_mounted(mount, directory, log_path)
    except BaseException:
        stop_child(mount, _DRAIN_S + 10)
        raise
    try:
        yield mount
    finally:
        exit_code = stop_child(mount, _DRAIN_S + 10)
        if exit_code == Exit.NOT_DRAINED:
            _say(f"not everything was uploaded; {log_path} says where it is")
        elif exit_code != Exit.OK:
            _say(f"the mount ended with {exit_code}; see {log_path}")


def _wait_until_mounted(mount: subprocess.Popen[bytes], directory: str, log_path: Path) -> None:
    """Wait for the mount's state file, which it writes once it answers."""
    deadline = time.monotonic() + _MOUNT_READY_S
    while True:
        found = runtime.find(directory, os.geteuid())
        if found is not None and found[0].pid == mount.pid:
            return
        if mount.poll() is not None:
            lines = log_path.read_text(errors="replace").splitlines() or ["(it said nothing)"]
            raise StartupError(
                "the mount", lines[-1].removeprefix("s3mount: "), f"see {log_path}", mount.returncode
            )
        if time.monotonic() > deadline:
            raise StartupError("the mount", "it is not up in time", f"see {log_path}", Exit.FAILURE)
        time.sleep(0.02)


def _show(server: DemoServer, directory: str) -> None:
    """List what is mounted and say what to try.

    Raises: StartupError when the mount does not answer.
    """
    relative = os.path.relpath(directory)
    where = shlex.quote(directory if relative.startswith("..") else relative)
    print(f"\n$ ls -lR {where}", flush=True)
    try:
        subprocess.run(["ls", "-lR", directory], check=True, timeout=_LISTING_S)
    except (subprocess.SubprocessError, OSError) as error:
        raise StartupError("the mount", f"listing it failed ({error})", "see mount.log", Exit.FUSE) from None
    print(
        f"""
The bucket s3://{BUCKET} of {server.endpoint_url} is mounted at {where}. In another terminal, try:

  cat {where}/README.txt
  head -3 {where}/data/measurements.csv
  sha256sum {where}/media/random.bin
  cp -r /etc/default {where}/ && ls -l {where}/default
  vim {where}/notes/todo.txt
  git init {where}/project

Ctrl-C ends it.""",
        flush=True,
    )


def _say(text: str) -> None:
    print(f"s3mount: {text}", flush=True)
