"""Every error s3mount raises on purpose, and the errno a program sees for it.

::

    FsError                      errno EIO
    +-- NotFound                 ENOENT        no such object, prefix or entry
    +-- AlreadyExists            EEXIST
    +-- NotADirectory            ENOTDIR
    +-- IsADirectory             EISDIR
    +-- DirectoryNotEmpty        ENOTEMPTY
    +-- InvalidArgument          EINVAL
    +-- IllegalName              EILSEQ        bytes that S3 cannot store as a key
    +-- NameTooLong              ENAMETOOLONG  name over 255 bytes, key over 1,024
    +-- AccessDenied             EACCES        the server said 403
    +-- LinkNotFollowed          EACCES        a symbolic link that may lead out of the mount
    +-- NotPermitted             EPERM         never possible here (hard links, devices)
    |   +-- OwnerFixed           EPERM         every file is the mount's owner's
    |   +-- LinkNotStored        EPERM         a symbolic link that could not be followed
    +-- NotSupported             ENOTSUP
    +-- ReadOnly                 EROFS
    +-- NoSpace                  ENOSPC        the spool is full
    +-- FileTooLarge             EFBIG         over what S3 can store
    +-- TooManyFiles             ENFILE        no descriptor left for a spool file
    +-- BadDescriptor            EBADF
    +-- Busy                     EBUSY         a rename of the directory is under way
    +-- InProgress               EINPROGRESS   it goes on after the deadline, in the background
    +-- StaleObject              ESTALE        the object changed under an open handle
    +-- ConditionFailed          ESTALE        a conditional write met another writer's object
    |   +-- WriteRace            ESTALE        it met another write that is still under way
    +-- StoreError               EIO           the store failed; never "not found", never "empty"
        +-- StoreUnavailable     EIO           cannot reach it, it is overloaded, or it broke off
        |   +-- SlowDown         EIO           it asks for fewer requests
        |   +-- NoAnswer         EIO           there was none, or only a proxy's
        |   +-- Unreachable      EIO           there has been none for a while, so it was not asked
        |   +-- NoSuchBucket     EIO           the bucket is not there, or elsewhere
        +-- BadAnswer            EIO           it answered something that cannot be true
        +-- StoreTimeout         ETIMEDOUT     no answer within the deadline

    StartupError                 exit code     a mount that cannot come up, in one line
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """What the server said to a request that it did not carry out.

    Args:
        operation: S3's name for it.
        code: S3's, empty where the answer has none.
        request_id: by which the server's own log knows it, None where it gave none.
    """

    operation: str
    key: str
    http_status: int
    code: str
    message: str
    request_id: str | None


class FsError(Exception):
    """An operation failed; ``errno`` is what the calling program gets.

    ``answer`` is set where it was made from what the server said.
    """

    errno: ClassVar[int] = errno.EIO
    answer: ServerAnswer | None = None


class NotFound(FsError):
    """There is no such object, prefix or directory entry."""

    errno = errno.ENOENT


class AlreadyExists(FsError):
    """The name is taken."""

    errno = errno.EEXIST


class NotADirectory(FsError):
    """A directory was needed and something else is there."""

    errno = errno.ENOTDIR


class IsADirectory(FsError):
    """A file was needed and a directory is there."""

    errno = errno.EISDIR


class DirectoryNotEmpty(FsError):
    """The directory still has entries."""

    errno = errno.ENOTEMPTY


class InvalidArgument(FsError):
    """The request makes no sense."""

    errno = errno.EINVAL


class IllegalName(FsError):
    """The name's bytes are not UTF-8, and S3 keys must be."""

    errno = errno.EILSEQ


class NameTooLong(FsError):
    """A name over 255 bytes or a key over 1,024 bytes."""

    errno = errno.ENAMETOOLONG


class AccessDenied(FsError):
    """The server refused with 403, or a credential is wrong or expired."""

    errno = errno.EACCES


