"""Killing a daemon while a request of its is on its way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.support.counting_proxy import CountingProxy, Hold
from tests.support.mounting import Mount
from tests.support.waiting import eventually


@contextmanager
def beside(act: Callable[[], None]) -> Iterator[list[OSError | None]]:
    """Run *act* in a thread meanwhile; yields a list that gets what came of it."""
    result: list[OSError | None] = []

    def work() -> None:
        try:
            act()
        except OSError as exc:
            result.append(exc)
        else:
            result.append(None)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield result
    finally:
        thread.join(90)
        assert not thread.is_alive()


def kill_at(mount: Mount, proxy: CountingProxy, number: int, act: Callable[[], None]) -> bool:
    """Kill the daemon while its *number*-th request of *act* is on its way; False if there are fewer."""
    hold = Hold()
    proxy.clear()
    with proxy.rule(hold, first=number, last=number), beside(act) as result:

        def is_held_or_over() -> bool:
            with suppress(AssertionError):
                hold.wait_held(0.01)
                return True
            return bool(result)

        eventually(is_held_or_over)
        if result:
            return False
        before = len(proxy.requests())
        mount.kill()
        hold.release()
        # The server carries out what it was sent, though nobody waits for the answer any more.
        eventually(lambda: len(proxy.requests()) > before)
    return True
