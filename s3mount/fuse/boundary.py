"""The edge: no exception but FUSEError leaves a handler, and none runs for ever.

An exception that reaches pyfuse3.main ends the mount for everybody, so each handler wears
:func:`fuse_operation`. The kernel does not let go of a caller before its handler answers, so each has
a deadline too.
"""

from __future__ import annotations

import errno
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import pyfuse3
import trio

from s3mount.core.deadlines import with_transfer
from s3mount.errors import FsError, StoreTimeout, collapsed
from s3mount.fuse.access_log import AccessLog, moved_bytes
from s3mount.store.base import ON_BEHALF_OF

log = logging.getLogger(__name__)

#: Errnos that programs ask for all day: not worth an INFO line.
_ORDINARY = {errno.ENOENT, errno.ENOSYS, errno.EEXIST, errno.ENOTEMPTY, errno.ENODATA}


class HasDeadlines(Protocol):
    """What carries handlers: seconds for an operation, and what one is about, for the log."""

    operation_timeout_s: float
    access_log: AccessLog | None

    def path_of(self, name: str, arguments: tuple[Any, ...]) -> str:
        """Return the path that the operation is about; of a rename the one that there was."""

    def describe(self, name: str, arguments: tuple[Any, ...]) -> str:
        """Return the operation's arguments as a reader of the log knows them."""

    def transfer_bytes(self, name: str, arguments: tuple[Any, ...]) -> int:
        """Return how many bytes the operation may have to send or copy."""

    def process_of(self, name: str, arguments: tuple[Any, ...]) -> int | None:
        """Return the process that asks for the operation, None where nobody knows."""

    def note_error(self, name: str, arguments: tuple[Any, ...], error: FsError) -> None:
        """Remember an error that a program got and may ask about."""


P = ParamSpec("P")
R = TypeVar("R")
Self = TypeVar("Self", bound=HasDeadlines)

Handler = Callable[Concatenate[Self, P], Awaitable[R]]


def fuse_operation(handler: Handler[Self, P, R]) -> Callable[Concatenate[Self, P], Coroutine[Any, Any, R]]:
    """Give *handler* its catch-all, its deadline and its line in the log."""
    name = handler.__name__

    async def guarded(self: Self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        began = time.monotonic()
        number = 0
        result: R | None = None
        try:
            ON_BEHALF_OF.set(self.process_of(name, args))
            timeout_s = with_transfer(self.operation_timeout_s, self.transfer_bytes(name, args))
            with trio.move_on_after(timeout_s), collapsed():
                result = await handler(self, *args, **kwargs)
                return result
            number = errno.ETIMEDOUT
            log.warning("%s: no result within %.0f s", _subject(self, name, args), timeout_s)
            _note(self, name, args, StoreTimeout(f"no result within {timeout_s:.0f} s"))
        except pyfuse3.FUSEError as exc:
            number = exc.errno
        except FsError as exc:
            number = exc.errno
            level = logging.DEBUG if number in _ORDINARY else logging.INFO
            log.log(level, "%s: %s: %s", _subject(self, name, args), errno.errorcode[number], exc)
            if number not in _ORDINARY:
                _note(self, name, args, exc)
        except Exception as exc:
            number = errno.EIO
            log.exception("%s: a bug in s3mount; the caller gets EIO", _subject(self, name, args))
            _note(self, name, args, FsError(f"a bug in s3mount: {type(exc).__name__}"))
        finally:
            if self.access_log is not None:
                _write_access(self, self.access_log, name, args, result, time.monotonic() - began, number)
            if log.isEnabledFor(logging.DEBUG):
                ended = errno.errorcode.get(number, str(number)) if number else "ok"
                elapsed_ms = (time.monotonic() - began) * 1000
                log.debug("%s -> %s in %.1f ms", _subject(self, name, args), ended, elapsed_ms)
        raise pyfuse3.FUSEError(number)

    functools.update_wrapper(guarded, handler)
    return guarded


def _write_access(
    operations: HasDeadlines,
    access_log: AccessLog,
    name: str,
    arguments: tuple[Any, ...],
    result: Any,
    seconds: float,
    number: int,
) -> None:
    try:
        access_log.note(
            name,
            operations.path_of(name, arguments),
            pid=ON_BEHALF_OF.get(),
            uid=getattr(arguments[-1], "uid", None) if arguments else None,
            size=moved_bytes(name, arguments, result),
            seconds=seconds,
            number=number,
        )
    except Exception:
        log.exception("%s: its line of the access log could not be written", name)


def _note(operations: HasDeadlines, name: str, arguments: tuple[Any, ...], error: FsError) -> None:
    try:
        operations.note_error(name, arguments, error)
    except Exception:
        log.exception("%s: an error of it could not be noted", name)


def _subject(operations: HasDeadlines, name: str, arguments: tuple[Any, ...]) -> str:
    """Return the operation and what it is about: for the log, so nothing may come of a failure here."""
    try:
        return f"{name} {operations.describe(name, arguments)}"
    except Exception as exc:  # noqa: BLE001  # the handler's own outcome is what counts
        return f"{name} (arguments that cannot be described: {exc!r})"
