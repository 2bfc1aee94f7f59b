"""Random sequences of steps, each made from one number."""

from __future__ import annotations

import os
import random
from typing import Any

from tests.support.oracle_agent import Step

NAMES = ("a", "b", "c", "d")
SLOTS = range(4)
KIB, MIB = 1024, 1024 * 1024

#: What an object store cannot do, and the errno that says so: tried on the mount, on ext4 only imagined.
UNSUPPORTED = {"link": "EPERM", "mkfifo": "EPERM", "set_uid": "EPERM"}

#: Where the case is interrupted: every descriptor is closed and the file system mounted afresh.
REMOUNT = Step("close_all", {}, looks=False)

_EXTRA_FLAGS = (
    (os.O_CREAT, 0.55),
    (os.O_EXCL, 0.15),
    (os.O_TRUNC, 0.25),
    (os.O_APPEND, 0.2),
    (os.O_DIRECTORY, 0.06),
    (os.O_NOFOLLOW, 0.1),
    (os.O_SYNC, 0.05),
)

_WEIGHTS = {
    "open": 16,
    "close": 7,
    "dup": 2,
    "read": 6,
    "pread": 5,
    "write": 10,
    "pwrite": 8,
    "lseek": 3,
    "ftruncate": 5,
    "fsync": 3,
    "fdatasync": 1,
    "fchmod": 1,
    "futime": 2,
    "flistdir": 1,
    "drop_pages": 3,
    "mmap_read": 2,
    "mmap_write": 4,
    "copy_range": 2,
    "store": 10,
    "append": 4,
    "replace": 4,
    "load": 6,
    "truncate": 6,
    "unlink": 6,
    "mkdir": 9,
    "rmdir": 5,
    "rename": 12,
    "rename_noreplace": 3,
    "symlink": 3,
    "readlink": 2,
    "chmod": 4,
    "chown": 1,
    "utime": 4,
    "access": 1,
    "stat": 3,
    "listdir": 5,
    "tree": 2,
    "unsupported": 1,
}

_ON_SLOTS = {
    *("close", "dup", "read", "pread", "write", "pwrite", "lseek", "ftruncate", "fsync", "fdatasync"),
    *("fchmod", "futime", "flistdir", "drop_pages", "mmap_read", "mmap_write", "copy_range"),
}


