"""Limits: who waits how long, in which order, and what a change does. In a clock of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from s3mount.core.progress import Progress
from s3mount.store.limits import Gate

MIB = 1 << 20


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run *test* in time that passes only while everybody sleeps."""

    async def main() -> None:
        with trio.fail_after(100_000):
            await test()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_so_much_a_second_and_no_more() -> None:
    """Ten requests a second: a bucket of ten at once, and each other one a tenth of a second later."""

    async def test() -> None:
        gate, began = Gate(10), trio.current_time()
        for _ in range(30):
            await gate.enter(1)
        assert trio.current_time() - began == pytest.approx(2.0, abs=1e-3)

    run(test)


def test_one_that_is_larger_than_a_second_goes_and_the_next_waits_for_it() -> None:
    """A part of an upload is sent as a whole."""

    async def test() -> None:
        gate, began = Gate(1 << 20), trio.current_time()
        await gate.enter(16 << 20)
        assert trio.current_time() == began
        await gate.enter(1 << 20)
        assert trio.current_time() - began == pytest.approx(16.0, abs=1e-3)

    run(test)


@pytest.mark.parametrize("part_mib", [16, 64, 5120])
def test_a_drain_under_a_low_limit_is_not_taken_for_one_that_stands_still(part_mib: int) -> None:
    """Parts of 64 MiB at 1 MiB a second go out one a minute and more: whoever waits gets on."""

    async def test() -> None:
        gate, progress, sent = Gate(MIB), Progress(60.0), 0

        async def send() -> None:
            nonlocal sent
            for _ in range(2):
                await gate.enter(part_mib * MIB)
                sent += part_mib * MIB

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(send)
            while sent < 8 * part_mib * MIB:
                assert progress.moves(sent, trio.current_time(), is_held_back=gate.waiting > 0)
                await trio.sleep(part_mib / 100)

    run(test)


def test_hints_let_a_few_readers_go_first_but_not_for_ever() -> None:
    """Read-ahead must not delay a reader who comes later, nor starve: a reader may need it by then."""

    async def test() -> None:
        gate, order = Gate(1), []

        async def enter(name: str, background: bool) -> None:
            await gate.enter(1, background=background)
            order.append(name)

        await gate.enter(1)
        async with trio.open_nursery() as nursery:
            for name in ("hint 1", "reader 1", "hint 2", *(f"reader {number}" for number in range(2, 8))):
                nursery.start_soon(enter, name, name.startswith("hint"))
                await wait_all_tasks_blocked()
        readers = [f"reader {number}" for number in range(1, 8)]
        assert order == [*readers[:3], "hint 1", *readers[3:6], "hint 2", readers[6]]

    run(test)


def test_who_gives_up_lets_the_next_in() -> None:
    """And has used nothing."""

    async def test() -> None:
        gate, began = Gate(1), trio.current_time()
        await gate.enter(1)
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def give_up() -> None:
                with scope:
                    await gate.enter(100)

            nursery.start_soon(give_up)
            await wait_all_tasks_blocked()
            nursery.start_soon(gate.enter, 1)
            await wait_all_tasks_blocked()
            scope.cancel()
        assert trio.current_time() - began == pytest.approx(1.0, abs=1e-3)

    run(test)


@pytest.mark.parametrize("rate", [None, 1e6])
def test_a_change_holds_for_those_who_wait(rate: float | None) -> None:
    """They do not sit out the old limit."""

    async def test() -> None:
        gate, began = Gate(0.001), trio.current_time()
        await gate.enter(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gate.enter, 1)
            await wait_all_tasks_blocked()
            gate.set_rate(rate)
        assert trio.current_time() - began < 2.0

    run(test)
