"""What defaults depend on: this machine's memory, this user's directories."""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from s3mount.core.exits import Exit
from s3mount.errors import StartupError

MAX_DEFAULT_MEMORY = 512 * 1024**2
# Below this the block cache cannot hold what a handful of sequential readers look ahead.
MIN_DEFAULT_MEMORY = 32 * 1024**2
# cgroup v1 says "no limit" with the largest multiple of the page size in 63 bits.
_CGROUP_V1_UNLIMITED = 1 << 60
# More than anybody opens; the kernel's own ceiling (fs.nr_open) by default.
MAX_DESCRIPTORS = 1 << 20
# prctl(2), of linux/prctl.h.
_PR_SET_DUMPABLE = 4
SYSTEM_USER = "s3mount"
"""Whom a mount of root's runs as where that user exists: `s3mount install` and the package make it."""
STATE = Path("/var/lib/s3mount")
"""root's and the system user's."""


@dataclass(frozen=True, slots=True)
class Worker:
    """The user that the process of a mount of root's becomes, before it hears anything from the network."""

    name: str
    uid: int
    gid: int
    home: str

    @property
    def is_system_user(self) -> bool:
        """Whether it only works for root: the mount is root's then, and otherwise this user's."""
        return self.name == SYSTEM_USER


def worker_for(run_as: str | None) -> Worker | None:
    """Return whom a mount's process becomes, None where it stays who it is.

    Args:
        run_as: what ``--run-as`` says; None: the system user, if root mounts and there is one.

    Raises: StartupError (there is no such user, or only root could become it).
    """
    thing = f"--run-as {run_as}"
    try:
        found = pwd.getpwnam(run_as or SYSTEM_USER)
    except KeyError:
        if run_as is None:
            return None
        raise StartupError(
            thing, "there is no such user", "`s3mount install` makes s3mount", Exit.CONFIG
        ) from None
    if os.geteuid() != 0:
        if run_as is not None and found.pw_uid != os.geteuid():
            raise StartupError(
                thing,
                "only root's mounts can run as another user",
                "mount as root, or leave it out",
                Exit.CONFIG,
            )
        return None
    if found.pw_uid == 0:
        return None
    return Worker(found.pw_name, found.pw_uid, found.pw_gid, found.pw_dir)


def mounter_socket(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return where systemd starts a mount helper for a unit that is not root's; None where nobody does."""
    return environment.get("S3MOUNT_MOUNTER") or None


def mounting_uid() -> int:
    """Return whose mount this is: root's, where root's helper makes it."""
    return 0 if mounter_socket() else os.getuid()


def mounting_gid() -> int:
    """Return the group of whose mount this is."""
    return 0 if mounter_socket() else os.getgid()


def default_memory_bytes() -> int:
    """Return a quarter of the memory this process may have, at most 512 MiB and at least 32 MiB."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = cgroup_memory_bytes()
    available = physical if limit is None else min(physical, limit)
    return max(MIN_DEFAULT_MEMORY, min(MAX_DEFAULT_MEMORY, available // 4))


def cgroup_memory_bytes(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Return the tightest memory limit of this process's control groups, None without one.

    Every ancestor's limit counts too. Inside a container the path in *membership* often does not exist
    below *root*, whose own file then holds the container's limit; walking up finds it.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    limits: list[int] = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            limits.extend(_limits(root, path, "memory.max"))
        elif "memory" in controllers.split(","):
            limits.extend(_limits(root / "memory", path, "memory.limit_in_bytes"))
    return min(limits, default=None)


def _limits(root: Path, path: str, file_name: str) -> Iterator[int]:
    relative = Path(path.lstrip("/"))
    for directory in (relative, *relative.parents):
        try:
            text = (root / directory / file_name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < _CGROUP_V1_UNLIMITED:
            yield int(text)


def raise_descriptor_limit() -> int:
    """Let this process have as many file descriptors as the hard limit permits; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def forbid_dumps() -> None:
    """Keep this process's memory, which has keys and other people's files in it, to itself for good.

    No core dump, and no look into it through ptrace(2) or /proc/PID/mem for who lacks CAP_SYS_PTRACE.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A core_pattern that is a pipe heeds no limit, and a limit keeps no debugger out.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def home() -> Path:
    """Return the user's home directory: $HOME, or what the password file says."""
    return Path(os.environ.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir)


def state_dir(environment: Mapping[str, str] = os.environ, *, worker: Worker | None = None) -> Path:
    """Return where s3mount keeps what must outlive a crash: spools and logs.

    In this order: $STATE_DIRECTORY (given by systemd to a unit with StateDirectory=),
    $XDG_STATE_HOME/s3mount, /var/lib/s3mount for root, ~/.local/state/s3mount. Never /tmp or /run: a
    reboot empties those, and a spool may hold the only copy of what a program wrote.

    Args:
        worker: of a mount of root's; whatever root's environment says, it must be able to get there.
    """
    if given := environment.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    if worker is not None:
        return _state_of(worker)
    if (xdg := environment.get("XDG_STATE_HOME")) and Path(xdg).is_absolute():
        return Path(xdg) / "s3mount"
    if os.geteuid() == 0:
        return STATE
    return home() / ".local" / "state" / "s3mount"


def _state_of(worker: Worker) -> Path:
    """Return the directory of a user's own, or one beside root's where that user's home is no home."""
    if worker.is_system_user:
        return STATE
    try:
        has_home = Path(worker.home).stat().st_uid == worker.uid
    except OSError:
        has_home = False
    if has_home:
        return Path(worker.home) / ".local/state/s3mount"
    return STATE.with_name(f"s3mount-{worker.name}")


def config_dirs(environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Return where configurations are, the user's own before the machine's.

    $XDG_CONFIG_HOME/s3mount or ~/.config/s3mount, then /etc/s3mount.
    """
    xdg = environment.get("XDG_CONFIG_HOME")
    own = Path(xdg) if xdg and Path(xdg).is_absolute() else home() / ".config"
    return [own / "s3mount", Path("/etc/s3mount")]


def default_credentials_file(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the credential ``s3mount`` that systemd has loaded for this unit, None where it has none.

    One without any section is what the unit sets where nobody has made the file.
    """
    directory = environment.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return None
    path = Path(directory) / "s3mount"
    try:
        return str(path) if b"[" in path.read_bytes() else None
    except OSError:
        return None


def data_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the demo keeps its server's data: $XDG_DATA_HOME/s3mount or ~/.local/share/s3mount."""
    if (xdg := environment.get("XDG_DATA_HOME")) and Path(xdg).is_absolute():
        return Path(xdg) / "s3mount"
    return home() / ".local" / "share" / "s3mount"
