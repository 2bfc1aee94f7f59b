"""What to do about an error."""

from __future__ import annotations

import errno

import pytest

import s3mount.errors
from s3mount.core.advice import advice_for
from s3mount.errors import FsError


@pytest.mark.parametrize(
    ("number", "status", "code", "said"),
    [
        (errno.EACCES, 403, "ExpiredToken", "new session token"),
        (errno.EACCES, 403, "SomethingNew", "policy"),
        (errno.EIO, 500, "InternalError", "its log knows the request"),
        (errno.EIO, 418, "Teapot", "see the log"),
        (errno.ENOSPC, None, None, "s3mount status"),
        (errno.EUCLEAN, None, None, "see the log"),
    ],
)
def test_the_servers_code_counts_before_its_status_and_the_errno(
    number: int, status: int | None, code: str | None, said: str
) -> None:
    """What is most precise is followed."""
    assert said in advice_for(number, status, code)


#: What programs ask for all day, or what only a program's own mistake leads to.
ORDINARY = {"ENOENT", "EEXIST", "ENOTDIR", "EISDIR", "ENOTEMPTY"}


def test_every_errno_that_is_raised_on_purpose_has_its_own_advice() -> None:
    """Nobody is sent to the log for what is known."""
    numbers = {
        value.errno
        for value in vars(s3mount.errors).values()
        if isinstance(value, type) and issubclass(value, FsError)
    }
    missing = {errno.errorcode[one] for one in numbers if advice_for(one, None, None) == "see the log"}
    assert missing - ORDINARY == set()
