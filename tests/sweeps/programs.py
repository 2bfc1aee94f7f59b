"""What a cell of the sweep runs in the mount, in a process of its own: ``programs.py NAME DIRECTORY [MORE]``.

Each call is a line of JSON on standard output as soon as it has returned: what was called, on which path,
the errno (0 for success) and the seconds that the caller waited. ``fsync`` and ``close`` of a file that was
changed say which bytes they were to store. Only the standard library is used: the process starts in no time.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

KIB, MIB = 1024, 1024 * 1024

#: What lies in the cell's directory before the program begins: bytes by path.
PREPARED: dict[str, dict[str, int]] = {
    "create": {"neighbour": 10},
    "create_parts": {},
    "overwrite": {"file": 5 * KIB, "patched": 2 * MIB + 7},
    "append": {"file": 5 * KIB},
    "truncate": {"shrunk": 5 * KIB, "grown": 5 * KIB},
    "rename_file": {"from": 3 * KIB, "over": 3 * KIB, "target": 2 * KIB},
    "rename_directory": {"d/a": KIB, "d/b": KIB, "d/e/c": KIB},
    "rm_r": {"d/a": KIB, "d/b": KIB, "d/e/c": KIB},
    "ls": {"a": 1, "b": 2, "c/d": 3, "e": 0},
    "read": {"small": 5 * KIB, "large": 3 * MIB + 11},
    "mmap_write": {"file": 9 * KIB},
    "cp_p": {"neighbour": 10},
    "git_clone": {},
    "sqlite_transaction": {},
}


def content(cell: str, path: str, version: str, size: int) -> bytes:
    """Return bytes that tell by themselves whose they are: no two cells, paths or versions share any."""
    return random.Random(f"{cell} {path} {version}").randbytes(size)


def old_content(program: str, cell: str, path: str) -> bytes:
    """Return what *path* holds before the program begins; empty if it is not there."""
    return content(cell, path, "old", PREPARED[program].get(path, 0))


def digest(data: bytes) -> str:
    """Return the name by which bytes are compared."""
    return hashlib.sha256(data).hexdigest()


def say(**event: Any) -> None:
    """Report; at once, since SIGBUS may end this process."""
    os.write(1, json.dumps(event).encode() + b"\n")


class Calls:
    """System calls below *root*, each of them reported."""

    def __init__(self, program: str, root: str) -> None:
        self.program, self.root, self.cell = program, root, os.path.basename(root)

    def do(self, call: str, path: str, function: Callable[[], Any], **more: Any) -> tuple[int, Any]:
        """Return the errno, and what *function* returned."""
        began = time.monotonic()
        number, result = 0, None
        try:
            result = function()
        except OSError as exc:
            number = exc.errno or -1
        more = {name: value(result) if callable(value) else value for name, value in more.items()}
        say(call=call, path=path, errno=number, seconds=time.monotonic() - began, **more)
        return number, result

    def at(self, path: str) -> str:
        """Return where *path* is."""
        return os.path.join(self.root, path)

    def new(self, path: str, size: int, version: str = "new") -> bytes:
        """Return new bytes for *path*."""
        return content(self.cell, path, version, size)

    def open(self, path: str, flags: int) -> File | None:
        """Open a file whose bytes are those that were prepared."""
        number, fd = self.do("open", path, lambda: os.open(self.at(path), flags, 0o644))
        if number:
            return None
        is_kept = not flags & os.O_TRUNC
        return File(
            self, path, fd, old_content(self.program, self.cell, path) if is_kept else b"", not is_kept
        )


class File:
    """A file that is open, and what it holds after the calls that have succeeded."""

    def __init__(self, calls: Calls, path: str, fd: int, data: bytes, is_changed: bool) -> None:
        self.calls, self.path, self.fd, self.data, self.is_changed = (
            calls,
            path,
            fd,
            bytearray(data),
            is_changed,
        )

    def write(self, data: bytes, offset: int | None = None) -> None:
        """Write at *offset*, by default at the end."""
        place = len(self.data) if offset is None else offset
        number, _ = self.calls.do("write", self.path, lambda: os.pwrite(self.fd, data, place))
        if not number:
            self.data[place : place + len(data)] = data
            self.is_changed = True

    def truncate(self, size: int) -> None:
        """Cut or extend."""
        number, _ = self.calls.do("ftruncate", self.path, lambda: os.ftruncate(self.fd, size))
        if not number:
            self.data = self.data[:size] + bytes(max(0, size - len(self.data)))
            self.is_changed = True

    def fsync(self) -> None:
        """Let the bucket have it."""
        self._store("fsync", lambda: os.fsync(self.fd))

    def close(self) -> None:
        """Let the bucket have it."""
        self._store("close", lambda: os.close(self.fd))

    def _store(self, call: str, function: Callable[[], None]) -> None:
        more = {"stores": digest(bytes(self.data)), "size": len(self.data)} if self.is_changed else {}
        number, _ = self.calls.do(call, self.path, function, **more)
        self.is_changed = self.is_changed and bool(number)


def create(c: Calls) -> None:
    """Make two files, one of them with an fsync in the middle."""
    for path in ("new", "synced"):
        if file := c.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY):
            file.write(c.new(path, 3 * KIB))
            if path == "synced":
                file.fsync()
                file.write(c.new(path, 2 * KIB, "more"))
            file.close()


def create_parts(c: Calls) -> None:
    """Make a file that is sent in two parts."""
    if file := c.open("new", os.O_CREAT | os.O_EXCL | os.O_WRONLY):
        data = c.new("new", 5 * MIB + 300 * KIB)
        for start in range(0, len(data), MIB):
            file.write(data[start : start + MIB])
        file.close()


def overwrite(c: Calls) -> None:
    """Write one file anew, and a stretch in the middle of another."""
    if file := c.open("file", os.O_WRONLY | os.O_TRUNC):
        file.write(c.new("file", 4 * KIB))
        file.close()
    if file := c.open("patched", os.O_WRONLY):
        file.write(c.new("patched", 3 * KIB), MIB + 5)
        file.close()


def append(c: Calls) -> None:
    """Append twice, each time with an open and a close of its own."""
    for version in ("first", "second"):
        if file := c.open("file", os.O_WRONLY | os.O_APPEND):
            if version == "second":
                # What the first close was to store is what this host goes on with, stored or not.
                file.data = bytearray(c.appended)  # type: ignore[attr-defined]
            file.write(c.new("file", 2 * KIB, version))
            c.appended = bytes(file.data)  # type: ignore[attr-defined]
            file.close()
        else:
            return


def truncate(c: Calls) -> None:
    """Cut one file by its path, extend another by its descriptor."""
    shrunk = old_content(c.program, c.cell, "shrunk")[:KIB]
    path = c.at("shrunk")
    c.do("truncate", "shrunk", lambda: os.truncate(path, KIB), stores=digest(shrunk), size=KIB)
    if file := c.open("grown", os.O_WRONLY):
        file.truncate(7 * KIB)
        file.close()


def rename_file(c: Calls) -> None:
    """Rename to a free name, and onto another file."""
    for old, new in (("from", "to"), ("over", "target")):
        c.do("rename", old, lambda o=old, n=new: os.rename(c.at(o), c.at(n)), to=new)  # type: ignore[misc]


def rename_directory(c: Calls) -> None:
    """Rename a directory with a directory in it."""
    c.do("rename", "d", lambda: os.rename(c.at("d"), c.at("f")), to="f")


def rm_r(c: Calls) -> None:
    """Remove a tree, going on after failures, as rm -r does."""

    def remove(directory: str) -> None:
        number, entries = c.do("scandir", directory, lambda: list(os.scandir(c.at(directory))))
        for entry in [] if number else sorted(entries, key=lambda one: one.name):
            path = f"{directory}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                remove(path)
            else:
                c.do("unlink", path, lambda p=path: os.unlink(c.at(p)))  # type: ignore[misc]
        c.do("rmdir", directory, lambda: os.rmdir(c.at(directory)))

    remove("d")


def ls(c: Calls) -> None:
    """List twice, look at each name and at one that is not there."""
    for _ in range(2):
        c.do("scandir", ".", lambda: os.listdir(c.root), names=lambda names: names)
    for path in (*PREPARED["ls"], "absent"):
        size = lambda facts: None if facts is None else facts.st_size  # noqa: E731
        c.do("stat", path, lambda p=path: os.stat(c.at(p)), size=size)  # type: ignore[misc]
    c.do("scandir", "c", lambda: os.listdir(c.at("c")), names=lambda names: names)


def read(c: Calls) -> None:
    """Read a small file whole, a large one from the beginning and here and there."""
    rng = random.Random(7)
    for path, size in PREPARED["read"].items():
        number, fd = c.do("open", path, lambda p=path: os.open(c.at(p), os.O_RDONLY))  # type: ignore[misc]
        if number:
            continue
        whole = old_content("read", c.cell, path)
        places = [*range(0, size, 256 * KIB), size, *(rng.randrange(size) for _ in range(4))]
        failed = 0
        for place in places:
            want = whole[place : place + 256 * KIB]
            number, _ = c.do(
                "read",
                path,
                lambda f=fd, p=place: pread(f, 256 * KIB, p),  # type: ignore[misc]
                is_right=lambda got, w=want: got == w,  # type: ignore[misc]
                got=lambda got: None if got is None else len(got),
                want=len(want),
            )
            failed += bool(number)
            if failed == 2:
                break
        c.do("close", path, lambda f=fd: os.close(f))  # type: ignore[misc]


def pread(fd: int, size: int, offset: int) -> bytes:
    """Read on where the kernel has given less: before a page that fails it returns what came before."""
    data = b""
    while len(data) < size and (piece := os.pread(fd, size - len(data), offset + len(data))):
        data += piece
    return data


def mmap_write(c: Calls) -> None:
    """Change a file through a shared mapping; msync, fsync, close."""
    if (file := c.open("file", os.O_RDWR)) is None:
        return
    data = c.new("file", 5000)
    failed, mapping = c.do("mmap", "file", lambda: mmap.mmap(file.fd, 0), got=None)
    if not failed:
        mapping[4000:9000] = data  # a page that cannot be fetched ends this process with SIGBUS
        file.data[4000:9000] = data
        c.do("msync", "file", mapping.flush)
        file.is_changed = True
    file.fsync()
    if not failed:
        mapping.close()  # it has a descriptor of its own, and the last close is the one that stores
    file.close()


def cp_p(c: Calls, source: str) -> None:
    """Copy a file into the mount with its mode and time."""
    traced(c, "cp", "cp", "-p", source, c.at("copy"))


def git_clone(c: Calls, source: str) -> None:
    """Clone a small repository into the mount."""
    traced(
        c, "git", "git", "-c", "protocol.file.allow=always", "clone", "-q", f"file://{source}", c.at("clone")
    )


def sqlite_transaction(c: Calls) -> None:
    """Change two rows far apart in one transaction."""
    sql = "UPDATE t SET v = 1 WHERE id = 1; UPDATE t SET v = 1 WHERE id = 400;"
    traced(c, "sqlite3", "sqlite3", "-bail", c.at("base"), f"BEGIN; {sql} COMMIT;")


def traced(c: Calls, call: str, *command: str) -> None:
    """Run *command*; report its exit code and the longest that a call on the mount took."""
    with tempfile.NamedTemporaryFile(prefix="s3mount-sweep-") as trace:
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}
        strace = [
            "strace",
            "-f",
            "-qq",
            "-T",
            "-y",
            "--seccomp-bpf",
            "-e",
            "trace=%file,%desc",
            "-o",
            trace.name,
        ]
        done = subprocess.run(
            [*strace, *command], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        slowest, what = slowest_call(trace.read().decode(errors="replace").splitlines(), c.root)
    said = (done.stdout + done.stderr)[-600:]
    say(call=call, path="", errno=0, exit=done.returncode, seconds=slowest, slowest=what, said=said)


def slowest_call(lines: list[str], root: str) -> tuple[float, str]:
    """Return the seconds and the line of the longest call that strace saw on anything below *root*."""
    unfinished: dict[str, str] = {}
    slowest, what = 0.0, ""
    for line in lines:
        pid, _, rest = line.partition(" ")
        if rest.endswith("<unfinished ...>"):
            unfinished[pid] = rest
            continue
        whole = unfinished.pop(pid, "") + rest if "resumed>" in rest else rest
        took = re.search(r"<(\d+\.\d+)>$", whole)
        if took and root in whole and float(took[1]) > slowest:
            slowest, what = float(took[1]), whole[:300]
    return slowest, what


def view(c: Calls) -> None:
    """Read everything that is there."""

    def look(directory: str) -> None:
        number, names = c.do("scandir", directory, lambda: sorted(os.listdir(c.at(directory))))
        for name in [] if number else names:
            path = name if directory == "." else f"{directory}/{name}"
            if os.path.isdir(c.at(path)):
                look(path)
            else:
                c.do(
                    "read",
                    path,
                    lambda p=path: whole(c.at(p)),
                    holds=lambda d: None if d is None else digest(d),
                )  # type: ignore[misc]

    look(".")


def whole(path: str) -> bytes:
    """Return a file's bytes, of a symbolic link its target."""
    if os.path.islink(path):
        return os.fsencode(os.readlink(path))
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def reuse(c: Calls, *paths: str) -> None:
    """Use each of these names once more: write it, read it back, look at it in its directory."""
    for path in paths:
        data = c.new(path, 900, "again")
        c.do("makedirs", path, lambda p=path: os.makedirs(os.path.dirname(c.at(p)), exist_ok=True))  # type: ignore[misc]
        if file := c.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC):
            file.data = bytearray()
            file.write(data)
            file.close()
        c.do("read", path, lambda p=path: whole(c.at(p)), is_right=lambda got, d=data: got == d)  # type: ignore[misc]
        directory, name = os.path.split(c.at(path))
        c.do(
            "scandir",
            path,
            lambda d=directory: os.listdir(d),
            is_right=lambda names, n=name: n in (names or []),
        )  # type: ignore[misc]


def remove_all(c: Calls) -> None:
    """Remove all that is there, as rm -rf does, and see that nothing is left."""
    done = subprocess.run(
        ["rm", "-rf", *(c.at(name) for name in os.listdir(c.root))], capture_output=True, text=True
    )
    say(call="rm -rf", path=".", errno=0, exit=done.returncode, seconds=0.0, said=done.stderr[-600:])
    c.do("scandir", ".", lambda: os.listdir(c.root), is_right=lambda names: names == [])


def main() -> None:
    """See the module."""
    name, root, *more = sys.argv[1:]
    function: Callable[..., None] = globals()[name]
    function(Calls(name, root), *more)


if __name__ == "__main__":
    main()
