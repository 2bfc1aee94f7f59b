"""``s3mount`` under the names by which mount(8) and umount(8) call it: /sbin/mount.s3mount and the like.

A helper of mount(8) is called ``mount.TYPE SPEC DIR [-sfnvrw] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]``, one of
umount(8) ``umount.TYPE DIR [-flnrv] [-N NAMESPACE] [-t TYPE]``. mount.fuse(8), where only it is installed,
calls ``s3mount SPEC DIR -o OPTIONS``. All of it is turned into the words of ``s3mount mount`` and ``s3mount
umount`` here, and their exit codes are turned into those of mount(8).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from s3mount.core.exits import Exit
from s3mount.errors import StartupError

MOUNT_NAMES = ("mount.s3mount", "mount.fuse.s3mount")
UMOUNT_NAMES = ("umount.s3mount", "umount.fuse.s3mount")
# mount(8), EXIT STATUS; its helpers' exit codes are its own.
EXIT_USAGE = 1
EXIT_MOUNT_FAILED = 32


@dataclass(frozen=True, slots=True)
class Call:
    """What a program was called for.

    Args:
        words: the command line behind ``s3mount``.
        is_helper: mount(8) or umount(8) calls: success is silent, and failures have their numbers.
        is_fake: all is to be done but the mounting.
    """

    words: list[str]
    is_helper: bool = False
    is_fake: bool = False

    def exit_code(self, code: int) -> int:
        """Return what the caller knows a command's exit *code* as."""
        if not self.is_helper or code == Exit.OK:
            return code
        return EXIT_USAGE if code in (EXIT_USAGE, Exit.USAGE) else EXIT_MOUNT_FAILED


def call_of(argv: Sequence[str]) -> Call:
    """Return what *argv*, the name of the program first, stands for.

    Raises: StartupError (an argument that no mount(8) passes).
    """
    name, words = os.path.basename(argv[0]), list(argv[1:])
    if name in MOUNT_NAMES:
        return _mount(name, words)
    if name in UMOUNT_NAMES:
        return _umount(name, words)
    if len(words) >= 4 and words[2] == "-o" and not words[0].startswith("-") and os.path.isabs(words[1]):
        return _mount("mount.fuse.s3mount", words)
    return Call(words)


def with_name(options: str, spec: str) -> str:
    """Return *options* with *spec* as what the mount table shows, unless they say something else.

    `mount -a` finds by that name that a line of fstab is mounted already.
    """
    if re.search(r"(^|(?<!\\),)fsname=", options):
        return options
    name = f"fsname={spec}".replace(",", "\\,")
    return f"{options},{name}" if options else name


def _mount(name: str, words: list[str]) -> Call:
    given = _Given.of(name, words, flags="sfnvrw", values="otN", kind="a mount", verb="mount")
    if len(given.places) != 2:
        raise _usage(name, "it takes a bucket and a directory")
    options = [*given.options, *({"r": "ro", "w": "rw"}[flag] for flag in given.flags if flag in "rw")]
    command = ["mount", "-o", with_name(",".join(options), given.places[0]), "--", *given.places]
    return Call(command, is_helper=True, is_fake="f" in given.flags)


def _umount(name: str, words: list[str]) -> Call:
    given = _Given.of(name, words, flags="flnrv", values="tN", kind="an umount", verb="unmount")
    if len(given.places) != 1:
        raise _usage(name, "it takes a directory")
    lazy = ["--lazy"] if "l" in given.flags else []
    return Call(["umount", *lazy, "--", *given.places], is_helper=True)


@dataclass(frozen=True, slots=True)
class _Given:
    """What a helper was called with: words that are no options, letters, and the values of -o."""

    places: list[str]
    flags: list[str]
    options: list[str]

    @classmethod
    def of(cls, name: str, words: list[str], *, flags: str, values: str, kind: str, verb: str) -> _Given:
        """Return what *words* say; *flags* are the letters that there are, *values* those that take a value.

        The value of -t is this helper's own type.

        Raises: StartupError (no such option, or one without its value).
        """
        given = cls([], [], [])
        left = iter(words)
        for word in left:
            if len(word) == 2 and word[0] == "-" and word[1] in values:
                value = next(left, None)
                if word == "-N":
                    cause = f"it cannot {verb} in another namespace (-N)"
                    raise _usage(name, cause, "run it there with nsenter(1)")
                if value is None:
                    raise _usage(name, f"{word} needs a value")
                given.options.extend([value] if word == "-o" else [])
            elif len(word) > 1 and word[0] == "-" and set(word[1:]) <= set(flags):
                given.flags.extend(word[1:])
            elif len(word) > 1 and word[0] == "-":
                raise _usage(name, f"{word} is no option of {kind} helper")
            else:
                given.places.append(word)
        return given


def _usage(
    name: str, cause: str, advice: str = "let mount(8) call it: mount -t s3mount BUCKET DIR"
) -> StartupError:
    return StartupError(name, cause, advice, EXIT_USAGE)
