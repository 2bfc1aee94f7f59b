"""Runs cells on several lanes at once, and counts what comes of them."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support import totals
from tests.support.counting_proxy import Action, Rule
from tests.support.s3_requests import S3Request
from tests.support.servers import Server
from tests.sweeps import programs
from tests.sweeps.faults import Cell
from tests.sweeps.judge import Event, Run, judge, judge_reuse, judge_view, reused_names, too_long
from tests.sweeps.lane import OPERATION_S, SLACK_S, WATCH_S, Lane
from tests.sweeps.spooled import spooled

LANES = 4
"""Most of a stall is waiting, so more run at once than there are processors."""

SLOWEST_BYTES_PER_S = 512 * 1024


class Outcome:
    """What came of a cell: whether its fault was injected, how often, and what was wrong."""

    def __init__(
        self, cell: Cell | None, injected: int, passed: list[S3Request], complaints: list[str]
    ) -> None:
        self.cell, self.injected, self.passed, self.complaints = cell, injected, passed, complaints
        self.requests = len(passed)


class Runner:
    """The lanes of a test run."""

    def __init__(self, server: Server, base: Path) -> None:
        self.source = base / "source"
        self.source.mkdir(parents=True)
        make_sources(self.source)
        self._lanes = [Lane(server, base / f"lane{number}") for number in range(LANES)]
        self._free: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        for lane in self._lanes:
            self._free.put(lane)
        self._pool = ThreadPoolExecutor(LANES)
        self._requests: dict[str, int] = {}
        self.at_the_end: list[str] = []

    def run(self, cells: Iterable[Cell]) -> list[Outcome]:
        """Run *cells*, several at once; return what came of each, in their order."""
        return list(self._pool.map(self._run_somewhere, cells))

    def requests_of(self, program: str) -> int:
        """Return how many requests *program* makes when nothing fails. Raises: AssertionError if it fails."""
        if program not in self._requests:
            (outcome,) = self._pool.map(self._run_somewhere, [None], [program])
            assert not outcome.complaints, f"{program} without a fault: {outcome.complaints}"
            self._requests[program] = outcome.requests
        return self._requests[program]

    def sweep(self, program: str, fault: str, sticky: bool) -> list[Outcome]:
        """Fail request 1, 2, ... of *program*, until a run makes fewer."""
        count = self.requests_of(program)
        done = self.run(Cell(program, fault, sticky, k) for k in range(1, count + 1))
        while done[-1].injected:
            done += self.run([Cell(program, fault, sticky, len(done) + 1)])
        return done

    def close(self) -> list[str]:
        """Unmount all; return what was wrong with the mounts."""
        complaints = list(self.at_the_end)
        for said in self._pool.map(_close, self._lanes):
            complaints += said
        # Only now: a daemon is killed with the thread that started it.
        self._pool.shutdown()
        totals.count("orphan uploads", sum("orphan upload" in one for one in complaints))
        return complaints

    def _run_somewhere(self, cell: Cell | None, program: str = "") -> Outcome:
        lane = self._free.get()
        try:
            name, complaints = lane.next_cell()
            self.at_the_end += complaints
            return self._run(lane, name, cell, cell.program if cell else program)
        except BaseException:
            lane.broken = True
            raise
        finally:
            self._free.put(lane)

    def _run(self, lane: Lane, name: str, cell: Cell | None, program: str) -> Outcome:
        self._prepare(lane, name, program)
        lane.proxy.clear()
        rule = Rule(Action(), first=1 << 30) if cell is None else cell.rule()
        arguments = {"cp_p": ["file"], "git_clone": ["repository"]}.get(program, [])
        with lane.proxy.apply(rule):
            events, signal = self._program(
                lane, name, program, *(str(self.source / one) for one in arguments)
            )
        passed = lane.proxy.requests()
        lane.wait_for_the_server()
        run = self._look(lane, name, program, events, signal)
        if cell is None:
            run.complaints += [f"{one}" for one in events if one["errno"] and one["path"] != "absent"]
            run.complaints += [f"{one}" for one in events if one.get("exit")]
        judge(run)
        hung = list(too_long(events, OPERATION_S + SLACK_S, SLOWEST_BYTES_PER_S))
        for text in hung:
            run.complain(text)
        judge_view(run, self._program(lane, name, "view")[0])
        self._reuse(lane, name, run)
        if cell is None:
            lane.note_baseline()
        if not Path(f"/proc/{lane.mount.pid}").exists():
            run.complain("the daemon is gone")
            lane.broken = True
        _count(run, rule, len(hung), cell)
        if cell is not None and run.complaints:
            told = [f"{one['call']} {one['path']}: {one['errno'] or one.get('exit', 0)}" for one in events]
            run.complaints.append(f"calls: {', '.join(told)}")
            asked = [f"{one.operation} {one.key.removeprefix(name)} {one.status}" for one in passed]
            run.complaints.append(f"requests: {', '.join(asked)}")
            run.complaints.append(f"{rule!r}; again: python -m tests.sweeps.replay {cell}")
        return Outcome(cell, rule.injected, passed, run.complaints)

    def _prepare(self, lane: Lane, name: str, program: str) -> None:
        for path in programs.PREPARED[program]:
            lane.bucket.put(f"{name}/{path}", programs.old_content(program, name, path))
        if program == "sqlite_transaction":
            lane.bucket.put(f"{name}/base", (self.source / "base").read_bytes())

    def _program(self, lane: Lane, name: str, program: str, *arguments: str) -> tuple[list[Event], int]:
        """Run a program in the cell's directory; return what it said and the signal that ended it."""
        command = [
            sys.executable,
            "-I",
            "-S",
            programs.__file__,
            program,
            str(lane.mount.path / name),
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WATCH_S * 2)
        assert done.returncode <= 0, f"{program}: {done.stderr}"
        return [json.loads(line) for line in done.stdout.splitlines()], -done.returncode

    def _look(self, lane: Lane, name: str, program: str, events: list[Event], signal: int) -> Run:
        prefix = f"{name}/"

        def version(key: str, etag: str) -> bytes | None:
            old = programs.old_content(program, name, key.removeprefix(prefix))
            if etag.strip('"') == hashlib.md5(old, usedforsecurity=False).hexdigest():
                return old
            there = lane.bucket.has(key) and lane.bucket.head(key)["ETag"] == etag
            return lane.bucket.get(key) if there else None

        # The spool first: what leaves it meanwhile is in the bucket by then.
        kept = spooled(lane.mount.spool, version)
        keys = lane.bucket.keys(prefix)
        return Run(
            program=program,
            name=name,
            events=events,
            signal=signal,
            objects=lane.bucket.files(prefix),
            directories=[key.removeprefix(prefix) for key in keys if key.endswith("/") and key != prefix],
            metadata=lambda path: lane.bucket.metadata(prefix + path),
            spooled={
                key.removeprefix(prefix): found for key, found in kept.items() if key.startswith(prefix)
            },
            source=self.source,
        )

    def _reuse(self, lane: Lane, name: str, run: Run) -> None:
        events: list[Event] = []
        if run.program in ("git_clone", "sqlite_transaction", "cp_p"):
            events += self._program(lane, name, "remove_all")[0]
        events += self._program(lane, name, "reuse", *reused_names(run.program))[0]
        judge_reuse(run, events, lane.bucket.files(f"{name}/"))
        left = [key for key in spooled(lane.mount.spool, lambda *_: None) if key.startswith(f"{name}/")]
        if left:
            run.complain(f"all was stored again, and the spool still has {left}")


