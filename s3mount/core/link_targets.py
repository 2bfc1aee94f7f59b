"""Which symbolic links programs may follow: judged by the link's text, one link at a time.

Whoever can write to the bucket can write any text there, and whoever follows it would be led to any path of
this machine. The kernel follows a link step by step, from the directory that the link stands in, and asks for
the text of every link that it meets on the way. So it is enough that no single link leads out, wherever those
that it meets may lead:

- ``..`` at the beginning goes up from the link's own directory, whose place in the mount is known: so many of
  them as there are directories above it stay within the mount.
- A name goes down, or is a link that is judged by the same rules and ends within the mount as well.
- ``..`` after a name goes up from a place that nobody knows: ``b/..`` is outside where ``b`` is a link to the
  mount's root. To look what ``b`` is would not help, since it may be another thing when the kernel looks.
  Such a text is refused; relative links as programs make them have ``..`` at the beginning only.
- Two slashes in a row are refused behind a name. The kernel takes them for one, but of links that lead in a
  circle Python's ``os.path.realpath`` gives what follows the circle, ``/etc`` for a link ``l`` to ``l//etc``.
- An absolute target names the mountpoint, whose path was resolved when it was mounted, and goes down from
  there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Links = Literal["inside", "all", "none"]


@dataclass(frozen=True, slots=True)
class LinkRules:
    """What ``--links`` says.

    ``mountpoint``: absolute, without links. ``links``: which of the bucket's links may be followed and made:
    those that stay inside of the mount, all, or none.
    """

    links: Links
    mountpoint: bytes

    def permits(self, target: bytes, depth: int) -> bool:
        """Whether a link may be followed that stands *depth* directories below the mount's root."""
        if self.links == "inside":
            return stays_inside(target, depth, self.mountpoint)
        return self.links == "all"


def stays_inside(target: bytes, depth: int, mountpoint: bytes) -> bool:
    """Whether following *target* never leaves the mount; see the module.

    Args:
        depth: directories between the mount's root, not counted, and the link's directory, counted.
        mountpoint: absolute, without links.
    """
    if not target or b"\0" in target:
        # The kernel would read it up to the NUL: as another text than this one.
        return False
    if b"//" in target.lstrip(b"/"):
        return False
    parts = _parts(target)
    if target.startswith(b"/"):
        top = _parts(mountpoint)
        return parts[: len(top)] == top and b".." not in parts
    names = parts
    while names and names[0] == b"..":
        names = names[1:]
    return len(parts) - len(names) <= depth and b".." not in names


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]