def generate(seed: int, *, phases: int = 2, steps: int = 18) -> list[Step]:
    """Return the case *seed*: *phases* of about *steps* steps, each phase ended by REMOUNT and a look."""
    maker = _Maker(seed)
    case: list[Step] = []
    for _ in range(phases):
        case += [maker.step() for _ in range(maker.rng.randint(steps // 2, steps * 3 // 2))]
        maker.forget_slots()
        case += [Step("tree", {}, looks=False), REMOUNT, Step("tree", {}, looks=False)]
    return case


class _Maker:
    """Guesses what exists, so that most steps meet something; it need not be right."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._known: dict[str, str] = {}
        self._slots: set[int] = set()
        # Bytes stored through a mapping reach FUSE when the kernel likes, and move mtime then: where
        # a case stores without msync it sets no times.
        self._always_msync = self.rng.random() < 0.75
        self._is_big = self.rng.random() < 0.06

    def step(self) -> Step:
        """Return the next step."""
        while True:
            kind = self.rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
            if self._always_msync or kind not in ("utime", "futime"):
                break
        if kind in _ON_SLOTS and not self._slots:
            kind = "open"
        arguments = getattr(self, f"make_{kind}", self._some_path)()
        return Step(kind, arguments, looks=self.rng.random() < 0.6)

    def forget_slots(self) -> None:
        """Every descriptor is closed."""
        self._slots.clear()

    # Arguments by kind of step.

    def make_open(self) -> dict[str, Any]:
        flags = self.rng.choice((os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR))
        if self.rng.random() < 0.4:
            flags |= os.O_CREAT
        else:
            for flag, chance in _EXTRA_FLAGS:
                if self.rng.random() < chance:
                    flags |= flag
        slot = self.rng.choice([slot for slot in SLOTS if slot not in self._slots] or SLOTS)
        path = self._path(self.rng.choice(("file", "file", "file", None)))
        self._slots.add(slot)
        if flags & os.O_CREAT:
            self._add(path, "file")
        return {"slot": slot, "path": path, "flags": flags, "mode": self._mode()}

    def make_close(self) -> dict[str, Any]:
        slot = self._slot()
        self._slots.discard(slot)
        return {"slot": slot}

    def make_dup(self) -> dict[str, Any]:
        slot, to = self._slot(), self.rng.choice(SLOTS)
        if slot in self._slots:
            self._slots.add(to)
        return {"slot": slot, "to": to}

    def make_read(self) -> dict[str, Any]:
        return {"slot": self._slot(), "size": self._size()}

    def make_pread(self) -> dict[str, Any]:
        return {"slot": self._slot(), "size": self._size(), "offset": self._offset()}

    def make_write(self) -> dict[str, Any]:
        return {"slot": self._slot(), **self._bytes()}

    def make_pwrite(self) -> dict[str, Any]:
        return {"slot": self._slot(), **self._bytes(), "offset": self._offset()}

    def make_lseek(self) -> dict[str, Any]:
        offset = self.rng.choice((0, 1, -1, -100, self._offset()))
        return {"slot": self._slot(), "offset": offset, "whence": self.rng.choice((0, 1, 2))}

    def make_ftruncate(self) -> dict[str, Any]:
        return {"slot": self._slot(), "size": self.rng.choice((0, self._size(), self._offset()))}

    def make_fsync(self) -> dict[str, Any]:
        return {"slot": self._slot()}

    make_fdatasync = make_flistdir = make_drop_pages = make_mmap_read = make_fsync

    def make_fchmod(self) -> dict[str, Any]:
        return {"slot": self._slot(), "mode": self._mode()}

    def make_futime(self) -> dict[str, Any]:
        return {"slot": self._slot(), "mtime_ns": self._mtime_ns()}

    def make_mmap_write(self) -> dict[str, Any]:
        msync = self._always_msync or self.rng.random() < 0.5
        return {"slot": self._slot(), **self._bytes(), "offset": self._offset(), "msync": msync}

    def make_copy_range(self) -> dict[str, Any]:
        return {"slot": self._slot(), "to": self._slot(), "size": self._size()}

    def make_store(self) -> dict[str, Any]:
        path = self._path(self.rng.choice(("file", None)))
        self._add(path, "file")
        return {"path": path, **self._bytes()}

    make_append = make_replace = make_store

    def make_load(self) -> dict[str, Any]:
        return {"path": self._path("file")}

    def make_truncate(self) -> dict[str, Any]:
        return {"path": self._path("file"), "size": self.rng.choice((0, self._size(), self._offset()))}

    def make_unlink(self) -> dict[str, Any]:
        return {"path": self._gone(self._path(self.rng.choice(("file", "link", None))))}

    def make_mkdir(self) -> dict[str, Any]:
        path = self._new_path()
        self._add(path, "directory")
        return {"path": path, "mode": self.rng.choice((0o755, 0o777, 0o700, 0o1777))}

    def make_rmdir(self) -> dict[str, Any]:
        return {"path": self._gone(self._path("directory"))}

    def make_rename(self) -> dict[str, Any]:
        old = self._path()
        new = self._path() if self.rng.random() < 0.5 else self._new_path()
        moved = {p: k for p, k in self._known.items() if p == old or p.startswith(f"{old}/")}
        for path, kind in moved.items():
            del self._known[path]
            self._known[new + path[len(old) :]] = kind
        return {"old": old, "new": new}

    make_rename_noreplace = make_rename

    def make_symlink(self) -> dict[str, Any]:
        # No "..": a case stays in its own directory.
        path, target = self._path(), self.rng.choice((".", "missing", "x" * 300, self._path()))
        self._add(path, "link")
        return {"path": path, "target": target}

    def make_readlink(self) -> dict[str, Any]:
        return {"path": self._path("link")}

    def make_chmod(self) -> dict[str, Any]:
        return {"path": self._path(), "mode": self._mode()}

    def make_chown(self) -> dict[str, Any]:
        return {"path": self._path(), "uid": self._id(), "gid": self._id()}

    def make_utime(self) -> dict[str, Any]:
        return {"path": self._path(), "mtime_ns": self._mtime_ns(), "follow": self.rng.random() < 0.7}

    def make_access(self) -> dict[str, Any]:
        return {"path": self._path(), "mode": self.rng.choice((os.F_OK, os.R_OK, os.W_OK, os.X_OK))}

    def make_listdir(self) -> dict[str, Any]:
        return {"path": self.rng.choice(("", self._path("directory")))}

    def make_tree(self) -> dict[str, Any]:
        return {}

    def make_unsupported(self) -> dict[str, Any]:
        call = self.rng.choice(sorted(UNSUPPORTED))
        return {"call": call, "path": self._path("file"), "new": self._new_path()}

    # Values.

    def _some_path(self) -> dict[str, Any]:
        return {"path": self._path()}

    def _new_path(self) -> str:
        if self.rng.random() < 0.1:
            return "/".join(self.rng.choice(NAMES) for _ in range(self.rng.choice((1, 2, 3))))
        parents = [path for path, kind in self._known.items() if kind == "directory" and path.count("/") < 3]
        parent = self.rng.choice(["", *parents])
        return f"{parent}/{self.rng.choice(NAMES)}".removeprefix("/")

    def _add(self, path: str, kind: str) -> str:
        parent = path.rpartition("/")[0]
        if parent == "" or self._known.get(parent) == "directory":
            self._known.setdefault(path, kind)
        return path

    def _path(self, kind: str | None = None) -> str:
        known = [path for path, what in self._known.items() if kind in (None, what)]
        return self.rng.choice(known) if known and self.rng.random() < 0.75 else self._new_path()

    def _gone(self, path: str) -> str:
        self._known.pop(path, None)
        return path

    def _slot(self) -> int:
        if self._slots and self.rng.random() < 0.9:
            return self.rng.choice(sorted(self._slots))
        return self.rng.choice(SLOTS)

    def _mode(self) -> int:
        # The owner may always read, write and search: what is left behind must be removable.
        return self.rng.choice((0o644, 0o600, 0o777, 0o755, 0o640)) | self.rng.choice((0, 0, 0o700))

    def _id(self) -> int:
        return self.rng.choice((0, 1000, 4242))

    def _size(self) -> int:
        if self._is_big and self.rng.random() < 0.3:
            return self.rng.choice((5 * MIB, 5 * MIB + 1, 11 * MIB + 77))
        least, most = self.rng.choice(((0, 3), (1, 100), (1, 5000), (4090, 4100), (60 * KIB, 140 * KIB)))
        return self.rng.randint(least, most)

    def _offset(self) -> int:
        if self._is_big and self.rng.random() < 0.2:
            return 6 * MIB + self.rng.randint(0, 99)
        return self.rng.choice((0, 1, 10, 4096, 5000, 64 * KIB, 65 * KIB, 130 * KIB))

    def _mtime_ns(self) -> int:
        seconds = self.rng.choice((-1_000_000_000, -1, 0, 1, 86_400, 946_684_800, 1_400_000_000))
        return seconds * 10**9 + self.rng.choice((0, 1, 500_000_000, 999_999_999))

    def _bytes(self) -> dict[str, Any]:
        return {"seed": self.rng.randrange(10**6), "size": self._size()}
