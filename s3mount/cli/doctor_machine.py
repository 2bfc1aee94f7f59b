"""What of this machine a mount depends on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from s3mount.cli.checks import check_fuse, check_others_allowed
from s3mount.cli.findings import Finding, bad, good, note
from s3mount.cli.mounts import list_mounts
from s3mount.config import machine
from s3mount.config.units import format_size, format_size_short
from s3mount.errors import StartupError

GIB = 1024**3
ENOUGH_DESCRIPTORS = 4096
"""Connections, and some thousand files that are being written at once."""
FDINFO_KERNEL = (5, 14)
"""Since then /proc/PID/fdinfo names inodes, by which the close that uploads is told from others."""


def machine_findings() -> Iterator[Finding]:
    """Yield what can be seen here, without the server."""
    yield _kernel()
    yield _fuse()
    yield _others() if os.geteuid() != 0 else _worker()
    yield _read_ahead()
    yield _descriptors()
    yield good(
        "memory", f"{format_size(machine.default_memory_bytes())} for a mount, unless --memory says more"
    )
    yield _spool_disk()
    yield from _mounts()
    yield from _updatedb()


def _kernel() -> Finding:
    release = os.uname().release
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers >= FDINFO_KERNEL:
        return good("kernel", release)
    return note(
        "kernel", release, "before 5.14 a file that a shell redirects into is uploaded more often than needed"
    )


def _fuse() -> Finding:
    try:
        check_fuse()
    except StartupError as error:
        return bad("FUSE", f"{error.thing}: {error.cause}", error.advice)
    return good("FUSE", "you may mount")


def _others() -> Finding:
    try:
        check_others_allowed("--allow-other")
    except StartupError as error:
        return note("other users", "you may not let them in", error.advice)
    return good("other users", "you may let them in (--allow-other)")


def _worker() -> Finding:
    worker = machine.worker_for(None)
    if worker is not None:
        return good("rights", f"mounts of root's run as user {worker.name}")
    return note(
        "rights", "mounts of root's stay root's", f"`s3mount install` makes the user {machine.SYSTEM_USER}"
    )


def _read_ahead() -> Finding:
    if os.geteuid() == 0:
        return good("read-ahead", "1 MiB for each request of the kernel's")
    return note(
        "read-ahead", "128 KiB for each request of the kernel's", "mount as root where large files are read"
    )


def _descriptors() -> Finding:
    limit = machine.raise_descriptor_limit()
    if limit >= ENOUGH_DESCRIPTORS:
        return good("descriptors", f"{limit:,}")
    return note("descriptors", f"{limit:,}", "raise the hard limit: ulimit -Hn, LimitNOFILE= in a unit")


def _spool_disk() -> Finding:
    directory = machine.state_dir()
    while not directory.exists():
        directory = directory.parent
    disk = os.statvfs(directory)
    free = disk.f_bavail * disk.f_frsize
    text = f"{format_size_short(free)} free in {directory}, for files being written"
    if free >= GIB:
        return good("spool's disk", text)
    return note("spool's disk", text, "free some, or name another disk with --spool-dir")


def _mounts() -> Iterator[Finding]:
    for one in list_mounts():
        if one.state in ("dead", "stuck", "ended"):
            advice = {
                "dead": f"s3mount umount {one.mountpoint}",
                "stuck": "see its log; s3mount umount --lazy takes it out of sight",
                "ended": f"s3mount spool list {one.mountpoint}",
            }[one.state]
            yield note("mount", f"{one.mountpoint} is {one.state}", advice)


def _updatedb(path: Path = Path("/etc/updatedb.conf")) -> Iterator[Finding]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return
    pruned = [line for line in text.splitlines() if line.lstrip().startswith("PRUNEFS")]
    if not any("fuse.s3mount" in line for line in pruned):
        yield note("updatedb", "will list the whole of every mount", f"add fuse.s3mount to PRUNEFS in {path}")
