"""The smallest FUSE file system: an empty root directory, spoken directly to /dev/fuse.

It stands in for a mount where the commands around a mount are tested. Nobody can hang on it for good:
when its process dies, the kernel ends the connection.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from pathlib import Path

FORGET, GETATTR, STATFS, INIT, OPENDIR, READDIR, RELEASEDIR = 2, 3, 17, 26, 27, 28, 29
INTERRUPT, DESTROY, BATCH_FORGET = 36, 38, 42
NO_REPLY = {FORGET, INTERRUPT, BATCH_FORGET}
MNT_DETACH = 2
MS_NOSUID_NODEV = 2 | 4
_HEADER = struct.Struct("<IIQQIIIHH")
_REPLY = struct.Struct("<IiQ")
_libc = ctypes.CDLL(None, use_errno=True)


def mount(directory: str, source: str = "s3://bucket/", fs_type: str = "fuse.s3mount") -> int:
    """Mount at *directory* and return the descriptor on which the kernel asks. Only root can."""
    descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={descriptor},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    arguments = (
        os.fsencode(source),
        os.fsencode(directory),
        fs_type.encode(),
        MS_NOSUID_NODEV,
        options.encode(),
    )
    if _libc.mount(*arguments) != 0:
        os.close(descriptor)
        raise OSError(ctypes.get_errno(), f"mount of {directory}")
    return descriptor


def unmount(directory: str | Path) -> None:
    """Take *directory* out of sight if anything is mounted there."""
    _libc.umount2(os.fsencode(directory), MNT_DETACH)


def serve(descriptor: int, on_init: object = None) -> None:
    """Answer the kernel until the file system is unmounted; call *on_init* once it has asked first."""
    while True:
        try:
            request = os.read(descriptor, 1 << 20)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return
            if error.errno in (errno.ENOENT, errno.EINTR):
                continue
            raise
        _, opcode, unique, *_ = _HEADER.unpack_from(request)
        if opcode in NO_REPLY:
            continue
        body = _answer(opcode)
        error_number = -errno.ENOSYS if body is None else 0
        body = body or b""
        try:
            os.write(descriptor, _REPLY.pack(_REPLY.size + len(body), error_number, unique) + body)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
        if opcode == INIT and callable(on_init):
            on_init()


def _answer(opcode: int) -> bytes | None:
    if opcode == INIT:
        return struct.pack("<IIIIHHIIHHI28x", 7, 31, 65536, 0, 12, 9, 65536, 1, 0, 0, 0)
    if opcode == GETATTR:
        times = (0, 0, 0)
        numbers = (stat.S_IFDIR | 0o755, 2, os.getuid(), os.getgid(), 0, 4096, 0)
        return struct.pack("<QII6Q10I", 0, 0, 0, 1, 0, 0, *times, *times, *numbers)
    if opcode == OPENDIR:
        return bytes(16)
    if opcode in (READDIR, RELEASEDIR, DESTROY):
        return b""
    return None
