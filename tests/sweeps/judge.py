"""Whether a run kept the contract: what its calls returned against what the bucket and the spool hold."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.sweeps.programs import PREPARED, content, digest, old_content

Event = dict[str, Any]

#: What a failing server may be called; anything else says something that is not so.
FAILURES = frozenset({errno.EIO, errno.EACCES, errno.ETIMEDOUT, errno.EAGAIN})
RENAMES = {errno.EINPROGRESS}
"""A directory's rename that outlives its caller's patience goes on."""


@dataclass
class Run:
    """A cell that was run.

    Args:
        name: the cell's directory.
        events: what the program said.
        signal: what ended it; 0 if nothing did.
        objects: the bodies of the files in the bucket when the fault was over.
        directories: the paths of the directory markers there.
        metadata: of the objects.
        spooled: what the spool kept, by path.
        source: what ``cp`` and ``git`` copied.
    """

    program: str
    name: str
    events: list[Event]
    signal: int
    objects: dict[str, bytes]
    directories: list[str]
    metadata: Callable[[str], dict[str, str]]
    spooled: dict[str, list[bytes]]
    source: Path
    complaints: list[str] = field(default_factory=list)
    lost_bytes: int = 0

    def old(self, path: str) -> bytes:
        """Return what was prepared at *path*."""
        return old_content(self.program, self.name, path)

    def complain(self, text: str, lost: int = 0) -> None:
        """Write down what is wrong, and how many bytes are gone or mixed up."""
        self.complaints.append(text)
        self.lost_bytes += lost

    def named(self, call: str, path: str | None = None) -> list[Event]:
        """Return the events of *call*."""
        return [one for one in self.events if one["call"] == call and path in (None, one["path"])]


def judge(run: Run) -> None:
    """Write down in ``run.complaints`` all that broke the contract."""
    _judge_errnos(run)
    _JUDGES.get(run.program, _judge_files)(run)


def _judge_errnos(run: Run) -> None:
    """A failure is called a failure: never "not found", "there already" or "stale"."""
    removed = set()
    for event in run.events:
        number, call, path = event["errno"], event["call"], event["path"]
        allowed = FAILURES | {"rmdir": {errno.ENOTEMPTY}, "rename": RENAMES}.get(call, set())
        if path == "absent":
            if not number:
                run.complain(f"{call} found {path}, which is not there")
            allowed = allowed | {errno.ENOENT}
        if number and number not in allowed:
            run.complain(f"{call} of {path} failed with {errno.errorcode.get(number, number)}")
        if not number and call == "unlink":
            removed.add(path)


def _judge_files(run: Run) -> None:
    """A file that a close or an fsync stored is there; one that they did not is old or new, and kept."""
    for path in sorted({*PREPARED[run.program], *(one["path"] for one in run.events if "stores" in one)}):
        allowed = {digest(run.old(path)) if path in PREPARED[run.program] else None}
        owed: tuple[str, int] | None = None
        for event in run.events:
            if event["path"] == path and "stores" in event:
                if event["errno"]:
                    # Of a truncate by path that failed nobody has bytes to lose.
                    owed = None if event["call"] == "truncate" else (event["stores"], event["size"])
                    allowed = allowed | {event["stores"]}
                else:
                    allowed, owed = {event["stores"]}, None
        if run.signal and path == "file":
            allowed = allowed | {digest(_mapped(run))}
        there = digest(run.objects[path]) if path in run.objects else None
        size = len(run.objects.get(path, b""))
        if there not in allowed:
            run.complain(f"{path} is none of what it may be: {size} bytes", lost=max(size, 1))
        elif owed and there != owed[0] and owed[0] not in map(digest, run.spooled.get(path, [])):
            run.complain(
                f"{path}: neither the bucket nor the spool has what a close could not store", owed[1]
            )


def _mapped(run: Run) -> bytes:
    data = bytearray(run.old("file"))
    data[4000:9000] = content(run.name, "file", "new", 5000)
    return bytes(data)


def _judge_rename_file(run: Run) -> None:
    for old, new in (("from", "to"), ("over", "target")):
        data = run.old(old)
        there = [path for path in (old, new) if run.objects.get(path) == data]
        if all(not one["errno"] for one in run.named("rename", old)):
            if there != [new] or old in run.objects:
                run.complain(f"rename of {old} to {new} returned 0; the bytes are at {there}", len(data))
        elif not there:
            run.complain(f"{old} is lost by a rename that failed", len(data))
        if new in run.objects and run.objects[new] not in (data, run.old(new)):
            run.complain(f"{new} is neither of the two files", len(data))
        if new == "target" and new not in run.objects:
            run.complain("target has vanished", len(data))


def _judge_rename_directory(run: Run) -> None:
    """By now nothing goes on in the background: the tree is whole, at one name."""
    failed = any(one["errno"] for one in run.named("rename"))
    expected = {path: run.old(path) for path in PREPARED[run.program]}
    moved = {f"f{path[1:]}": data for path, data in expected.items()}
    for path, data in run.objects.items():
        if data != {**expected, **moved}.get(path):
            run.complain(f"{path} does not hold what it should", len(data))
    if not failed and run.objects != moved:
        run.complain(f"rename returned 0, and there are {sorted(run.objects)}", 1)
    if run.objects not in (expected, moved):
        run.complain(f"the tree is not whole at one name: {sorted(run.objects)}")
    for path, data in expected.items():
        if path not in run.objects and f"f{path[1:]}" not in run.objects:
            run.complain(f"{path} is lost", len(data))


def _judge_rm_r(run: Run) -> None:
    for path in PREPARED[run.program]:
        tried = run.named("unlink", path)
        if tried and not tried[0]["errno"]:
            if path in run.objects:
                run.complain(f"{path} was removed and is there")
        elif path in run.objects and run.objects[path] != run.old(path):
            run.complain(f"{path} has changed", 1)
        elif not tried and path not in run.objects:
            run.complain(f"{path} is gone, and nobody removed it", len(run.old(path)))
    for event in run.named("rmdir"):
        if not event["errno"] and any(one.startswith(event["path"] + "/") for one in run.objects):
            run.complain(f"rmdir of {event['path']} returned 0, and files are in it")


def _judge_untouched(run: Run) -> None:
    for path in PREPARED[run.program]:
        if run.objects.get(path) != run.old(path):
            run.complain(f"{path} has changed", len(run.old(path)))


def _judge_ls(run: Run) -> None:
    """A listing shows all names or fails; a size is right or not said."""
    _judge_untouched(run)
    want = {".": sorted({path.split("/")[0] for path in PREPARED["ls"]}), "c": ["d"]}
    for event in run.named("scandir"):
        if not event["errno"] and sorted(event["names"]) != want[event["path"]]:
            run.complain(f"a listing of {event['path']} shows {event['names']}")
    for event in run.named("stat"):
        if not event["errno"] and event["size"] != PREPARED["ls"].get(event["path"]):
            run.complain(f"stat of {event['path']} says {event['size']} bytes")


def _judge_read(run: Run) -> None:
    """A read gives the bytes that are there, all of them, or fails."""
    _judge_untouched(run)
    for event in run.named("read"):
        if not event["errno"] and not event["is_right"]:
            run.complain(f"a read of {event['path']} gave {event['got']} wrong bytes of {event['want']}", 1)


def _judge_cp(run: Run) -> None:
    (done,) = run.named("cp")
    data = (run.source / "file").read_bytes()
    copy = run.objects.get("copy")
    if copy not in (None, b"", data):
        run.complain(f"a part of the copy: {len(copy or b'')} bytes", len(data))
    if done["exit"]:
        return
    if copy != data:
        run.complain("cp succeeded, and the copy is not there", len(data))
        return
    facts, stored = os.stat(run.source / "file"), run.metadata("copy")
    seconds, _, nanoseconds = stored.get("mtime", "0.0").partition(".")
    if int(stored.get("mode", 0)) != facts.st_mode or int(seconds + nanoseconds) != facts.st_mtime_ns:
        run.complain(f"cp -p succeeded, and mode and time are not there: {stored}")


def _judge_git(run: Run) -> None:
    (done,) = run.named("git")
    tracked = subprocess.run(
        ["git", "-C", str(run.source / "repository"), "ls-files"], capture_output=True, text=True, check=True
    )
    for path in tracked.stdout.split():
        data = run.objects.get(f"clone/{path}")
        if data not in (None, (run.source / "repository" / path).read_bytes()):
            run.complain(f"a checked-out file is wrong: {path}", 1)
    if done["exit"]:
        return
    with downloaded(run) as place:
        clone = place / "clone"
        for command in (["fsck", "--strict"], ["diff", "--exit-code"], ["diff", "--cached", "--exit-code"]):
            git = ["git", "-c", "safe.directory=*", "-c", "core.fileMode=false", "-C", str(clone), *command]
            checked = subprocess.run(git, capture_output=True, text=True)
            if checked.returncode:
                said = (checked.stdout + checked.stderr)[-300:]
                run.complain(f"git clone succeeded; git {command[0]} of what the bucket has: {said}", 1)


def _judge_sqlite(run: Run) -> None:
    (done,) = run.named("sqlite3")
    with downloaded(run) as place:
        base = sqlite3.connect(place / "base")
        try:
            (intact,) = base.execute("PRAGMA integrity_check").fetchone()
            values = [value for (value,) in base.execute("SELECT v FROM t WHERE id IN (1, 400) ORDER BY id")]
        except sqlite3.Error as exc:
            intact, values = str(exc), []
        finally:
            base.close()
    if intact != "ok" or values not in ([0, 0], [1, 1]):
        run.complain(f"the data base in the bucket: {intact}, rows {values}", 1)
    elif not done["exit"] and values != [1, 1]:
        run.complain("the transaction was committed and is not in the bucket", 1)


class downloaded:
    """The bucket's files in a local directory, while the block runs."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._place = tempfile.TemporaryDirectory(prefix="s3mount-sweep-")

    def __enter__(self) -> Path:
        place = Path(self._place.name)
        for path in self._run.directories:
            (place / path).mkdir(parents=True, exist_ok=True)
        for path, data in self._run.objects.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(data)
        return place

    def __exit__(self, *_: object) -> None:
        self._place.cleanup()


