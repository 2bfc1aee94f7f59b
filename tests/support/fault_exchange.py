"""One request and its answer on their way through the proxy, as the actions see it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.fault_pieces import Piece
from tests.support.http_stream import Connection, Ended, Head
from tests.support.s3_requests import S3Request

if TYPE_CHECKING:
    from tests.support.fault_actions import Answer


class Broken(Exception):
    """The exchange ends here because an action says so; ``reset``: with RST, else with FIN."""

    def __init__(self, reset: bool) -> None:
        super().__init__(reset)
        self.reset = reset


class Replaced(Exception):
    """The client gets ``answer`` in the place of what the server said."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.answer = answer


@dataclass
class Exchange:
    """What is known of it so far.

    Args:
        head: the request's.
        ending: set when the proxy ends.
        answer: the head of the server's answer, once it is there.
    """

    head: Head
    request: S3Request
    client: Connection
    ending: threading.Event
    write_down: Callable[[S3Request], None]
    answer: Head | None = None
    is_recorded: bool = False
    is_drained: bool = False
    _read: list[Piece] | None = None

    def read_ahead(self) -> None:
        """Take the whole body from the client now; :meth:`body` gives it later."""
        if not self.is_drained:
            self._read = list(self.body())

    def body(self) -> Iterator[Piece]:
        """Return the request's body, once."""
        if self._read is not None:
            return iter(self._read)
        self.is_drained = True
        return self.client.read_body(self.head.headers, until_close=False)

    def drain_request(self) -> None:
        """Read the request's body, for nobody."""
        if not self.is_drained:
            for _, size in self.body():
                self.request.bytes_in += size

    def record(self, status: int) -> None:
        """Write the request down, once, with the status that the client gets; 0 for none."""
        if not self.is_recorded:
            self.is_recorded = True
            self.request.status = status
            self.write_down(self.request)

    def sleep(self, seconds: float) -> None:
        """Wait. Raises: Ended if the proxy ends meanwhile."""
        if self.ending.wait(seconds):
            raise Ended

    def stall(self, seconds: float | None) -> None:
        """Wait so long, None for ever. Raises: Ended if the client gives up or the proxy ends."""
        if self.client.wait_given_up(seconds):
            raise Ended
