"""``s3mount`` with something else in the place of ``s3mount.mount.serve``.

Usage: fake_mount.py BEHAVIOUR [S3MOUNT ARGUMENTS]; BEHAVIOUR is one of the functions below, with ``=TEXT``
behind it for those that take something.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path

from s3mount.cli import daemon, main
from s3mount.config import MountConfig
from s3mount.core.exits import Exit
from s3mount.errors import StartupError
from tests.cli import bare_fuse

Ready = Callable[[], None]


def refuse(config: MountConfig, on_ready: Ready, text: str) -> int:
    """The store refuses, in words with a line break in them."""
    raise StartupError(f'bucket "{config.bucket}"', "does not\nexist", "create it", Exit.NO_SUCH_BUCKET)


def crash(config: MountConfig, on_ready: Ready, text: str) -> int:
    """A bug shows before the mount is up, a secret in its message."""
    raise ZeroDivisionError(f"secret_key={text}")


def die(config: MountConfig, on_ready: Ready, text: str) -> int:
    """The process is killed before the mount is up."""
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def hang(config: MountConfig, on_ready: Ready, text: str) -> int:
    """Nothing happens, for as long as the parent waits."""
    signal.pause()
    return 0


def lie(config: MountConfig, on_ready: Ready, text: str) -> int:
    """It says that it is ready, and nothing is mounted."""
    on_ready()
    signal.pause()
    return 0


def mounted(config: MountConfig, on_ready: Ready, text: str) -> int:
    """An empty directory is mounted; *text* is the exit code after the end, 0 if empty.

    With a file ``draining`` beside the mountpoint, the end waits until it is gone.
    """

    def end(number: int, frame: object) -> None:
        bare_fuse.unmount(config.mountpoint)

    descriptor = bare_fuse.mount(config.mountpoint)
    signal.signal(signal.SIGTERM, end)
    Path(config.spool_dir, "descriptors.data").write_text(repr(sorted(os.listdir("/proc/self/fd"), key=int)))
    print("printed by the background process", flush=True)
    warnings.warn("warned by the background process", stacklevel=1)
    bare_fuse.serve(descriptor, on_init=on_ready)
    while (Path(config.mountpoint).parent / "draining").exists():
        time.sleep(0.01)
    if not text:
        Path(config.spool_dir, "descriptors.data").unlink()
    return int(text or 0)


BEHAVIOURS = {function.__name__: function for function in (refuse, crash, die, hang, lie, mounted)}


def run() -> int:
    """Run the command with the behaviour that the first argument names."""
    name, _, text = sys.argv[1].partition("=")

    def serve(config: MountConfig, mounter: object, *, on_ready: Ready, **rest: object) -> int:
        return BEHAVIOURS[name](config, on_ready, text)

    fake = types.ModuleType("s3mount.mount")
    fake.serve = serve  # type: ignore[attr-defined]
    sys.modules["s3mount.mount"] = fake
    daemon._GRACE_S = 0.5
    daemon._ANSWER_S = 2.0
    return main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(run())
