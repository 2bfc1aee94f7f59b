"""Who owns what, and which modes: the mount's defaults, and what differs from them."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import Literal

from s3mount.core.attributes import Attributes
from s3mount.errors import NotPermitted

Owners = Literal["mount", "bucket"]


@dataclass(frozen=True, slots=True)
class Defaults:
    """What an entry without stored attributes shows; modes are permission bits.

    ``owners``: with ``mount`` every entry shows ``uid`` and ``gid``, also one that has others stored, which
    are kept and neither shown nor changed; with ``bucket`` they are shown and stored.
    """

    uid: int
    gid: int
    file_mode: int
    dir_mode: int
    owners: Owners = "mount"

    @property
    def stores_owners(self) -> bool:
        """Whether owners are kept in the bucket, and those that it has believed."""
        return self.owners == "bucket"

    def shows(self, uid: int | None, gid: int | None) -> bool:
        """Whether an entry that is *uid*'s and *gid*'s shows nobody else than the mount's; None is left."""
        return uid in (None, self.uid) and gid in (None, self.gid)


@dataclass(frozen=True, slots=True)
class Caller:
    """The process whose request it is."""

    uid: int
    gid: int
    pid: int


def new_attributes(defaults: Defaults, caller: Caller, mode: int, *, is_directory: bool) -> Attributes:
    """Return what a new entry must store: only what differs from what it would show anyway.

    So a plain file of the mounting user stays an object without extra metadata.
    """
    permissions = permission_bits(mode, is_directory=is_directory)
    default_mode = defaults.dir_mode if is_directory else defaults.file_mode
    return Attributes(
        mode=None if permissions == default_mode else permissions,
        uid=caller.uid if defaults.stores_owners and caller.uid != defaults.uid else None,
        gid=caller.gid if defaults.stores_owners and caller.gid != defaults.gid else None,
        mtime_ns=None,
    )


def permission_bits(mode: int, *, is_directory: bool) -> int:
    """Return what of *mode* can be stored.

    Raises: NotPermitted for set-uid and set-gid, which anyone who can write to the bucket could
    otherwise hand out, and for the sticky bit of a file.
    """
    bits = stat.S_IMODE(mode)
    allowed = 0o1777 if is_directory else 0o777
    if bits & ~allowed:
        raise NotPermitted(f"mode {bits:o} has bits that a bucket cannot be trusted with")
    return bits