class LinkNotFollowed(FsError):
    """The mount tells nobody where this symbolic link leads: it may be out of the mount."""

    errno = errno.EACCES


class NotPermitted(FsError):
    """What S3 can never do: hard links, devices, set-uid bits."""

    errno = errno.EPERM


class OwnerFixed(NotPermitted):
    """The mount says whose everything is, and this would be somebody else's."""


class LinkNotStored(NotPermitted):
    """A symbolic link of which the mount would tell nobody where it leads."""


class NotSupported(FsError):
    """What this file system does not do."""

    errno = errno.ENOTSUP


class ReadOnly(FsError):
    """The mount is read-only."""

    errno = errno.EROFS


class NoSpace(FsError):
    """The spool's disk or its cap is full."""

    errno = errno.ENOSPC


class FileTooLarge(FsError):
    """Larger than the largest object S3 can store."""

    errno = errno.EFBIG


class TooManyFiles(FsError):
    """This process may not open another file: the limit is its own, not the calling program's (EMFILE)."""

    errno = errno.ENFILE


class BadDescriptor(FsError):
    """The handle is not open for this."""

    errno = errno.EBADF


class Busy(FsError):
    """The name belongs to a directory that is being renamed, and cannot be used until that is done."""

    errno = errno.EBUSY


class InProgress(FsError):
    """The operation goes on in the background: its caller's time is up."""

    errno = errno.EINPROGRESS


class StaleObject(FsError):
    """The object's ETag changed, or it vanished, while it was open for reading."""

    errno = errno.ESTALE


class ConditionFailed(FsError):
    """A conditional write found another object in its place (412)."""

    errno = errno.ESTALE


class WriteRace(ConditionFailed):
    """A conditional write met another one that had not ended (409): who wins is not decided yet."""


class StoreError(FsError):
    """The store failed. Says nothing about whether the object exists."""


class StoreUnavailable(StoreError):
    """The store cannot be reached, is overloaded, or broke off."""


class SlowDown(StoreUnavailable):
    """The store asks for fewer requests.

    Args:
        retry_after_s: after how long it wants the next one, if it says so.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NoAnswer(StoreUnavailable):
    """There was no answer: no connection, one that broke off, or a proxy that said that it had none."""


class Unreachable(StoreUnavailable):
    """There has been no answer to anything for a while, so this was not even asked."""


class NoSuchBucket(StoreUnavailable):
    """The bucket is not there (any more), or the server points elsewhere: asking again is of no use."""


class BadAnswer(StoreError):
    """The store answered something that cannot be true, so nothing of it is believed."""


class StoreTimeout(StoreError):
    """No answer within the deadline."""

    errno = errno.ETIMEDOUT


class StartupError(Exception):
    """The mount cannot come up.

    Args:
        thing: what is wrong, named: ``bucket "photos"``.
        cause: what was seen: ``does not exist at http://127.0.0.1:9000``.
        advice: the next step, a sentence.
        exit_code: one of ``s3mount.core.exits``.
    """

    def __init__(self, thing: str, cause: str, advice: str, exit_code: int = 1) -> None:
        super().__init__(f"{thing}: {cause}; {advice}")
        self.thing = thing
        self.cause = cause
        self.advice = advice
        self.exit_code = exit_code

    @property
    def fields(self) -> list[str | int]:
        """What it is made of, to be raised again by another process that is told of it."""
        return [self.thing, self.cause, self.advice, int(self.exit_code)]


def answer_behind(error: BaseException) -> ServerAnswer | None:
    """Return what the server said that led to *error*, None where it said nothing."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, FsError) and cause.answer is not None:
            return cause.answer
        seen.add(id(cause))
        cause = cause.__cause__ if cause.__cause__ is not None else cause.__context__
    return None


@contextlib.contextmanager
def collapsed() -> Iterator[None]:
    """Let the first error of an ExceptionGroup escape instead of the group: a nursery is nobody's business.

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
