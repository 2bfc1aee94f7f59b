"""The upload queue: what is due when, on a clock that the test sets."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing

from s3mount.fs.upload_queue import LAST_RETRY_S, UploadQueue


@dataclass(eq=False)
class File:
    """What the queue knows of an open file."""

    failures: int = 0
    is_waiting: bool = True
    sent_at: list[float] = field(default_factory=list)


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run on a clock that jumps to the next deadline when nothing else is to do."""
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def queue_of(**settings: Any) -> UploadQueue:
    """Return a queue with a delay of 5 s, two files at once, and a known jitter."""
    return UploadQueue(
        **{"delay_s": 5, "files_at_once": 2, "most_files": 10, "rng": random.Random(1), **settings}
    )


async def sent(file: Any) -> None:
    """Send *file* without trouble."""
    file.sent_at.append(trio.current_time())
    file.is_waiting = False


def test_a_file_is_sent_after_the_delay() -> None:
    """Closed again meanwhile, it keeps its time and is sent once."""

    async def main() -> None:
        queue, file = queue_of(), File()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.run, sent)
            queue.put(file)
            await trio.sleep(3)
            queue.put(file)
            await trio.sleep(20)
            nursery.cancel_scope.cancel()
        assert file.sent_at == [pytest.approx(began + 5)]
        assert len(queue) == 0

    run(main)


def test_at_once_is_at_once() -> None:
    """What an earlier mount has left waits for nothing, and ``hurry`` lets nobody wait."""

    async def main() -> None:
        queue, left, waiting = queue_of(), File(), File()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.run, sent)
            queue.put(left, at_once=True)
            queue.put(waiting)
            await trio.sleep(1)
            queue.hurry()
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert left.sent_at == [pytest.approx(began)]
        assert waiting.sent_at == [pytest.approx(began + 1)]

    run(main)


def test_a_failing_upload_is_tried_for_ever_at_longer_and_longer_intervals() -> None:
    """The wait doubles up to five minutes and stays there; an hour of failures ends nothing."""

    async def main() -> None:
        queue, file = queue_of(delay_s=0), File()

        async def fail(one: Any) -> None:
            one.sent_at.append(trio.current_time())
            one.failures += 1
            queue.put(one, is_failure=True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.run, fail)
            queue.put(file)
            await trio.sleep(7200)
            nursery.cancel_scope.cancel()
        waits = [later - earlier for earlier, later in zip(file.sent_at, file.sent_at[1:], strict=False)]
        assert 7200 / LAST_RETRY_S <= len(waits) <= 70
        for number, wait in enumerate(waits):
            longest = min(LAST_RETRY_S, 2.0**number)
            assert longest / 2 <= wait <= longest + 1e-6
        assert len(queue) == 1

    run(main)


def test_a_bug_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """A file that makes the sender raise is tried again later; the next is sent all the same."""

    async def main() -> None:
        queue, bad, good = queue_of(delay_s=0), File(), File()
        bad.node = File()  # type: ignore[attr-defined]
        bad.node.path = lambda: "/bad"  # type: ignore[attr-defined]

        async def send(file: Any) -> None:
            if file is bad and len(file.sent_at) < 2:
                file.sent_at.append(trio.current_time())
                raise ValueError("a bug")
            await sent(file)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.run, send)
            queue.put(bad)
            queue.put(good)
            await trio.sleep(60)
            nursery.cancel_scope.cancel()
        assert len(bad.sent_at) == 3
        assert len(good.sent_at) == 1

    run(main)
    assert "upload of /bad failed: a bug in s3mount" in caplog.text


def test_no_more_files_at_once_than_allowed_and_each_by_one_only() -> None:
    """Twenty files through two senders; one that is put while it is being sent is not sent twice at once."""

    async def main() -> None:
        queue, files = queue_of(delay_s=0, most_files=20), [File() for _ in range(20)]
        active: list[Any] = []
        most = 0

        async def send(file: Any) -> None:
            nonlocal most
            assert file not in active
            active.append(file)
            most = max(most, len(active))
            if len(file.sent_at) == 0:
                queue.put(file)
            file.sent_at.append(trio.current_time())
            await trio.sleep(1)
            active.remove(file)
            file.is_waiting = False

        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.run, send)
            for file in files:
                queue.put(file)
            assert queue.is_full
            await trio.sleep(100)
            nursery.cancel_scope.cancel()
        assert most == 2
        assert [len(file.sent_at) for file in files] == [2] * 20

    run(main)


def test_a_file_that_gave_way_is_tried_again() -> None:
    """A writer stopped the upload and changed nothing, as chmod does: it is still to be sent."""

    async def main() -> None:
        queue, file = queue_of(), File()
        tries = 0

        async def send(one: Any) -> None:
            nonlocal tries
            tries += 1
            if tries == 2:
                await sent(one)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.run, send)
            queue.put(file)
            await trio.sleep(30)
            nursery.cancel_scope.cancel()
        assert tries == 2

    run(main)
