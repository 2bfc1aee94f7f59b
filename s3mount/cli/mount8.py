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

_UMOUNT_FLAGS = frozenset("flnrv")


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
    places: list[str] = []
    options: list[str] = []
    flags: list[str] = []
    while words:
        word = words.pop(0)
        if word in ("-o", "-t", "-N"):
            if not words:
                raise _usage(name, f"{word} needs a value")
            value = words.pop(0)
            if word == "-N":
                raise _usage(
                    name, "it cannot mount in another namespace (-N)", "run it there with nsenter(1)"
                )
            if word == "-o":
                options.append(value)
        elif re.fullmatch(r"-[sfnvrw]+", word):
            flags.extend(word[1:])
        elif word.startswith("-") and len(word) > 1:
            raise _usage(name, f"{word} is no option of a mount helper")
        else:
            places.append(word)
    if len(places) != 2:
        raise _usage(name, "it takes a bucket and a directory")
    options.extend({"r": "ro", "w": "rw"}[flag] for flag in flags if flag in "rw")
    command = ["mount", "-o", with_name(",".join(options), places[0]), "--", *places]
    return Call(command, is_helper=True, is_fake="f" in flags)


def _umount(name: str, words: list[str]) -> Call:
    places: list[str] = []
    flags: list[str] = []
    while words:
        word = words.pop(0)
        if word in ("-t", "-N"):
            if word == "-N":
                raise _usage(
                    name, "it cannot unmount in another namespace (-N)", "run it there with nsenter(1)"
                )
            if words:
                words.pop(0)
        elif len(word) > 1 and word[0] == "-" and set(word[1:]) <= _UMOUNT_FLAGS:
            flags.extend(word[1:])
        elif word.startswith("-"):
            raise _usage(name, f"{word} is no option of an umount helper")
        else:
            places.append(word)
    if len(places) != 1:
        raise _usage(name, "it takes a directory")
    return Call(["umount", *(["--lazy"] if "l" in flags else []), "--", *places], is_helper=True)


def _usage(
    name: str, cause: str, advice: str = "let mount(8) call it: mount -t s3mount BUCKET DIR"
) -> StartupError:
    return StartupError(name, cause, advice, EXIT_USAGE)
