"""What can be seen to be wrong on this machine, before anything is started.

Every check raises StartupError: the thing, the cause, the next step.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

from s3mount import runtime
from s3mount.cli.look import Sight, look_at
from s3mount.cli.mount_table import FUSE_TYPE, mounted_at
from s3mount.config import MountConfig
from s3mount.config.machine import mounter_socket
from s3mount.core.exits import Exit
from s3mount.errors import StartupError

# For a look at the mountpoint; only a mount whose process hangs ever takes long.
LOOK_S = 5.0
# How long the end of an earlier mount may take before it is spoken of.
WAIT_SILENTLY_S = 1.0
# Beyond the time that the earlier mount has for its uploads.
DRAIN_GRACE_S = 15.0
_DEAD = (errno.ENOTCONN, errno.ECONNABORTED, errno.ESHUTDOWN)


def check_all(config: MountConfig) -> Sight:
    """Check everything local that *config* needs, and return how the mountpoint looks before mounting.

    Creates the cache and spool directories.

    Raises: StartupError.
    """
    if mounter_socket() is None:
        sight = check_mountpoint(config)
        check_fuse()
    else:
        sight = Sight(0)  # both are root's helper's to check
    if config.allow_other or config.allow_root:
        check_others_allowed("--allow-other" if config.allow_other else "--allow-root")
    if config.cache_dir is not None:
        check_directory("cache directory", config.cache_dir, "--cache-dir")
    check_directory("spool directory", config.spool_dir, "--spool-dir")
    if config.credentials_file is not None:
        check_credentials_file(config.credentials_file)
    if config.ca_bundle is not None:
        check_readable("CA bundle", config.ca_bundle)
    return sight


def wait_for_the_one_before(config: MountConfig) -> None:
    """Return when a mount of the same place that was unmounted has stored what it had left.

    Raises: StartupError (it has not within its own time for that).
    """
    entry = mounted_at(config.mountpoint)
    found = runtime.find(config.mountpoint, os.geteuid())
    if found is None or not found[0].is_running() or (entry is not None and entry.fs_type == FUSE_TYPE):
        return
    state = found[0]
    if state.spool_dir != config.spool_dir:
        return  # another bucket: its end and our beginning have nothing in common
    if not runtime.wait_for_end(state.pid, state.started, WAIT_SILENTLY_S):
        print(
            f"s3mount: process {state.pid} is still storing what was written at {state.mountpoint} before; "
            "it is mounted again after that",
            file=sys.stderr,
            flush=True,
        )
        if not runtime.wait_for_end(state.pid, state.started, state.drain_timeout_s + DRAIN_GRACE_S):
            raise _mountpoint(
                state.mountpoint,
                f"process {state.pid} is still storing what was written there before",
                "`s3mount list` shows how far it is; mount again when it has ended",
            )
    ended = runtime.find(state.mountpoint, os.geteuid())
    if ended is not None and (ended[0].pid, ended[0].started) == (state.pid, state.started):
        runtime.forget(*ended)  # what it has left is in the spool, and this mount sends it


def check_mountpoint(config: MountConfig) -> Sight:
    """Check that *config*'s mountpoint is a directory that can be mounted on."""
    path = config.mountpoint
    sight = look_at(path, LOOK_S)
    if sight.error is None:
        raise _mountpoint(path, f"what is mounted there does not answer within {LOOK_S:g} s", _clear(path))
    if sight.error in _DEAD:
        raise _mountpoint(path, f"a dead mount is in the way ({os.strerror(sight.error)})", _clear(path))
    entry = mounted_at(path)
    if entry is not None and entry.fs_type == FUSE_TYPE:
        found = runtime.find(path, entry.user_id or 0)
        by = f" by process {found[0].pid}" if found else ""
        raise _mountpoint(
            path, f"{entry.source} is already mounted there{by}", f"unmount it first: s3mount umount {path}"
        )
    if sight.error == errno.ENOENT:
        raise _mountpoint(path, "it does not exist", f"create it: mkdir -p {path}")
    if sight.error == errno.ENOTDIR or (not sight.error and not sight.is_directory):
        raise _mountpoint(path, "it is not a directory", "name a directory")
    if sight.error:
        raise _mountpoint(
            path, f"it cannot be looked into ({os.strerror(sight.error)})", "name a directory of yours"
        )
    if not sight.is_writable and os.geteuid() != 0:
        raise _mountpoint(
            path, "you may not write to it, so fusermount3 would refuse", "name a directory of yours"
        )
    if not sight.is_empty and not config.nonempty:
        raise _mountpoint(
            path, "it is not empty", "name an empty directory, or hide what is in it with -o nonempty"
        )
    return sight


