"""Who mounts, and as whom a mount's process runs: root's rights end here, before the network begins."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from s3mount.config import MountConfig
from s3mount.config.machine import Worker, mounter_socket, state_dir
from s3mount.core.exits import Exit
from s3mount.errors import StartupError
from s3mount.mounter.base import Mounter, MountPlan, flags_of
from s3mount.mounter.client import Helper, connected
from s3mount.mounter.fusermount import Fusermount
from s3mount.mounter.handed import HandedFile
from s3mount.mounter.identity import become
from s3mount.mounter.kernel import KernelMount
from s3mount.mounter.server import Server, fork_server

if TYPE_CHECKING:
    from s3mount.config.files import ConfigSource

log = logging.getLogger(__name__)


def mounter_for(
    config: MountConfig, worker: Worker | None, log_file: str | None, source: ConfigSource | None
) -> Mounter:
    """Return who mounts *config*; with *worker*, this process is that user from now on.

    Args:
        log_file: open already; *worker* shall be able to rotate it.
        source: by whose name systemd's helper knows the mount.

    Raises: StartupError.
    """
    path = mounter_socket()
    if path is not None:
        return _of_systemd(path, source)
    if os.geteuid() != 0:
        return Fusermount(config.mountpoint)
    mount = KernelMount(plan_of(config, worker))
    if worker is None:
        return mount
    try:
        return _split(config, worker, mount, log_file)
    except OSError as error:
        raise StartupError(
            f"--run-as {worker.name}",
            f"this process cannot become that user ({error.strerror or error})",
            "a container needs --cap-add SETUID,SETGID,SETPCAP,CHOWN; or let it stay root with --run-as root",
            Exit.CONFIG,
        ) from error


def plan_of(config: MountConfig, worker: Worker | None) -> MountPlan:
    """Return what mount(2) is told: a mount for *worker*, unless that is the system user, or for root."""
    is_roots = worker is None or worker.is_system_user
    return MountPlan(
        mountpoint=config.mountpoint,
        source=config.fsname or config.source,
        flags=flags_of(config.mount_options, read_only=config.read_only),
        user=0 if is_roots or worker is None else worker.uid,
        group=0 if is_roots or worker is None else worker.gid,
        # libfuse itself then refuses everybody but its user and root.
        lets_others_in=config.allow_other or config.allow_root,
    )


def _of_systemd(path: str, source: ConfigSource | None) -> Helper:
    name = None if source is None else source.file.path
    if name is None or name.parent != Path("/etc/s3mount"):
        raise StartupError(
            "mount helper", "it mounts what a file in /etc/s3mount says", "use --config NAME", Exit.USAGE
        )
    helper = connected(path)
    helper.serve(name.stem)
    return helper


def _split(config: MountConfig, worker: Worker, mount: KernelMount, log_file: str | None) -> Helper:
    """Start root's helper, then become *worker*. Raises: OSError, StartupError."""
    _give_places(config, worker, log_file)
    variables = _aws_files() if worker.is_system_user and config.sign_requests else {}
    paths = [*variables.values()] if config.credentials_file is None else [config.credentials_file]
    handed = {path: HandedFile(path, worker.uid, worker.gid) for path in paths}
    connection = fork_server(
        lambda its: Server(its, mount, list(handed.values())), [one.descriptor for one in handed.values()]
    )
    names = {path: one.name for path, one in handed.items()}
    os.environ |= {name: names[path] for name, path in variables.items() if path in names}
    # Once it is no longer root, it would look in that user's home.
    os.environ["STATE_DIRECTORY"] = str(state_dir(worker=worker))
    become(worker)
    _refuse_hidden_program(worker)
    log.info("this process is user %s from here on; a helper stays root, to unmount", worker.name)
    return Helper(connection, names)


def _refuse_hidden_program(worker: Worker) -> None:
    """Refuse a program that this process cannot read any more: it would fail at the first import."""
    for path in (os.__file__, __file__):
        if not os.access(path, os.R_OK):
            raise StartupError(
                f"--run-as {worker.name}",
                f"that user cannot read {path}, a part of this program",
                "install s3mount where everybody can read it, in /opt say; or use --run-as root",
                Exit.CONFIG,
            )


def _aws_files() -> dict[str, str]:
    """Return the files of root's that AWS programs read keys from, by the variable that can name another."""
    home = os.path.expanduser("~/.aws")
    places = (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config"))
    found = {name: os.path.realpath(os.environ.get(name) or f"{home}/{file}") for name, file in places}
    return {name: path for name, path in found.items() if os.path.isfile(path)}


def _give_places(config: MountConfig, worker: Worker, log_file: str | None) -> None:
    """Let *worker* own what it is to write to: its spool, made if need be, and its log. Raises: OSError."""
    state, spool = state_dir(worker=worker), Path(config.spool_dir)
    for place in ("", "spool", "log", "facts"):
        give(state, place, worker)
    if config.cache_dir is not None:
        for place in ("spool", "facts"):
            give(Path(config.cache_dir) / place, "", worker)
    if spool.is_relative_to(state):
        give(state, str(spool.relative_to(state)), worker)
    else:
        give(spool, "", worker)
    if log_file is not None:
        _give_file(log_file, worker)


def give(top: Path, below: str, worker: Worker) -> None:
    """Let *worker* own the directory *below* *top*, made if need be, and the files in it if it was root's.

    What was theirs already is left as it is: they could have put root's own files into it. For the same
    reason no symbolic link is followed from *top* on.

    Raises: OSError.
    """
    top.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    directory = os.open(top.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in (top.name, *Path(below).parts):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=directory)
            inner = os.open(
                name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory
            )
            os.close(directory)
            directory = inner
        if os.fstat(directory).st_uid != 0:
            return
        give_files(directory, worker.uid, worker.gid)
        os.fchown(directory, worker.uid, worker.gid)
    finally:
        os.close(directory)


def give_files(directory: int, uid: int, gid: int) -> None:
    """Let *uid* own the files of root's in the open *directory*. Raises: OSError."""
    for name in os.listdir(directory):
        if _may_be_given(os.stat(name, dir_fd=directory, follow_symlinks=False)):
            os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)


def _may_be_given(found: os.stat_result) -> bool:
    """Whether it is a file of root's with one name: one with two may have been put there to be given away."""
    return stat.S_ISREG(found.st_mode) and found.st_uid == 0 and found.st_nlink == 1


def _give_file(path: str, worker: Worker) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if _may_be_given(os.fstat(descriptor)):
            os.fchown(descriptor, worker.uid, worker.gid)
    finally:
        os.close(descriptor)
