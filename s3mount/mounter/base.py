"""The interface of whoever mounts, and what is mounted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

# mount(2), of linux/mount.h.
MS_RDONLY: Final = 1
_FLAGS: Final = {"nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "nodiratime": 2048}

FUSE_TYPE: Final = "fuse.s3mount"
"""Of the mount table."""


class Mounter(Protocol):
    """Mounts one place, once, and takes it away again."""

    def mount(self) -> str:
        """Mount, and return what libfuse is to open: ``/dev/fd/N``, or a mountpoint that it mounts itself.

        Raises: StartupError.
        """

    def tune(self) -> None:
        """Widen the kernel's queues, once it has got its first answer; see ``tuning``."""

    def unmount(self) -> None:
        """Unmount if it is still mounted, also from under those who have files open there."""

    def can_still_write(self, pid: int, inode: int) -> bool:
        """Whether *pid* has a descriptor of *inode* of this mount that can write; see ``openers``."""

    def answers(self) -> bool | None:
        """Whether the mount answers a process of its own; None while that waits. Never waits itself."""

    def name_of(self, path: str) -> str:
        """Return the name under which this process can read the file *path* of who mounts; see ``handed``."""

    def refresh(self) -> None:
        """Read the files anew that were handed to this process.

        Raises: StartupError (one cannot be read).
        """


@dataclass(frozen=True, slots=True)
class MountPlan:
    """What mount(2) is told.

    Attributes:
        mountpoint: absolute, without symbolic links.
        source: what df(1) shows as the device.
        flags: MS_* of mount(2).
        user: who gets in where nobody else is let in.
        lets_others_in: whoever the modes permit gets in.
    """

    mountpoint: str
    source: str
    flags: int
    user: int
    group: int
    lets_others_in: bool

    def data(self, descriptor: int, root_mode: int) -> str:
        """Return mount(2)'s last argument.

        default_permissions: the kernel checks modes, so that what `ls -l` shows is what holds.

        Args:
            descriptor: of /dev/fuse.
            root_mode: st_mode of the mountpoint, of which the kernel takes the type.
        """
        fields = [
            f"fd={descriptor}",
            f"rootmode={root_mode & 0o170000:o}",
            f"user_id={self.user}",
            f"group_id={self.group}",
            "default_permissions",
        ]
        return ",".join([*fields, *(["allow_other"] if self.lets_others_in else [])])


def flags_of(options: Iterable[str], *, read_only: bool) -> int:
    """Return the MS_* of mount(2) for *options* such as ``nosuid``.

    Raises: KeyError (there is no such option).
    """
    flags = MS_RDONLY if read_only else 0
    for option in options:
        flags |= _FLAGS[option]
    return flags