_JUDGES: dict[str, Callable[[Run], None]] = {
    "rename_file": _judge_rename_file,
    "rename_directory": _judge_rename_directory,
    "rm_r": _judge_rm_r,
    "ls": _judge_ls,
    "read": _judge_read,
    "cp_p": _judge_cp,
    "git_clone": _judge_git,
    "sqlite_transaction": _judge_sqlite,
}


def judge_view(run: Run, seen: list[Event]) -> None:
    """What this host shows when the fault is over is what the bucket has, or what waits to be sent."""
    shown = {}
    for event in seen:
        if event["errno"]:
            name = errno.errorcode.get(event["errno"], event["errno"])
            run.complain(f"after the fault, {event['call']} of {event['path']} fails with {name}")
        elif event["call"] == "read":
            shown[event["path"]] = event["holds"]
    for path in sorted({*shown, *run.objects}):
        right = {digest(data) for data in run.spooled.get(path, [])}
        if path in run.objects:
            right.add(digest(run.objects[path]))
        if path not in shown:
            run.complain(f"after the fault, {path} is in the bucket and not shown")
        elif shown[path] not in right:
            run.complain(f"after the fault, {path} is shown with bytes that are nowhere")


def judge_reuse(run: Run, events: list[Event], objects: dict[str, bytes]) -> None:
    """The names work again: what is written to them is stored and read back."""
    for event in events:
        if event["errno"]:
            name = errno.errorcode.get(event["errno"], event["errno"])
            run.complain(f"used again, {event['call']} of {event['path']} fails with {name}")
        elif event.get("exit"):
            run.complain(f"used again, {event['call']} fails: {event['said']}")
        elif event.get("is_right") is False:
            run.complain(f"used again, {event['call']} of {event['path']} gives something else")
        elif "stores" in event and digest(objects.get(event["path"], b"")) != event["stores"]:
            run.complain(f"used again, {event['path']} is not what the bucket has")


def reused_names(program: str) -> list[str]:
    """Return the names that are used once more; none for what leaves many behind, which is removed first."""
    made = {"create": ["new", "synced"], "create_parts": ["new"], "rename_file": ["to"]}
    if program in ("git_clone", "cp_p"):
        return ["copy", "clone/file"]
    if program == "sqlite_transaction":
        return ["base", "base-journal"]
    names = [*PREPARED[program], *made.get(program, [])]
    if program == "rename_directory":
        names += [f"f{name[1:]}" for name in names]
    return names


def too_long(events: list[Event], seconds: float, slowest_bytes_per_s: float) -> Iterator[str]:
    """Say which calls took longer than *seconds* and what their size allows."""
    for event in events:
        took = event["seconds"]
        if took > seconds + (event.get("size") or 0) / slowest_bytes_per_s:
            yield f"{event['call']} of {event['path']} took {took:.1f} s {event.get('slowest', '')}"
