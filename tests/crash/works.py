"""The work during which daemons die: what a program does, step by step, and what comes of each step.

Only the standard library is used: the program, which is started hundreds of times, imports this.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

KIB, MIB = 1024, 1024 * 1024

#: What a directory has: the bytes of each file by its path below the directory.
Files = dict[str, bytes]
#: Writes down that the file system has answered for a phase of a step.
Note = Callable[[str], None]


def content(name: str, version: int, size: int) -> bytes:
    """Return bytes that only this version of this name has."""
    return random.Random(f"{name} {version}").randbytes(size)


@dataclass(frozen=True)
class Edit:
    """*data* at *offset*; or, without *data*, a cut or an extension to *offset* bytes."""

    offset: int
    data: bytes = b""

    @property
    def stop(self) -> int:
        """Where it ends."""
        return self.offset + len(self.data)

    def applied(self, old: bytes) -> bytes:
        """Return what becomes of a file with the bytes *old*."""
        if not self.data:
            return old[: self.offset].ljust(self.offset, b"\0")
        return old[: self.offset].ljust(self.offset, b"\0") + self.data + old[self.stop :]


class Step:
    """One thing that a program does, whose success is a promise."""

    def do(self, root: Path, note: Note) -> None:
        """Do it below *root*. Raises: OSError."""
        raise NotImplementedError

    def after(self, files: Files) -> Files:
        """Return what *files* become."""
        raise NotImplementedError


@dataclass(frozen=True)
class Change(Step):
    """Open *name* with *flags*, edit, fsync if it *syncs*, close."""

    name: str
    flags: int
    edits: tuple[Edit, ...]
    syncs: bool = False

    def do(self, root: Path, note: Note) -> None:
        """Note "edit" after each edit, and "synced"."""
        descriptor = os.open(root / self.name, self.flags | os.O_CLOEXEC, 0o644)
        try:
            for edit in self.edits:
                _carry_out(edit, descriptor)
                note("edit")
            if self.syncs:
                os.fsync(descriptor)
                note("synced")
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)

    def after(self, files: Files) -> Files:
        """Let all edits happen."""
        return {**files, self.name: self.after_edits(files, len(self.edits))}

    def after_edits(self, files: Files, count: int) -> bytes:
        """Return the file's bytes after so many of the edits."""
        data = b"" if self.flags & os.O_TRUNC else files.get(self.name, b"")
        for edit in self.edits[:count]:
            data = edit.applied(data)
        return data


@dataclass(frozen=True)
class Truncate(Step):
    """truncate(2) by name."""

    name: str
    size: int

    def do(self, root: Path, note: Note) -> None:
        """Truncate."""
        os.truncate(root / self.name, self.size)

    def after(self, files: Files) -> Files:
        """Cut, or add zeros."""
        return {**files, self.name: Edit(self.size).applied(files[self.name])}


@dataclass(frozen=True)
class Rename(Step):
    """rename(2) of a file, or of a directory."""

    name: str
    new: str

    def do(self, root: Path, note: Note) -> None:
        """Rename."""
        os.rename(root / self.name, root / self.new)

    def after(self, files: Files) -> Files:
        """Move the file, or all files below the directory."""
        moved = [name for name in files if name == self.name or name.startswith(f"{self.name}/")]
        rest = {name: data for name, data in files.items() if name not in moved}
        return rest | {self.new + name[len(self.name) :]: files[name] for name in moved}


@dataclass(frozen=True)
class Unlink(Step):
    """unlink(2)."""

    name: str

    def do(self, root: Path, note: Note) -> None:
        """Remove."""
        os.unlink(root / self.name)

    def after(self, files: Files) -> Files:
        """Leave it out."""
        return {name: data for name, data in files.items() if name != self.name}


@dataclass(frozen=True)
class Mkdir(Step):
    """mkdir(2)."""

    name: str

    def do(self, root: Path, note: Note) -> None:
        """Make."""
        os.mkdir(root / self.name)

    def after(self, files: Files) -> Files:
        """No file comes of it."""
        return files


@dataclass
class Work:
    """What is in the bucket before, and the steps. ``options`` are the mount's."""

    initial: Files = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    options: tuple[str, ...] = ()

    @property
    def is_write_back(self) -> bool:
        """Whether a close is answered before the bucket has the file."""
        return any(option.startswith("--write-back") for option in self.options)

    def there_is(self, name: str, size: int) -> None:
        """Let an object be there before."""
        self.initial[name] = content(name, 0, size)

    def write(self, name: str, size: int, version: int = 1, *, piece: int = 0, syncs: bool = False) -> None:
        """Write all of a file, new or old, in pieces of *piece* bytes."""
        data, piece = content(name, version, size), piece or max(size, 1)
        edits = tuple(Edit(start, data[start : start + piece]) for start in range(0, size, piece))
        self.steps.append(Change(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, edits, syncs))

    def append(self, name: str, size: int, version: int = 1, *, syncs: bool = False) -> None:
        """Write behind the end."""
        edit = Edit(len(self._now()[name]), content(name, version, size))
        self.steps.append(Change(name, os.O_WRONLY | os.O_APPEND, (edit,), syncs))

    def edit(self, name: str, *edits: Edit) -> None:
        """Change parts of a file, with the rest kept."""
        self.steps.append(Change(name, os.O_RDWR, edits))

    def _now(self) -> Files:
        files = self.initial
        for step in self.steps:
            files = step.after(files)
        return files


