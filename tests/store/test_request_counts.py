"""Counts of requests, by the process for which they were made."""

from __future__ import annotations

import contextvars
import os
import subprocess
from pathlib import Path

from s3mount.errors import NotFound, SlowDown, StoreUnavailable
from s3mount.store.base import ON_BEHALF_OF
from s3mount.store.processes import ENDED, ITSELF, UNSEEN, ProcessNames
from s3mount.store.request_counts import MOST_PROCESSES, OTHERS, RequestCounts


def test_what_became_of_requests_is_told_apart() -> None:
    """An absent object is an answer; a refusal to work is not."""
    counts = RequestCounts()
    counts.succeeded("GetObject", 0.5, 100)
    counts.failed("GetObject", 0.25, StoreUnavailable("broken"))
    counts.failed("GetObject", 0.25, SlowDown("slow"))
    counts.given_up("GetObject", 1.0)
    counts.failed("HeadObject", 0.1, NotFound("none"))
    counts.succeeded("PutObject", 0.1, 70)
    get, head, put = counts.snapshot()
    assert (get.operation, get.made, get.failed, get.slow_downs, get.given_up) == ("GetObject", 4, 2, 1, 1)
    assert (get.seconds, get.received_bytes, get.sent_bytes) == (2.0, 100, 0)
    assert (head.made, head.failed) == (1, 0)
    assert (put.sent_bytes, put.received_bytes) == (70, 0)


def test_a_request_counts_for_who_it_is_made_for() -> None:
    """By name; together they are all there are."""
    counts = RequestCounts()
    own = contextvars.copy_context()
    own.run(ON_BEHALF_OF.set, os.getpid())
    own.run(counts.succeeded, "GetObject", 0.1, 5)
    counts.succeeded("GetObject", 0.1, 7)
    name = Path("/proc/self/comm").read_text().rstrip("\n")
    found = {one.process: one.counts[0].received_bytes for one in counts.by_process()}
    assert found == {name: 5, ITSELF: 7}
    assert counts.snapshot()[0].received_bytes == 12


def test_an_ended_process_keeps_its_name() -> None:
    """If it was seen before; the kernel itself and other namespaces have none."""
    names = ProcessNames()
    with subprocess.Popen(["sleep", "60"]) as process:
        while names.name(process.pid) != "sleep":
            pass  # it is a fork of ours until exec
        process.kill()
    assert names.name(process.pid) == "sleep"
    assert ProcessNames().name(process.pid) == ENDED
    assert (names.name(0), names.name(None)) == (UNSEEN, ITSELF)


def test_there_is_a_bound_of_names() -> None:
    """A machine that starts program after program does not fill the memory."""
    counts = RequestCounts()
    counts._names = _Numbers()
    for number in range(MOST_PROCESSES + 50):
        context = contextvars.copy_context()
        context.run(ON_BEHALF_OF.set, number)
        context.run(counts.succeeded, "GetObject", 0.0, 1)
    found = {one.process: one.counts[0].made for one in counts.by_process()}
    assert len(found) == MOST_PROCESSES + 1
    assert found[OTHERS] == 50


class _Numbers(ProcessNames):
    """As if there were so many programs."""

    def name(self, pid: int | None) -> str:
        return f"program-{pid}"
