"""``s3mount warm``: read files before somebody waits for them."""

from __future__ import annotations

import argparse
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from s3mount.cli.bar import shown_bar
from s3mount.cli.parser import Commands, wrapped
from s3mount.cli.words import plural, printable
from s3mount.config.units import format_size_short
from s3mount.core.exits import Exit

_DESCRIPTION = """\
Read PATH, or every file below it, once, so that it is in the memory of the kernel and of the mount, and
its names and attributes are known. What does not fit pushes out what was read before: the mount keeps as
much as --memory says.
"""
_READ_BYTES = 1024**2
_AT_ONCE = 4


@dataclass
class Progress:
    """How far it is; *failures* are lines for the user."""

    files: int = 0
    done_files: int = 0
    size_bytes: int = 0
    done_bytes: int = 0
    failures: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def text(self) -> str:
        """Return how many files are done."""
        return f"{self.done_files:,} of {plural(self.files, 'file')}"

    def failed(self, path: str, error: OSError) -> None:
        """Note that *path* cannot be read."""
        with self.lock:
            self.failures.append(f"{printable(path)}: {error.strerror}")


def add_parser(commands: Commands) -> None:
    """Add the command to *commands*."""
    parser = commands.add_parser(
        "warm",
        help="read files before somebody waits for them",
        usage="s3mount warm PATH",
        description=wrapped(_DESCRIPTION),
        epilog=f"exit codes:\n   0  all was read\n   {int(Exit.FAILURE)}  some files could not be",
    )
    parser.set_defaults(run=run)
    parser.add_argument("path", metavar="PATH", help="a file or directory in a mount")


def run(arguments: argparse.Namespace) -> int:
    """Read.

    Raises: StartupError (no mount is there).
    """
    from s3mount.cli.asking import mount_of

    path = os.path.expanduser(arguments.path)
    mount_of(path)
    progress = Progress()
    with shown_bar("reading") as show:
        warm(path, progress, lambda: show(progress.text(), progress.done_bytes, progress.size_bytes))
    for line in progress.failures:
        print(f"s3mount: {line}", file=sys.stderr)
    print(f"s3mount: {plural(progress.done_files, 'file')} read, {format_size_short(progress.done_bytes)}")
    return int(Exit.FAILURE if progress.failures else Exit.OK)


def warm(path: str, progress: Progress, show: Callable[[], None]) -> None:
    """Read every file below *path*, some at once; *show* is called whenever there is progress."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for name, size in _files(path, progress):
            progress.files += 1
            progress.size_bytes += size
            threads.submit(_read, name, progress, show)


def _files(path: str, progress: Progress) -> Iterator[tuple[str, int]]:
    """Yield the regular files at and below *path*, and their sizes; links are not followed."""
    try:
        found = os.lstat(path)
        if stat.S_ISREG(found.st_mode):
            yield path, found.st_size
        if not stat.S_ISDIR(found.st_mode):
            return
        with os.scandir(path) as entries:
            names = [entry.path for entry in entries]
    except OSError as error:
        progress.failed(path, error)
        return
    for name in names:
        yield from _files(name, progress)


def _read(path: str, progress: Progress, show: Callable[[], None]) -> None:
    try:
        with open(path, "rb", buffering=0) as file:
            while size := len(file.read(_READ_BYTES)):
                with progress.lock:
                    progress.done_bytes += size
                show()
        with progress.lock:
            progress.done_files += 1
        show()
    except OSError as error:
        progress.failed(path, error)