def small() -> Work:
    """New files, small ones, an empty one, one of them in a new directory and one synced before its close."""
    work = Work()
    work.write("a", 100)
    work.steps.append(Mkdir("d"))
    work.write("d/empty", 0)
    work.write("d/b", 70_000, piece=30_000, syncs=True)
    work.write("c", 5000)
    return work


def large() -> Work:
    """A new file that is sent in parts."""
    work = Work(options=("--part-size=5M",))
    work.write("large", 11 * MIB, piece=MIB)
    return work


def overwrite() -> Work:
    """Old files get new bytes: longer, shorter, none, and once more."""
    work = Work()
    for number, size in enumerate((1, 200_000, 5000)):
        work.there_is(f"f{number}", size)
    work.write("f0", 3000)
    work.write("f1", 1000, piece=600)
    work.write("f2", 0)
    work.write("f0", 10, version=2, syncs=True)
    return work


def edit() -> Work:
    """Bytes behind the end, and in the midst, of what is there, some of it in parts."""
    work = Work(options=("--part-size=5M",))
    work.there_is("log", 1000)
    work.there_is("middle", 300_000)
    work.there_is("large", 6 * MIB)
    work.append("log", 50)
    work.edit("middle", Edit(100_000, content("middle", 1, 777)), Edit(5, content("middle", 2, 10)))
    work.append("log", 60, version=2, syncs=True)
    work.edit("large", Edit(3 * MIB, content("large", 1, 5000)))
    return work


def truncate() -> Work:
    """Files are cut and extended, by name and by descriptor."""
    work = Work()
    work.there_is("long", 200_000)
    work.there_is("short", 1000)
    work.there_is("other", 5000)
    work.edit("long", Edit(70_001))
    work.edit("short", Edit(9000), Edit(8000, content("short", 1, 500)))
    work.steps += [Truncate("other", 100), Truncate("short", 0)]
    return work


def rename() -> Work:
    """Files, old and new, get other names, some of them those of others; as editors save, too."""
    work = Work()
    for name in ("a", "b", "c"):
        work.there_is(name, 2000)
    work.steps += [Rename("a", "a2"), Rename("b", "c")]
    work.write("new", 3000)
    work.steps.append(Rename("new", "newer"))
    work.write("a2.tmp", 4000)
    work.steps.append(Rename("a2.tmp", "a2"))
    return work


def unlink() -> Work:
    """Files, old and new, go; one of the names comes back."""
    work = Work()
    work.there_is("a", 2000)
    work.there_is("b", 2000)
    work.steps.append(Unlink("a"))
    work.write("c", 1000)
    work.steps += [Unlink("c"), Unlink("b")]
    work.write("a", 500)
    return work


def later() -> Work:
    """Everything at once, in write-back mode: nothing of it is in the bucket before the unmount."""
    work = Work(options=("--write-back=1h",))
    for name in ("old", "log", "target", "gone"):
        work.there_is(name, 2000)
    work.write("new", 100)
    work.write("old", 3000)
    work.append("log", 50)
    work.write("first", 500)
    work.steps.append(Rename("first", "second"))
    work.write("short-lived", 700)
    work.steps += [Unlink("short-lived"), Unlink("gone")]
    work.write("target.tmp", 900)
    work.steps.append(Rename("target.tmp", "target"))
    work.write("old", 10, version=2)
    work.write("synced", 300, syncs=True)
    return work


def behind() -> Work:
    """In write-back mode, with uploads that follow at once, some in parts, while the program goes on."""
    work = Work(options=("--write-back=0s", "--part-size=5M"))
    work.there_is("old", 2000)
    work.write("large", 6 * MIB, piece=MIB)
    work.write("old", 3000)
    work.append("large", 100, version=2)
    work.write("new", 500)
    work.steps.append(Rename("new", "newer"))
    work.write("old", 10, version=2)
    return work


WORKS: dict[str, Callable[[], Work]] = {
    "small": small,
    "large": large,
    "overwrite": overwrite,
    "edit": edit,
    "truncate": truncate,
    "rename": rename,
    "unlink": unlink,
    "later": later,
    "behind": behind,
}


def _carry_out(edit: Edit, descriptor: int) -> None:
    if not edit.data:
        os.ftruncate(descriptor, edit.offset)
        return
    os.lseek(descriptor, edit.offset, os.SEEK_SET)
    view = memoryview(edit.data)
    while view:
        view = view[os.write(descriptor, view) :]
