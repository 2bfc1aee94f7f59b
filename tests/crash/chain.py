"""Many deaths in a row on one spool: each mount finishes what the one before it has left, and dies in turn.

For each death: what is there before is put into a directory of its own of the bucket; the daemon is mounted,
a program works in that directory, and the daemon dies at the chosen system call. The next mount must bring
the directory into a state that the manifest allows, by itself. At the end everything is looked at by a mount
without anything that is remembered on this machine besides the spool.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.crash.agent import INTERRUPTED, Progress
from tests.crash.kept import is_drained, kept_below, unlisted, wait_until
from tests.crash.oracle import Expectation
from tests.crash.syscalls import Call, Kind, SyscallWatch
from tests.crash.works import WORKS, Files, Work
from tests.support import totals
from tests.support.bucket import Bucket
from tests.support.counting_proxy import CountingProxy
from tests.support.mounting import Mount
from tests.support.processes import StartFailed
from tests.support.servers import Server

ROOT = Path(__file__).parents[2]
AGENT_S = 120
#: What a daemon says of what another one has left.
EXPECTED = ("of an earlier mount", "of the spool waits for you")


@dataclass(frozen=True)
class Point:
    """Where a daemon dies: at call *number* of *kind*; with 0 never."""

    kind: Kind
    number: int

    def __str__(self) -> str:
        return f"{self.kind} {self.number}"


class WatchedMount(Mount):
    """A mount whose command line begins with *prefix*."""

    prefix: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """Return the command line of the daemon."""
        return [*self.prefix, *super().command()]

    def bury(self) -> None:
        """Clear away what a daemon that has died has left, also one that was not mounted any more, or yet."""
        if self._process is not None:
            self.kill()
        subprocess.run(["umount", "-l", str(self.path)], capture_output=True)


@dataclass
class Scene:
    """One run of a work in a directory of its own.

    ``points`` are those at which daemons were to die, in turn; ``deaths`` says how many did.
    """

    points: list[Point]
    work: Work
    prefix: str
    manifest: Path
    fired: Call | None = None
    deaths: int = 0


class Chain:
    """See the module. A context manager; *base* is an empty directory.

    Args:
        options: of all mounts, besides those of the work.
    """

    is_power_cut = False
    #: What the totals call a death.
    counted = "crashes"
    #: What a mount may say.
    expected: tuple[str, ...] = EXPECTED

    def __init__(self, server: Server, work: str, base: Path, *, options: tuple[str, ...] = ()) -> None:
        self.server = server
        self.base = base
        self.spool = base / "spool"
        self._work = work
        self._options = (*WORKS[work]().options, *options)
        self._proxy = CountingProxy(server.endpoint_url)
        self._bucket = Bucket(server, server.fresh_bucket())
        self._scenes: list[Scene] = []
        self._last: Scene | None = None
        # Files in the spool that were judged already: those without a name belong to no scene.
        self._known: set[str] = set()

    def __enter__(self) -> Chain:
        self._proxy.__enter__()
        self._watch = SyscallWatch(self.spool)
        self._watch.__enter__()
        self._mount = self._new_mount()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._mount.__exit__(kind or BaseException, value, trace)
        finally:
            self._watch.__exit__(kind, value, trace)
            self._proxy.__exit__(kind, value, trace)

    def die(self, point: Point) -> Counter[Kind] | None:
        """Let a daemon die there, after it has finished what the last one left.

        Returns None, or, where the work was done before, how many calls of each kind it took.
        Raises: AssertionError.
        """
        scene = self._new_scene(point)
        try:
            return self._play(scene)
        except BaseException:
            self._print_replay(scene)
            raise

    def die_again(self, point: Point) -> bool:
        """Let the daemon die, too, that is to finish what the last one left; its calls count from its start.

        Returns whether it died before all was finished. Raises: AssertionError.
        """
        scene = self._last
        assert scene is not None, "no daemon has died"
        scene.points.append(point)
        self._mount.prefix = self._prefix()
        self._watch.arm(point.kind, point.number, self._act)
        try:
            self._mount.start()
            wait_until(lambda: self._watch.fired is not None or is_drained(self.spool), "an end")
            if self._watch.fired is None:
                self._mount.stop(check=False)
        except (StartFailed, AssertionError) as exc:
            if self._watch.fired is None:
                self._print_replay(scene)
                raise AssertionError(f"{exc}\n{self._story(scene)}") from exc
        self._watch.disarm()
        if self._watch.fired is None:
            return False
        self._bury(scene, self._watch.fired)
        return True

    def finish(self) -> None:
        """Let one more mount, which remembers nothing but the spool, finish what is left, and show it all.

        Raises: AssertionError.
        """
        shutil.rmtree(self.base / "state", ignore_errors=True)
        self._start()
        for scene in self._scenes:
            complaints = self._unlike(scene, self._files(scene))
            assert not complaints, f"{self._replay(scene)}: without what was remembered: {complaints}"
        self._mount.stop()

    # What a chain with other deaths does otherwise.

    def _prefix(self) -> tuple[str, ...]:
        """Return what the command line of the next daemon begins with."""
        return tuple(self._watch.prefix())

    def _act(self, call: Call) -> None:
        """Do what happens at the chosen call besides the death."""

    def _died(self) -> None:
        """Make the machine ready for the next mount."""

    # The steps.

    def _new_mount(self) -> WatchedMount:
        mount = WatchedMount(
            self.server,
            self._bucket.name,
            self.base,
            self._options,
            endpoint_url=self._proxy.endpoint_url,
            expected=self.expected,
        )
        mount.spool = self.spool
        return mount

    def _new_scene(self, point: Point) -> Scene:
        name = f"c{len(self._scenes) + 1}"
        scene = Scene([point], WORKS[self._work](), f"{name}/", self.base / f"{name}.manifest")
        before = {scene.prefix: b""} | {
            scene.prefix + name: data for name, data in scene.work.initial.items()
        }
        self._bucket.put_many(before)
        return scene

    def _play(self, scene: Scene) -> Counter[Kind] | None:
        self._start()
        self._scenes.append(scene)
        self._last = scene
        (point,) = scene.points
        self._watch.arm(point.kind, point.number, self._act)
        is_done = self._work_on(scene)
        if self._watch.fired is None:
            assert is_done, f"a step failed, and nothing was done to the daemon\n{self._story(scene)}"
            # The calls of unmounting count as well: a queue is drained then.
            code = self._mount.stop(check=False)
            assert code == 0 or self._watch.fired, f"the daemon ended with {code}\n{self._story(scene)}"
        counts = self._watch.disarm()
        if self._watch.fired is None:
            self._judge(scene)
            self._last = None
            return counts
        self._bury(scene, self._watch.fired)
        return None

    def _bury(self, scene: Scene, fired: Call) -> None:
        scene.fired = fired
        scene.deaths += 1
        self._mount.bury()
        self._proxy.wait_idle()
        self._died()
        totals.count(f"{self.counted} injected")

    def _start(self) -> None:
        """Mount; if a daemon has died before, its work is finished and judged."""
        self._mount.path.mkdir(exist_ok=True)
        self._mount.prefix = self._prefix()
        self._mount.start()
        last, self._last = self._last, None
        if last is None:
            return
        try:
            self._judge(last, is_mounted=True)
        except BaseException:
            self._print_replay(last)
            raise
        totals.count(f"{self.counted} survived", last.deaths)

    def _work_on(self, scene: Scene) -> bool:
        """Let the program work; return whether it got to the end."""
        command = [sys.executable, "-S", "-m", "tests.crash.agent"]
        arguments = [self._work, str(self._mount.path / scene.prefix), str(scene.manifest)]
        done = subprocess.run(
            [*command, *arguments],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=AGENT_S,
        )
        assert done.returncode in (0, INTERRUPTED), f"the program failed: {done.stderr}"
        return done.returncode == 0

    def _judge(self, scene: Scene, *, is_mounted: bool = False) -> None:
        """Wait until nothing is left to be sent, then look at bucket, spool, uploads and mount."""
        try:
            wait_until(lambda: is_drained(self.spool), "the spool is drained")
        except AssertionError as exc:
            raise AssertionError(f"{self._replay(scene)}: {exc}\n{self._story(scene)}") from exc
        uploads = self._uploads_left(scene)
        bucket = self._files(scene)
        expected = Expectation(scene.work, Progress.read(scene.manifest), is_power_cut=self.is_power_cut)
        keys = self._bucket.keys(scene.prefix)
        parents = {key.removeprefix(scene.prefix).rpartition("/")[0] for key in keys}
        spool = [kept for kept in kept_below(self.spool, scene.prefix) if kept.file_name not in self._known]
        self._known |= {kept.file_name for kept in spool}
        verdict = expected.judge(bucket, spool, parents)
        complaints = verdict.complaints + [f"an upload is left: {key}" for key in uploads]
        complaints += [f"in the spool, and not listed: {name}" for name in self._unlisted()]
        if is_mounted:
            complaints += self._unlike(scene, bucket)
        totals.count("lost bytes", verdict.lost_bytes)
        totals.count("orphan uploads", len(uploads))
        text = "\n  ".join(complaints)
        assert not complaints, f"{self._replay(scene)}:\n  {text}\n{self._story(scene)}"

    def _files(self, scene: Scene) -> Files:
        return {name: data for name, data in self._bucket.files(scene.prefix).items() if name}

    def _unlike(self, scene: Scene, bucket: Files) -> list[str]:
        """Return in what the mount shows something else than the bucket has."""
        seen = _tree(self._mount.path / scene.prefix)
        names = sorted(seen.keys() | bucket.keys())
        return [f"the mount shows another {name!r}" for name in names if seen.get(name) != bucket.get(name)]

    def _uploads_left(self, scene: Scene) -> list[str]:
        """Return the keys of uploads in parts that stay in the bucket. MinIO lists those of one key only."""
        names = {
            getattr(step, name)
            for step in scene.work.steps
            for name in ("name", "new")
            if hasattr(step, name)
        }
        found: list[str] = []

        def are_gone() -> bool:
            found[:] = [key for name in sorted(names) for key in self._uploads_of(scene.prefix + name)]
            return not found

        try:
            wait_until(are_gone, "no upload is left", deadline_s=20)
        except AssertionError:
            return found
        return []

    def _uploads_of(self, key: str) -> list[str]:
        answer = self._bucket.client.list_multipart_uploads(Bucket=self._bucket.name, Prefix=key)
        return [one["Key"] for one in answer.get("Uploads", []) if one["Key"] == key]

    def _unlisted(self) -> list[str]:
        """Return the data files that no row speaks of, and that do not go.

        One whose row says that nobody needs it goes after an fsync of the journal, or two.
        """
        with suppress(AssertionError):
            wait_until(lambda: not unlisted(self.spool), "every file is listed")
        return unlisted(self.spool)

    def _replay(self, scene: Scene) -> str:
        points = " ".join(map(str, scene.points))
        return f"python -m tests.crash.replay {self.counted.replace(' ', '-')} {self._work} {points}"

    def _print_replay(self, scene: Scene) -> None:
        print(f"again: {self._replay(scene)}")

    def _story(self, scene: Scene) -> str:
        """Return what happened, for whoever reads the failure."""
        requests = self._proxy.requests()[-25:]
        parts: list[Any] = [
            f"died at {scene.fired}; {Progress.read(scene.manifest)}",
            *(f"  {one.status} {one.operation} {one.key}" for one in requests),
            "the spool:",
            *(
                f"  {kept.name} {kept.state} {kept.cause} {len(kept.data)}"
                for kept in kept_below(self.spool, "")
            ),
            self._mount.tail(),
        ]
        return "\n".join(map(str, parts))


def sweep(chain: Chain, kind: Kind, *, most: int = 5000) -> int:
    """Die at call 1, 2, ... of *kind*, until the work is done before; return how many deaths that were."""
    for number in range(1, most):
        if chain.die(Point(kind, number)) is not None:
            return number - 1
    raise AssertionError(f"after {most} deaths the work still does not end")


def sweep_recovery(chain: Chain, first: Point, kind: Kind, *, most: int = 5000) -> int:
    """Die at *first*, and again at call 1, 2, ... of *kind* of the next mount, until that has done its work.

    Returns how many deaths of the latter sort that were.
    """
    for number in range(1, most):
        assert chain.die(first) is None, f"{first} is behind the end of the work"
        if not chain.die_again(Point(kind, number)):
            return number - 1
    raise AssertionError(f"after {most} deaths the recovery still does not end")


def undisturbed(chain: Chain) -> Counter[Kind]:
    """Do the work to its end; return how many calls of each kind it took."""
    counts = chain.die(Point(Kind.WRITE, 0))
    assert counts is not None
    return counts


def _tree(root: Path) -> Files:
    files: Files = {}
    for directory, _, names in os.walk(root, onerror=_raise):
        for path in (Path(directory, name) for name in names):
            files[str(path.relative_to(root))] = path.read_bytes()
    return files


def _raise(error: OSError) -> None:
    raise error
