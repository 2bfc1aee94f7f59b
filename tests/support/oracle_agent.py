"""Carries out steps in a directory and says what each of them gave: the same program in both worlds.

It runs in a process of its own, because a store into a mapped page that cannot be had ends the process
with SIGBUS. Its arguments are the directory and, on the local side, ``oracle``; it reads pickled
``(case, steps)`` from standard input and answers each step with one pickled :class:`Outcome`.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import mmap
import os
import pickle
import random
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Times before this are ones that a step has set; later ones are "now", which the worlds do not share.
LONG_AGO_NS = 1_500_000_000 * 10**9
RENAME_NOREPLACE = 1

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Step:
    """One call or a few: *kind* is a method of :class:`Agent`. *looks*: afterwards lstat what it names."""

    kind: str
    arguments: dict[str, Any] = field(default_factory=dict)
    looks: bool = True

    def __str__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f'Step("{self.kind}", dict({values}), looks={self.looks}),'


@dataclass(frozen=True)
class Outcome:
    """What a step gave: the errno's name or None, a value, and what there was to see afterwards."""

    error: str | None
    value: Any = None
    seen: tuple[Any, ...] = ()


def content(seed: int, size: int) -> bytes:
    """Return *size* bytes that only *seed* gives, none of them NUL: holes must be told from data."""
    return random.Random(seed).randbytes(size).replace(b"\0", b"\x01")


def digest(data: bytes) -> str:
    """Return what tells *data* from other bytes, and a reader where it differs."""
    ends = f"{data[:6].hex()}…{data[-6:].hex()}"
    return f"{len(data)} bytes ({data.count(0)} NUL) {ends} {hashlib.sha1(data).hexdigest()[:12]}"


