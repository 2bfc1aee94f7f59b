"""Whether the process that opened a file has it open for writing once more.

A FLUSH comes for every descriptor that is closed: also for the duplicate that a shell makes for
``command > file`` and closes before the command has written anything, and for those that child
processes inherit and lose when they end. As long as the opener can still write to the file, that is not
the close that it waits for: one that reports to it will come.
"""

from __future__ import annotations

import os

#: A process with more descriptors is not searched: reading so many files would hold everybody up.
MAX_DESCRIPTORS = 512


def can_still_write(pid: int, inode: int) -> bool:
    """Whether *pid* has a descriptor of *inode* that can write; False where that cannot be seen.

    The kernel takes a descriptor out of the process before it sends FLUSH, so what is found here is
    another one. fdinfo has the inode number since Linux 5.14, and reading it does not touch the file
    system.
    """
    directory = f"/proc/{pid}/fdinfo"
    try:
        names = os.listdir(directory)
        return len(names) <= MAX_DESCRIPTORS and any(
            _is_writer(f"{directory}/{name}", inode) for name in names
        )
    except OSError:
        return False


def _is_writer(path: str, inode: int) -> bool:
    try:
        with open(path, encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file if line.startswith(("flags:", "ino:")))
    except FileNotFoundError:
        return False  # closed since the directory was read
    if int(fields.get("ino", "0")) != inode:
        return False
    return int(fields["flags"], 8) & os.O_ACCMODE != os.O_RDONLY