def check_fuse(device: str = "/dev/fuse", path: str | None = None) -> None:
    """Check that this user can mount: through *device*, and fusermount3 on *path* unless root."""
    if os.geteuid() != 0 and shutil.which("fusermount3", path=path) is None:
        raise StartupError(
            "fusermount3",
            "not found on PATH, and ordinary users need it to mount",
            "install it: apt-get install fuse3 (or dnf install fuse3)",
            Exit.FUSE,
        )
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise StartupError(device, *_why_no_device(error), Exit.FUSE) from None


def check_others_allowed(option: str, fuse_conf: Path = Path("/etc/fuse.conf")) -> None:
    """Check that this user may let others into a mount."""
    if os.geteuid() == 0 or mounter_socket():
        return
    try:
        lines = fuse_conf.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    if "user_allow_other" not in (line.strip() for line in lines):
        raise StartupError(
            option,
            f"not permitted, {fuse_conf} has no line user_allow_other",
            "have root add that line, or leave the option out",
            Exit.FUSE,
        )


def check_directory(name: str, path: str, option: str) -> None:
    """Make *path*, for its owner alone where it is new, and check that files can be created in it."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(path).mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        in_the_way = error.errno in (errno.EEXIST, errno.ENOTDIR)
        raise StartupError(
            f"{name} {path}",
            "a file is in its way" if in_the_way else f"it cannot be written to ({error.strerror})",
            f"name another with {option}",
            Exit.CACHE_DIR,
        ) from None


def check_credentials_file(path: str) -> None:
    """Check that *path* is a plain file that nobody but its owner, this user or root, can read."""
    thing = f"credentials file {path}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        cause = "it is a symbolic link" if error.errno == errno.ELOOP else f"{error.strerror}"
        raise StartupError(thing, cause, "name the file itself", Exit.CONFIG) from None
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise StartupError(thing, "it is not a file", "name a file", Exit.CONFIG)
    if found.st_uid not in (os.geteuid(), 0):
        raise StartupError(thing, "it belongs to another user", "make it yours with chown", Exit.CONFIG)
    if found.st_mode & 0o077:
        raise StartupError(
            thing,
            f"others can read it (mode {stat.S_IMODE(found.st_mode):04o})",
            f"close it: chmod 600 {path}",
            Exit.CONFIG,
        )


def check_readable(name: str, path: str) -> None:
    """Check that the file *path* can be read."""
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise StartupError(f"{name} {path}", f"{error.strerror}", "name another file", Exit.CONFIG) from None


def _why_no_device(error: OSError) -> tuple[str, str]:
    """Return the cause and the next step when /dev/fuse cannot be opened."""
    if error.errno == errno.ENOENT:
        return (
            "it does not exist",
            "load the module: modprobe fuse; a container needs --device /dev/fuse --cap-add SYS_ADMIN",
        )
    if error.errno in (errno.ENODEV, errno.ENXIO):
        return "the kernel has no FUSE", "load the module: modprobe fuse"
    if error.errno == errno.EPERM:
        return "this container may not use it", "start it with --device /dev/fuse --cap-add SYS_ADMIN"
    return f"it cannot be opened ({error.strerror})", "have root run: chmod 666 /dev/fuse"


def _mountpoint(path: str, cause: str, advice: str) -> StartupError:
    return StartupError(f"mountpoint {path}", cause, advice, Exit.MOUNTPOINT)


def _clear(path: str) -> str:
    return f"clear it: s3mount umount {path}, or fusermount3 -uz {path}"