class Agent:
    """The state of one case: its directory and its open descriptors by slot."""

    def __init__(self, top: Path, *, is_oracle: bool) -> None:
        self._top = top
        self._is_oracle = is_oracle
        self._slots: dict[int, int] = {}

    def run(self, step: Step) -> Outcome:
        """Carry out *step*; errors of the system are results."""
        error, value = None, None
        try:
            value = getattr(self, step.kind)(**step.arguments)
        except OSError as exc:
            error = errno.errorcode.get(exc.errno or 0, str(exc))
        seen: list[Any] = []
        if step.looks:
            names = [v for k, v in step.arguments.items() if k in ("path", "old", "new")]
            seen = [(name, self._look(name)) for name in names]
            if step.arguments.get("slot") in self._slots:
                seen.append(self._described(os.fstat(self._slots[step.arguments["slot"]])))
        return Outcome(error, value, tuple(seen))

    # Descriptors. A slot that is not open does nothing, in both worlds alike.

    def open(self, slot: int, path: str, flags: int, mode: int) -> str | None:
        if slot in self._slots:
            return "slot taken"
        self._slots[slot] = os.open(self._path(path), flags, mode)
        return None

    def dup(self, slot: int, to: int) -> str | None:
        if slot not in self._slots or to in self._slots:
            return "no slot"
        self._slots[to] = os.dup(self._slots[slot])
        return None

    def close(self, slot: int) -> str | None:
        if slot not in self._slots:
            return "no slot"
        os.close(self._slots.pop(slot))
        return None

    def close_all(self) -> list[str]:
        errors = []
        for slot in sorted(self._slots):
            try:
                os.close(self._slots.pop(slot))
            except OSError as exc:
                errors.append(f"{slot}: {errno.errorcode[exc.errno or 0]}")
        return errors

    def read(self, slot: int, size: int) -> str | None:
        return None if slot not in self._slots else digest(os.read(self._slots[slot], size))

    def pread(self, slot: int, size: int, offset: int) -> str | None:
        return None if slot not in self._slots else digest(os.pread(self._slots[slot], size, offset))

    def write(self, slot: int, seed: int, size: int) -> int | None:
        return None if slot not in self._slots else os.write(self._slots[slot], content(seed, size))

    def pwrite(self, slot: int, seed: int, size: int, offset: int) -> int | None:
        if slot not in self._slots:
            return None
        return os.pwrite(self._slots[slot], content(seed, size), offset)

    def lseek(self, slot: int, offset: int, whence: int) -> int | None:
        if slot not in self._slots:
            return None
        if stat.S_ISDIR(os.fstat(self._slots[slot]).st_mode):
            return None  # what an offset means in a directory is each file system's own affair
        return os.lseek(self._slots[slot], offset, whence)

    def ftruncate(self, slot: int, size: int) -> None:
        if slot not in self._slots:
            return
        found = os.fstat(self._slots[slot])
        if found.st_size == size and stat.S_ISREG(found.st_mode):
            return  # POSIX lets a file that keeps its size keep its time, too; Linux's do not
        os.ftruncate(self._slots[slot], size)

    def fsync(self, slot: int) -> None:
        if slot in self._slots:
            os.fsync(self._slots[slot])

    def fdatasync(self, slot: int) -> None:
        if slot in self._slots:
            os.fdatasync(self._slots[slot])

    def fchmod(self, slot: int, mode: int) -> None:
        if slot in self._slots:
            os.fchmod(self._slots[slot], mode)

    def futime(self, slot: int, mtime_ns: int) -> None:
        if slot in self._slots:
            os.utime(self._slots[slot], ns=(mtime_ns, mtime_ns))

    def flistdir(self, slot: int) -> list[str] | None:
        return None if slot not in self._slots else sorted(os.listdir(self._slots[slot]))

    def drop_pages(self, slot: int) -> None:
        """Let the kernel forget clean pages, so that the next read asks the file system."""
        if slot in self._slots:
            os.posix_fadvise(self._slots[slot], 0, 0, os.POSIX_FADV_DONTNEED)

    def mmap_read(self, slot: int) -> str | None:
        if (size := self._mappable(slot)) == 0:
            return None
        with mmap.mmap(self._slots[slot], size, mmap.MAP_SHARED, mmap.PROT_READ) as mapped:
            return digest(mapped[:])

    def mmap_write(self, slot: int, seed: int, size: int, offset: int, msync: bool) -> str | None:
        """Store into a shared mapping, within the file."""
        whole = self._mappable(slot)
        if whole == 0:
            return None
        with mmap.mmap(self._slots[slot], whole, mmap.MAP_SHARED) as mapped:
            start = offset % whole
            stop = min(whole, start + size)
            mapped[start:stop] = content(seed, stop - start)
            if msync:
                mapped.flush()
        return f"{start} to {stop}"

    def copy_range(self, slot: int, to: int, size: int) -> int | None:
        if slot not in self._slots or to not in self._slots:
            return None
        return os.copy_file_range(self._slots[slot], self._slots[to], size, offset_src=0, offset_dst=None)

    # Paths.

    def store(self, path: str, seed: int, size: int) -> None:
        """What ``cp`` does."""
        descriptor = os.open(self._path(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.write(descriptor, content(seed, size))
        finally:
            os.close(descriptor)

    def append(self, path: str, seed: int, size: int) -> None:
        """What ``>>`` does."""
        descriptor = os.open(self._path(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, content(seed, size))
        finally:
            os.close(descriptor)

    def replace(self, path: str, seed: int, size: int) -> None:
        """What an editor does: a new file beside it, renamed over it."""
        self.store(f"{path}~", seed, size)
        os.rename(self._path(f"{path}~"), self._path(path))

    def load(self, path: str) -> str:
        with open(self._path(path), "rb") as file:
            return digest(file.read())

    def truncate(self, path: str, size: int) -> None:
        try:
            found = os.stat(self._path(path))
        except OSError:
            pass  # whatever it is, the call itself says so
        else:
            if found.st_size == size and stat.S_ISREG(found.st_mode):
                return  # as with ftruncate
        os.truncate(self._path(path), size)

    def unlink(self, path: str) -> None:
        os.unlink(self._path(path))

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._path(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._path(path))

    def rename(self, old: str, new: str) -> None:
        os.rename(self._path(old), self._path(new))

    def rename_noreplace(self, old: str, new: str) -> None:
        at = -100  # AT_FDCWD
        names = os.fsencode(self._path(old)), os.fsencode(self._path(new))
        if _libc.renameat2(at, names[0], at, names[1], RENAME_NOREPLACE):
            raise OSError(ctypes.get_errno(), "renameat2")

    def symlink(self, path: str, target: str) -> None:
        os.symlink(target, self._path(path))

    def readlink(self, path: str) -> str:
        return os.readlink(self._path(path))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._path(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(self._path(path), uid, gid, follow_symlinks=False)

    def utime(self, path: str, mtime_ns: int, follow: bool) -> None:
        os.utime(self._path(path), ns=(mtime_ns, mtime_ns), follow_symlinks=follow)

    def access(self, path: str, mode: int) -> bool:
        return os.access(self._path(path), mode)

    def stat(self, path: str) -> Any:
        return self._described(os.stat(self._path(path)))

    def listdir(self, path: str) -> list[tuple[str, bool, bool]]:
        with os.scandir(self._path(path)) as entries:
            return sorted((e.name, e.is_dir(follow_symlinks=False), e.is_symlink()) for e in entries)

    def tree(self) -> dict[str, Any]:
        """Return everything there is."""
        found: dict[str, Any] = {}
        self._walk("", found)
        return found

    def unsupported(self, call: str, path: str, new: str) -> str | None:
        """Try what an object store cannot do, on a file that is there and a name that could be."""
        try:
            if not stat.S_ISREG(os.lstat(self._path(path)).st_mode) or os.path.lexists(self._path(new)):
                return None
            if not os.path.isdir(os.path.dirname(self._path(new))):
                return None
        except OSError:
            return None
        if self._is_oracle:
            return "would be done"
        if call == "link":
            os.link(self._path(path), self._path(new))
        elif call == "mkfifo":
            os.mkfifo(self._path(new))
        elif call == "set_uid":
            os.chmod(self._path(path), 0o4755)
        return "done"

    def _walk(self, path: str, found: dict[str, Any]) -> None:
        try:
            names = sorted(os.listdir(self._path(path)))
        except OSError as exc:
            found[path or "."] = errno.errorcode[exc.errno or 0]
            return
        for name in names:
            below = f"{path}/{name}" if path else name
            seen = self._look(below)
            if isinstance(seen, dict) and seen["kind"] == "file":
                seen["content"] = self.run(Step("load", {"path": below}, looks=False)).value
            elif isinstance(seen, dict) and seen["kind"] == "link":
                seen["target"] = os.readlink(self._path(below))
            found[below] = seen
            if isinstance(seen, dict) and seen["kind"] == "directory":
                self._walk(below, found)

    def _look(self, path: str) -> Any:
        try:
            return self._described(os.lstat(self._path(path)))
        except OSError as exc:
            return errno.errorcode[exc.errno or 0]

    def _described(self, found: os.stat_result) -> dict[str, Any]:
        """Describe by what both worlds must have in common; see oracle.DIFFERENCES for the rest."""
        seen: dict[str, Any] = {"owner": f"{found.st_uid}:{found.st_gid}"}
        if stat.S_ISDIR(found.st_mode):
            return seen | {"kind": "directory", "mode": oct(stat.S_IMODE(found.st_mode))}
        seen["size"] = found.st_size
        seen["mtime"] = found.st_mtime_ns if found.st_mtime_ns < LONG_AGO_NS else "now"
        seen["links"] = found.st_nlink
        if stat.S_ISLNK(found.st_mode):
            return seen | {"kind": "link"}
        return seen | {"kind": "file", "mode": oct(stat.S_IMODE(found.st_mode))}

    def _mappable(self, slot: int) -> int:
        """Return how many bytes of *slot* can be mapped, 0 for none."""
        if slot not in self._slots:
            return 0
        found = os.fstat(self._slots[slot])
        return found.st_size if stat.S_ISREG(found.st_mode) else 0

    def _path(self, path: str) -> str:
        return f"{self._top}/{path}" if path else str(self._top)


def main() -> None:
    """Serve until standard input ends."""
    root, is_oracle = Path(sys.argv[1]), sys.argv[2:] == ["oracle"]
    os.umask(0o022)
    agents: dict[str, Agent] = {}
    with os.fdopen(os.dup(1), "wb") as answers:
        while True:
            try:
                case, steps = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            if case not in agents:
                (root / case).mkdir(exist_ok=True)
                agents[case] = Agent(root / case, is_oracle=is_oracle)
            for step in steps:
                pickle.dump(agents[case].run(step), answers)
                answers.flush()
