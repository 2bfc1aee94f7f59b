"""Become another user, for good."""

from __future__ import annotations

import contextlib
import os
from typing import Final

from s3mount.config.machine import Worker
from s3mount.mounter import system_calls

_CAPABILITIES: Final = 64
"""More than the kernel has: what it does not know it refuses with EINVAL."""
_OF_ROOT: Final = (
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "MAIL",
)


def become(user: Worker) -> None:
    """Let this process, of root's and with one thread, be *user*: no capability, and no way back.

    Raises: OSError (the kernel refused; nothing may go on then).
    """
    for number in range(_CAPABILITIES):
        with contextlib.suppress(OSError):
            system_calls.prctl(system_calls.PR_CAPBSET_DROP, number)
    os.initgroups(user.name, user.gid)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    system_calls.prctl(system_calls.PR_SET_NO_NEW_PRIVS, 1)
    if os.getresuid() != (user.uid,) * 3 or os.getresgid() != (user.gid,) * 3:
        raise OSError("the kernel has not changed this process's user")
    for name in _OF_ROOT:
        os.environ.pop(name, None)
    os.environ |= {"HOME": user.home, "USER": user.name, "LOGNAME": user.name}
