"""Exit codes of the program, one for each kind of thing the user has to put right."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What the exit code says. Scripts and units may rely on the numbers."""

    OK = 0
    FAILURE = 1
    """Anything that has no code of its own."""
    USAGE = 2
    """A wrong command line (argparse's own number)."""
    CONFIG = 3
    """A configuration file, profile or credentials file that cannot be used."""
    STORE_UNREACHABLE = 10
    """No connection: refused, no such host, no answer, overloaded."""
    STORE_REFUSED = 11
    """Wrong, missing or expired credentials, no permission, or a clock that is too far off."""
    NO_SUCH_BUCKET = 12
    WRONG_REGION = 13
    NOT_S3 = 14
    """Something answers there, but not S3."""
    TLS = 15
    MOUNTPOINT = 20
    """Missing, not a directory, not empty, or a dead mount."""
    FUSE = 21
    """/dev/fuse or fusermount3 is missing, or the option is not permitted."""
    CACHE_DIR = 22
    """The cache or spool directory cannot be used."""
    NOT_DRAINED = 30
    """Unmounted with uploads left; the spool directory keeps them."""
