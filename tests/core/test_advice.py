"""What to do about an error."""

from __future__ import annotations

import errno

import pytest

import s3mount.errors
from s3mount.core.advice import advice_for
from s3mount.errors import (
    AccessDenied,
    FsError,
    LinkNotFollowed,
    LinkNotStored,
    NoSpace,
    NotFound,
    NotPermitted,
    OwnerFixed,
    StoreError,
)


@pytest.mark.parametrize(
    ("error", "status", "code", "said"),
    [
        (AccessDenied(), 403, "ExpiredToken", "new session token"),
        (AccessDenied(), 403, "SomethingNew", "policy"),
        (StoreError(), 500, "InternalError", "its log knows the request"),
        (StoreError(), 418, "Teapot", "see the log"),
        (NoSpace(), None, None, "s3mount status"),
        (NotFound(), None, None, "see the log"),
        (NotPermitted(), None, None, "no hard links"),
        (OwnerFixed(), None, None, "--owners=bucket"),
        (LinkNotFollowed(), None, None, "--links=all"),
        (LinkNotStored(), None, None, "--links=all"),
    ],
)
def test_the_servers_code_counts_before_its_status_and_the_errno(
    error: FsError, status: int | None, code: str | None, said: str
) -> None:
    """What is most precise is followed: then what was refused, then its errno."""
    assert said in advice_for(error, status, code)


#: What programs ask for all day, or what only a program's own mistake leads to.
ORDINARY = {"ENOENT", "EEXIST", "ENOTDIR", "EISDIR", "ENOTEMPTY"}


def test_every_errno_that_is_raised_on_purpose_has_its_own_advice() -> None:
    """Nobody is sent to the log for what is known."""
    kinds = [
        value
        for value in vars(s3mount.errors).values()
        if isinstance(value, type) and issubclass(value, FsError)
    ]
    missing = {errno.errorcode[kind.errno] for kind in kinds if advice_for(kind("no")) == "see the log"}
    assert missing - ORDINARY == set()
