"""The edge to the kernel: whatever happens inside, the mount goes on."""

from __future__ import annotations

import errno
import inspect
import logging
from typing import Any
from unittest.mock import NonCallableMagicMock

import pyfuse3
import pytest
import trio
import trio.testing

from s3mount.core.deadlines import SLOWEST_TRANSFER
from s3mount.errors import FsError, NotFound, StaleObject
from s3mount.fuse.boundary import fuse_operation
from s3mount.fuse.operations import Operations


class Small:
    """The least that wears the guard."""

    operation_timeout_s = 10.0
    access_log = None

    def __init__(self, outcome: Any = None, transfer: int = 0) -> None:
        self._outcome = outcome
        self._transfer = transfer
        self.noted: list[tuple[str, type[FsError]]] = []

    def describe(self, name: str, arguments: tuple[Any, ...]) -> str:
        return "/some/path"

    def transfer_bytes(self, name: str, arguments: tuple[Any, ...]) -> int:
        return self._transfer

    def process_of(self, name: str, arguments: tuple[Any, ...]) -> int | None:
        return None

    def path_of(self, name: str, arguments: tuple[Any, ...]) -> str:
        return "/some/path"

    def note_error(self, name: str, arguments: tuple[Any, ...], error: FsError) -> None:
        self.noted.append((name, type(error)))

    @fuse_operation
    async def lookup(self) -> str:
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        if self._outcome == "hang":
            await trio.sleep_forever()
        return "answer"


def outcome_of(small: Small) -> tuple[int | str, float]:
    """Return the answer or the errno, and how long it took on the test's clock."""

    async def run() -> tuple[int | str, float]:
        began = trio.current_time()
        try:
            answer: int | str = await small.lookup()
        except pyfuse3.FUSEError as exc:
            answer = exc.errno
        return answer, trio.current_time() - began

    return trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


def test_an_answer_passes_through() -> None:
    """A handler that works is not changed."""
    assert outcome_of(Small()) == ("answer", 0)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (NotFound("x"), errno.ENOENT),
        (StaleObject("x"), errno.ESTALE),
        (pyfuse3.FUSEError(errno.ENOSYS), errno.ENOSYS),
        (ExceptionGroup("nursery", [NotFound("x")]), errno.ENOENT),
    ],
)
def test_errors_become_their_errno(raised: BaseException, expected: int) -> None:
    """What is raised on purpose reaches the program as its errno, also out of a nursery."""
    assert outcome_of(Small(raised))[0] == expected


def test_a_bug_is_eio_and_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """An exception nobody foresaw is EIO for one caller, with a traceback in the log."""
    with caplog.at_level(logging.ERROR):
        assert outcome_of(Small(RuntimeError("boom")))[0] == errno.EIO
    assert "a bug in s3mount" in caplog.text
    assert "boom" in caplog.text


def test_no_handler_runs_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    """A handler without a result is ETIMEDOUT at its deadline; a transfer has longer, by its size."""
    assert outcome_of(Small("hang")) == (errno.ETIMEDOUT, 10)
    assert outcome_of(Small("hang", transfer=SLOWEST_TRANSFER * 60)) == (errno.ETIMEDOUT, 70)
    assert "no result within 10 s" in caplog.text


def handler_names() -> list[str]:
    """Return every handler that Operations has of its own."""
    return sorted(
        name
        for name, member in vars(Operations).items()
        if inspect.iscoroutinefunction(inspect.unwrap(member)) and not name.startswith("_")
    )


class Broken:
    """A file system of which every part fails in an unforeseen way."""

    operation_timeout_s = 1.0

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("injected")


@pytest.mark.parametrize("name", handler_names())
def test_an_unforeseen_exception_in_any_handler_is_eio(name: str) -> None:
    """No handler lets an exception through that would end the mount for everybody."""
    operations = Operations(
        NonCallableMagicMock(), NonCallableMagicMock(), operation_timeout_s=1, on_init=lambda: None
    )
    operations._fs = operations._namespace = operations._table = operations._converter = Broken()  # type: ignore[assignment]
    arguments = [_argument(one) for one in list(inspect.signature(getattr(Operations, name)).parameters)[1:]]
    # Where the text for the log fails too, that must not escape either.
    if name == "forget":
        trio.run(operations.forget, [(1, 1)])
        return
    if name == "statfs":
        trio.run(operations.statfs, *arguments)
        return
    with pytest.raises(pyfuse3.FUSEError) as caught:
        trio.run(getattr(operations, name), *arguments)
    assert caught.value.errno == (errno.EPERM if name == "link" else errno.EIO)


def _argument(name: str) -> Any:
    if "inode" in name or name in ("fh", "off", "size", "flags", "mode", "rdev", "start_id"):
        return 1 if name != "flags" and name != "mode" else 0
    if "name" in name or name in ("target", "buf"):
        return b"x"
    return NonCallableMagicMock()
