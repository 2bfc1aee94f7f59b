"""The list of recent errors: bounded, by path, with what the server said."""

from __future__ import annotations

import itertools

from s3mount.errors import AccessDenied, NoSpace, ServerAnswer, StoreError
from s3mount.fs.recent_errors import MOST_TEXT, RecentErrors


def refused(code: str = "AccessDenied", message: str = "no") -> AccessDenied:
    """Return an error that the server's answer led to, through another one."""
    inner = AccessDenied("PutObject 'k': HTTP 403")
    inner.answer = ServerAnswer("PutObject", "k", 403, code, message, "id-1")
    try:
        raise AccessDenied("upload of k") from inner
    except AccessDenied as outer:
        return outer


def test_what_the_server_said_comes_along() -> None:
    """However deep it is in what was raised."""
    errors = RecentErrors(clock=lambda: 5.0)
    errors.note("flush", "/k", refused())
    (record,) = errors
    assert (record.at_s, record.operation, record.path, record.error) == (5.0, "flush", "/k", "EACCES")
    assert (record.request, record.key, record.http_status) == ("PutObject", "k", 403)
    assert (record.code, record.said, record.request_id) == ("AccessDenied", "no", "id-1")


def test_equal_errors_are_counted_and_come_to_the_front() -> None:
    """A program that tries again and again pushes nothing out."""
    clock = itertools.count(1)
    errors = RecentErrors(clock=lambda: float(next(clock)))
    errors.note("flush", "/a", refused())
    errors.note("write", "/b", NoSpace("full"))
    errors.note("flush", "/a", refused())
    first, second = errors
    assert (first.path, first.count, first.at_s) == ("/a", 2, 3.0)
    assert (second.path, second.count, second.request) == ("/b", 1, None)


def test_another_answer_is_another_error() -> None:
    """The same call may fail for two reasons."""
    errors = RecentErrors()
    errors.note("flush", "/a", refused())
    errors.note("flush", "/a", refused("ExpiredToken"))
    assert [one.code for one in errors] == ["ExpiredToken", "AccessDenied"]


def test_there_is_a_bound_of_errors_and_of_their_texts() -> None:
    """Of neither a program nor a server can fill the memory."""
    errors = RecentErrors(most=3)
    for number in range(10):
        errors.note("read", f"/{number}", StoreError("x" * 10_000))
    assert [one.path for one in errors] == ["/9", "/8", "/7"]
    assert all(len(one.message) == MOST_TEXT for one in errors)


def test_a_path_finds_what_is_below_it_and_nothing_beside() -> None:
    """/d is not the beginning of /data."""
    errors = RecentErrors()
    for path in ("/d", "/d/f", "/data", "/"):
        errors.note("read", path, StoreError("broken"))
    assert [one.path for one in errors.of_path("/d")] == ["/d/f", "/d"]
    assert len(errors.of_path("/")) == 4
    assert len(errors.of_errno("EIO")) == 4
    assert errors.of_errno("EACCES") == []


def test_an_error_that_is_its_own_cause_ends() -> None:
    """A ring of causes is no reason to hang."""
    one, other = StoreError("one"), StoreError("other")
    one.__cause__, other.__cause__ = other, one
    errors = RecentErrors()
    errors.note("read", "/f", one)
    assert next(iter(errors)).request is None
