"""The oracle: the same steps on a mount and on a local directory, which says what is right.

A case is a list of steps made from a seed (tests/support/oracle_steps.py); cases run many at a time in
directories of their own, so that mounting afresh in the middle of each costs one remount for all. What
differs first is the failure, and the case is made smaller before it is shown.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.mounting import Mount
from tests.support.oracle_agent import Outcome, Step
from tests.support.oracle_steps import REMOUNT, UNSUPPORTED

#: Where the mount differs from ext4 on purpose. What is not named here must be the same.
DIFFERENCES = {
    "hard links, devices, pipes, sockets": "an object has one key and no kind: EPERM (UNSUPPORTED)",
    "set-uid, set-gid; sticky on files": "whoever can write to the bucket could hand them out: EPERM",
    "exchange of two names": "two copies that cannot be made at once: EINVAL; not played",
    "times of directories": "entries come and go without a request for their directory; not compared",
    "size and link count of directories": "each file system's own affair, also among local ones",
    "atime, ctime, inode numbers, blocks": "not stored in objects; not compared",
    "SEEK_DATA, SEEK_HOLE, fallocate": "objects have no holes, and space is not reserved; not played",
    "mtime after truncate to the same size": "nothing changes, so nothing is uploaded; not played",
    "mtime after a store into a mapping without msync": "moves when the kernel writes the page; no times set",
}

#: What a server itself does not keep.
DIRECTORY_ATTRIBUTES_LOST = {
    "seaweedfs": "it keeps no metadata of a key that ends in a slash: modes and owners of directories",
}

SHRINK_S = 90.0


@dataclass(frozen=True)
class Difference:
    """The first step of a case that gave something else on the mount."""

    position: int
    step: Step
    expected: Outcome | str
    actual: Outcome | str

    def __str__(self) -> str:
        return f"step {self.position}: {self.step}\n  local: {self.expected}\n  mount: {self.actual}"


class World:
    """An agent process that plays steps below *root*."""

    def __init__(self, root: Path, *arguments: str) -> None:
        self._root = root
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End the process; its descriptors are closed."""
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.close()
            self._process.wait(60)
            self._process.stdout.close()
            self._process = None

    def play(self, case: str, steps: Sequence[Step]) -> list[Outcome | str]:
        """Return what each step gave; a text in place of the first one that ended the process."""
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        pickle.dump((case, steps), process.stdin)
        process.stdin.flush()
        outcomes: list[Outcome | str] = []
        for _ in steps:
            try:
                outcomes.append(pickle.load(process.stdout))
            except EOFError:
                code = process.wait(60)
                process.stdout.close()
                self._process = None
                return [*outcomes, f"the process ended with {code}"]
        return outcomes

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            # Not with -m: what it pickles must not come from a module called __main__.
            program = "from tests.support.oracle_agent import main; main()"
            command = [sys.executable, "-c", program, str(self._root), *self._arguments]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
            )
        return self._process


