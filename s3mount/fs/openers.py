"""Whether the process that opened a file has it open once more."""

from __future__ import annotations

import os


def has_open(pid: int, inode: int) -> bool:
    """Whether *pid* has a descriptor of *inode*; False where that cannot be seen.

    A shell that runs ``command > file`` opens the file, duplicates the descriptor and closes the first
    one before the command has written anything; that close is no reason to upload an empty object.
    The kernel takes a descriptor out of the process before it sends FLUSH, so what is found here is
    another one, and its close will come. fdinfo has the inode number since Linux 5.14, and reading it
    does not touch the file system.
    """
    directory = f"/proc/{pid}/fdinfo"
    wanted = f"ino:\t{inode}\n"
    try:
        for name in os.listdir(directory):
            with open(f"{directory}/{name}", encoding="ascii") as info:
                if wanted in info.read():
                    return True
    except OSError:
        return False
    return False
