"""Spool files leave descriptors for connections."""

from __future__ import annotations

import errno
import logging
import os
from contextlib import ExitStack

import pytest

from s3mount.data.descriptors import SpoolDescriptors
from s3mount.data.disk import translated
from s3mount.errors import TooManyFiles


def lowest_free() -> int:
    """Return the number that the next descriptor gets."""
    number = os.open(os.devnull, os.O_RDONLY)
    os.close(number)
    return number


def never() -> bool:
    """Say that the file is not open yet."""
    return False


def test_files_are_refused_where_the_reserve_begins(caplog: pytest.LogCaptureFixture) -> None:
    """Three may be opened and the fourth not; once one is closed, another may. It is said once each time."""
    descriptors = SpoolDescriptors(lowest_free() + 3)

    def said() -> int:
        return sum("too many files" in record.getMessage() for record in caplog.records)

    with ExitStack() as stack, caplog.at_level(logging.WARNING):
        files = []
        for _ in range(3):
            with descriptors.room(never):
                files.append(stack.enter_context(open(os.devnull, "rb")))
        for _ in range(5):
            with pytest.raises(TooManyFiles):
                descriptors.check()
        assert said() == 1
        files[1].close()
        descriptors.check()
        with descriptors.room(never):
            files[1] = stack.enter_context(open(os.devnull, "rb"))
        with pytest.raises(TooManyFiles), descriptors.room(never):
            raise AssertionError("let in")
        assert said() == 2


def test_those_that_are_about_to_be_opened_count() -> None:
    """Many that ask at once are not all let in before the first has opened its file."""
    descriptors = SpoolDescriptors(lowest_free() + 3)
    is_open = [False, False]
    with descriptors.room(lambda: is_open[0]), descriptors.room(lambda: is_open[1]), descriptors.room(never):
        with pytest.raises(TooManyFiles):
            descriptors.check()
        # One whose descriptor is there is counted by its number, not twice.
        is_open[0] = True
        descriptors.check()
        with descriptors.room(lambda: True):
            pass
    descriptors.check()


def test_the_kernels_own_refusal_is_enfile() -> None:
    """Whatever took the last descriptor, the program gets ENFILE and not EIO."""
    for number in (errno.EMFILE, errno.ENFILE):
        assert translated(OSError(number, "Too many open files"), "/spool/x").errno == errno.ENFILE