class Oracle:
    """Plays cases on *mount* and in *local*; a context manager.

    Args:
        local: an empty directory on a local file system.
    """

    def __init__(self, mount: Mount, local: Path) -> None:
        self._mount = mount
        self._ignores_directory_attributes = mount.server.name in DIRECTORY_ATTRIBUTES_LOST
        self._stack = ExitStack()
        self._on_mount = self._stack.enter_context(World(mount.path))
        self._on_local = self._stack.enter_context(World(local, "oracle"))
        self._tries = 0

    def __enter__(self) -> Oracle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def play(self, cases: dict[str, list[Step]]) -> dict[str, Difference]:
        """Play *cases* (each under a name that was never used), remounting together; say what differs."""
        found: dict[str, Difference] = {}
        phases = {name: _phases(steps) for name, steps in cases.items()}
        for number in range(max(map(len, phases.values()))):
            if number:
                self._on_mount.end()
                self._mount.remount()
            for name, parts in phases.items():
                if name in found or number >= len(parts):
                    continue
                before = sum(map(len, parts[:number]))
                difference = self._play_phase(name, parts[number], before)
                if difference is not None:
                    found[name] = difference
        return found

    def shrink(self, steps: list[Step], until: float | None = None) -> tuple[list[Step], Difference | None]:
        """Return a smaller list of steps that still differs, and how."""
        until = time.monotonic() + SHRINK_S if until is None else until
        difference = self._try(steps)
        if difference is None:
            return steps, None
        best = (steps, difference)

        def accept(candidate: list[Step]) -> bool:
            nonlocal best
            if time.monotonic() > until:
                return False
            different = self._try(candidate)
            if different is not None:
                best = (candidate[: different.position + 1], different)
            return different is not None

        accept(steps[: difference.position + 1])
        size = max(1, len(best[0]) // 2)
        while size:
            size = size if _drop(lambda: best[0], size, accept) else size // 2
        for position in range(len(best[0])):
            for simpler in _simpler(best[0][position]):
                accept([*best[0][:position], simpler, *best[0][position + 1 :]])
        return best

    def explain(self, steps: list[Step], difference: Difference) -> str:
        """Return the failing case, made smaller, as text that can be pasted into a test."""
        smaller, again = self.shrink(steps)
        lines = [f"first seen as {difference}"]
        if again is None:
            lines.append("it did not happen again when the case was played alone")
        else:
            lines += [f"smallest case found ({len(smaller)} steps):", *(f"    {step}" for step in smaller)]
            lines.append(f"which differs at {again}")
        return "\n".join([*lines, "the daemon's log ends with:", self._mount.tail()])

    def _try(self, steps: list[Step]) -> Difference | None:
        self._tries += 1
        name = f"try-{self._tries}"
        difference = self.play({name: steps}).get(name)
        # What a shortened case leaves open would keep the next remount from happening.
        for world in (self._on_mount, self._on_local):
            world.play(name, [replace(REMOUNT)])
        return difference

    def _play_phase(self, name: str, steps: list[Step], before: int) -> Difference | None:
        expected = self._on_local.play(name, steps)
        actual = self._on_mount.play(name, steps)
        if self._ignores_directory_attributes:
            expected, actual = (list(map(_without_directory_attributes, one)) for one in (expected, actual))
        for position, (step, local, mounted) in enumerate(zip(steps, expected, actual, strict=False)):
            if not _agree(step, local, mounted):
                if position + 1 < len(steps):
                    for world in (self._on_mount, self._on_local):
                        world.play(name, [replace(REMOUNT)])
                return Difference(before + position, step, *_narrowed(local, mounted))
        return None


def _agree(step: Step, local: Outcome | str, mounted: Outcome | str) -> bool:
    if step.kind == "unsupported" and isinstance(local, Outcome) and local.value is not None:
        wanted = UNSUPPORTED[step.arguments["call"]]
        return isinstance(mounted, Outcome) and (mounted.error, mounted.seen) == (wanted, local.seen)
    return local == mounted


def _without_directory_attributes(seen: Any) -> Any:
    if isinstance(seen, Outcome):
        value, looks = (_without_directory_attributes(one) for one in (seen.value, seen.seen))
        return replace(seen, value=value, seen=looks)
    if isinstance(seen, tuple):
        return tuple(_without_directory_attributes(one) for one in seen)
    if isinstance(seen, dict):
        if seen.get("kind") == "directory":
            return {"kind": "directory"}
        return {name: _without_directory_attributes(one) for name, one in seen.items()}
    return seen


def _narrowed(local: Outcome | str, mounted: Outcome | str) -> tuple[Outcome | str, Outcome | str]:
    """Leave out of two trees what is the same in both."""
    if isinstance(local, str) or isinstance(mounted, str):
        return local, mounted
    if not isinstance(local.value, dict) or not isinstance(mounted.value, dict):
        return local, mounted
    names = local.value.keys() | mounted.value.keys()
    names = {name for name in names if local.value.get(name) != mounted.value.get(name)}
    return tuple(  # type: ignore[return-value]
        replace(one, value={name: one.value.get(name) for name in names}) for one in (local, mounted)
    )


def _phases(steps: list[Step]) -> list[list[Step]]:
    """Cut behind each REMOUNT."""
    phases: list[list[Step]] = [[]]
    for step in steps:
        phases[-1].append(step)
        if step == REMOUNT:
            phases.append([])
    return [phase for phase in phases if phase]


def _drop(current: Callable[[], list[Step]], size: int, accept: Callable[[list[Step]], bool]) -> bool:
    """Try to leave out *size* steps at each place; return whether that was possible anywhere."""
    any_left_out = False
    position = len(current()) - size
    while position >= 0:
        steps = current()
        if accept([*steps[:position], *steps[position + size :]]):
            any_left_out = True
        position = min(position, len(current())) - size
    return any_left_out


def _simpler(step: Step) -> list[Step]:
    """Return variants of *step* that are easier to read."""
    variants: list[dict[str, Any]] = []
    for name, value in step.arguments.items():
        if name in ("size", "offset") and value > 10:
            variants.append({name: 3})
        if name == "flags":
            variants += [{name: value & ~(1 << bit)} for bit in range(6, 20) if value & (1 << bit)]
    simpler = [replace(step, arguments=step.arguments | variant) for variant in variants]
    return [replace(step, looks=False), *simpler] if step.looks else simpler
