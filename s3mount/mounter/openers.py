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


def can_still_write(pid: int, inode: int, device: str | None) -> bool:
    """Whether *pid* has a descriptor of *inode* that can write; False where that cannot be seen.

    *device* is this mount's ``major:minor``: another mount of the same bucket has the same inode numbers.
    While it is None, any mount will do.

    The kernel takes a descriptor out of the process before it sends FLUSH, so what is found here is
    another one. fdinfo has the inode number since Linux 5.14, and reading it does not touch the file
    system.
    """
    directory = f"/proc/{pid}/fdinfo"
    try:
        names = os.listdir(directory)
        return len(names) <= MAX_DESCRIPTORS and any(
            _is_writer(pid, f"{directory}/{name}", inode, device) for name in names
        )
    except OSError:
        return False


def _is_writer(pid: int, path: str, inode: int, device: str | None) -> bool:
    try:
        with open(path, encoding="ascii") as file:
            fields = dict(
                line.split(":", 1) for line in file if line.startswith(("flags:", "ino:", "mnt_id:"))
            )
    except FileNotFoundError:
        return False  # closed since the directory was read
    if int(fields.get("ino", "0")) != inode:
        return False
    if int(fields["flags"], 8) & os.O_ACCMODE == os.O_RDONLY:
        return False
    return device is None or _device_of(pid, fields["mnt_id"].strip()) == device


def _device_of(pid: int, mount_id: str) -> str | None:
    """Return ``major:minor`` of a mount as *pid* has it, bind mounts and namespaces included."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split(" ", 3)
            if fields[0] == mount_id:
                return fields[2]
    return None
