"""Which process serves which mountpoint: one small state file for each running mount.

``s3mount umount`` reads it to wait for the right process, and only for that one: a process is known by
its id together with the time it started, since ids are used again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import select
import stat
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MountState:
    """One mount and the process behind it.

    Attributes:
        started: when the process started, in clock ticks since boot.
        log_file: None when it logs to its terminal.
        exit_code: how it ended, None while it runs; kept only when it did not end well.
        control: the name of its control socket, in the same directory; None where it has none.
    """

    pid: int
    started: int
    mountpoint: str
    source: str
    spool_dir: str
    drain_timeout_s: float
    log_file: str | None = None
    exit_code: int | None = None
    control: str | None = None

    def is_running(self) -> bool:
        """True while this very process exists, zombies excepted."""
        return process_started(self.pid) == self.started


ROOTS = Path("/run/s3mount")
"""State files of root's mounts; those that run as user NAME have them in a directory NAME in there."""


class UnsafeDirectory(Exception):
    """The directory for state files belongs to somebody else, or others may write into it."""


def process_started(pid: int) -> int | None:
    """Return when process *pid* started, in clock ticks since boot; None if it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The command's name, in parentheses, may hold anything; the fields after it are numbered from 3.
    after_name = text.rpartition(")")[2].split()
    state, started = after_name[0], after_name[19]
    return None if state in "ZX" else int(started)


def directories(uid: int) -> list[Path]:
    """Return where the state files of *uid*'s mounts may be, the preferred place first.

    Those of root's mounts that run as another user are that user's, in a directory that root has made.
    """
    if uid == 0:
        return [ROOTS, *_of_workers()]
    found: list[Path] = []
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given and os.path.isabs(given) and uid == os.geteuid():
        found.append(Path(given) / "s3mount")
    found.append(Path(f"/run/user/{uid}/s3mount"))
    with contextlib.suppress(KeyError):
        found.append(ROOTS / pwd.getpwuid(uid).pw_name)
    found.append(Path(f"/tmp/s3mount-{uid}"))
    return list(dict.fromkeys(found))


def _of_workers() -> list[Path]:
    try:
        return sorted(path for path in ROOTS.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return []


def make_directory_for(name: str, uid: int, gid: int) -> Path:
    """Make the directory for the state files of root's mounts that run as user *name*; return it.

    Raises: OSError, UnsafeDirectory.
    """
    ROOTS.mkdir(mode=0o711, exist_ok=True)
    _prepare(ROOTS)
    ROOTS.chmod(0o711)  # the way in, and nothing to see
    directory = ROOTS / name
    directory.mkdir(mode=0o700, exist_ok=True)
    os.chown(directory, uid, gid, follow_symlinks=False)
    return directory


def usable_directory() -> Path:
    """Return the first directory that can hold this user's state files, created if need be.

    Raises: OSError or UnsafeDirectory, of the last one tried.
    """
    candidates = directories(os.geteuid())
    for candidate in candidates[:-1]:
        with contextlib.suppress(OSError, UnsafeDirectory):
            _prepare(candidate)
            return candidate
    _prepare(candidates[-1])
    return candidates[-1]


def write(state: MountState, directory: Path) -> None:
    """Record *state*, replacing what was recorded for its mountpoint.

    Raises: OSError.
    """
    path = directory / _file_name(state.mountpoint)
    temporary = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(state), file)
    temporary.replace(path)


def find(mountpoint: str, uid: int) -> tuple[MountState, Path] | None:
    """Return what is recorded for *uid*'s mount at *mountpoint*, and the directory it was found in."""
    for directory in directories(uid):
        state = _read(directory / _file_name(mountpoint), _believed(directory, uid))
        if state is not None and state.mountpoint == mountpoint:
            return state, directory
    return None


def recorded(directory: Path, uid: int | None = None) -> list[MountState]:
    """Return all that is recorded in *directory* of the mounts of *uid*, by default this user."""
    owner = os.geteuid() if uid is None else uid
    try:
        paths = sorted(directory.glob("*.json"))
    except OSError:
        return []
    states = (_read(path, _believed(directory, owner)) for path in paths)
    return [state for state in states if state is not None]


def forget(state: MountState, directory: Path) -> None:
    """Remove the record of *state*, unless another mount has taken its place."""
    if state.control is not None and (socket := control_socket(state, directory)) is not None:
        socket.unlink(missing_ok=True)  # of a process that was killed
    if _is_recorded(state, directory):
        (directory / _file_name(state.mountpoint)).unlink(missing_ok=True)


def control_name(mountpoint: str, pid: int) -> str:
    """Return the name of the control socket: with the process, since the one before may be draining."""
    return f"{_stem(mountpoint)}.{pid}.sock"


def control_socket(state: MountState, directory: Path) -> Path | None:
    """Return where the mount's control socket is, None where it has none.

    Only ever in *directory*, whatever the record says: that may be another user's.
    """
    name = state.control
    if name is None or name != control_name(state.mountpoint, state.pid):
        return None
    return directory / name


def record_end(state: MountState, exit_code: int, directory: Path) -> None:
    """Leave word of how the mount ended: no record after a good end, the exit code after another.

    Another mount at the same place, begun while this one was draining, keeps its record.
    """
    with contextlib.suppress(OSError):
        if exit_code == 0:
            forget(state, directory)
        elif _is_recorded(state, directory):
            write(replace(state, exit_code=exit_code), directory)


def sweep_sockets(state: MountState, directory: Path) -> None:
    """Take away the control sockets that earlier mounts at the same place left when they were killed."""
    own = control_name(state.mountpoint, state.pid)
    for path in directory.glob(f"{_stem(state.mountpoint)}.*.sock"):
        pid = path.name.split(".")[1]
        if path.name != own and pid.isdigit() and process_started(int(pid)) is None:
            path.unlink(missing_ok=True)


def wait_for_end(pid: int, started: int, timeout_s: float) -> bool:
    """Wait until the process has ended; False when it is still there after *timeout_s*."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        # Only now: the id may have been given to another process before it was opened.
        if process_started(pid) != started:
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))
    finally:
        os.close(descriptor)


def _believed(directory: Path, uid: int) -> int:
    """Return who beside root may have written what is in *directory*, for a reader *uid*."""
    if uid == 0 and directory.parent == ROOTS:
        with contextlib.suppress(OSError):
            return directory.lstat().st_uid
    return uid


def _file_name(mountpoint: str) -> str:
    return f"{_stem(mountpoint)}.json"


def _stem(mountpoint: str) -> str:
    return hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:24]


def _is_recorded(state: MountState, directory: Path) -> bool:
    recorded = _read(directory / _file_name(state.mountpoint), None)
    return recorded is not None and (recorded.pid, recorded.started) == (state.pid, state.started)


def _prepare(directory: Path) -> None:
    """Make *directory*, for its owner alone, and see that nobody else could have put a trap into it."""
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise UnsafeDirectory(f"{directory} is not a directory of yours alone")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(f"{directory} is not writable")


def _read(path: Path, owner: int | None) -> MountState | None:
    """Return the record in *path*; None if there is none, or it is not *owner*'s or root's own."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with open(descriptor, encoding="utf-8", errors="surrogateescape") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or (owner is not None and found.st_uid not in (owner, 0)):
            return None
        try:
            values = json.load(file)
            known = {field.name for field in fields(MountState)}
            state = MountState(**{name: value for name, value in values.items() if name in known})
        except (ValueError, AttributeError, TypeError):
            return None
    return state if isinstance(state.pid, int) and state.pid > 0 else None