def _close(lane: Lane) -> list[str]:
    try:
        return lane.close()
    except Exception as exc:  # noqa: BLE001  (the other lanes are to be unmounted too)
        return [f"a mount could not be ended: {exc!r}"]


def _count(run: Run, rule: Rule, hung: int, cell: Cell | None) -> None:
    totals.count("lost bytes", run.lost_bytes)
    totals.count("hung callers", hung)
    if cell is not None and rule.injected:
        totals.count("faults injected", rule.injected)
        totals.count("faults survived", 0 if run.complaints else rule.injected)
        totals.count("cells swept")


def make_sources(place: Path) -> None:
    """Make what the programs copy: a file, a repository and a data base."""
    (place / "file").write_bytes(programs.content("source", "file", "old", 7000))
    os.utime(place / "file", ns=(1_000_000_000_123_456_789, 1_000_000_000_123_456_789))
    (place / "file").chmod(0o640)
    repository = place / "repository"
    (repository / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (repository / name).write_text(f"{name}\n" * 50)
    git = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    template = ["-c", "init.templateDir="]
    for command in ([*template, "init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    base = sqlite3.connect(place / "base")
    base.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER, filler BLOB)")
    base.executemany("INSERT INTO t VALUES (?, 0, zeroblob(200))", [(number,) for number in range(1, 501)])
    base.commit()
    base.close()
