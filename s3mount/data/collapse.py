"""A nursery is an implementation detail: its caller sees one error, not a group of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collapsed() -> Iterator[None]:
    """Let the first error of an ExceptionGroup escape instead of the group.

    An ordinary error goes before a cancellation: it is the reason, the other only came with it.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        failure, rest = group.split(Exception)
        found = _first_leaf(failure if failure is not None else rest or group)
    else:
        return
    raise found


def _first_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
