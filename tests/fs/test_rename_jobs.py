"""A directory's rename on a store in memory: the daemon is killed and others change things at any request."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from s3mount.core.attributes import Attributes, from_metadata, to_metadata
from s3mount.core.objects import ObjectHeaders, WriteCondition
from s3mount.core.rename_job import JobPhase
from s3mount.data.job_journal import list_jobs
from s3mount.errors import (
    AccessDenied,
    Busy,
    ConditionFailed,
    DirectoryNotEmpty,
    FsError,
    InProgress,
    NotFound,
    StoreUnavailable,
)
from tests.fs.rename_world import ME, PART, Host, Killed, World, dying
from tests.support.memory_store import Call, MemoryStore
from tests.support.names import check, run

BODIES = {
    "": b"",
    "a": b"a",
    "b": b"bb",
    "d/": b"",
    "d/c": b"c" * PART,
    "d/e/f": b"f" * 3 * PART,
    "d/e/g": b"",
    "h/": b"",
    "i/j": b"j",
}


def fill(world: World) -> None:
    """Store a tree: files, an empty directory, directories with and without markers, modes and times."""
    for name, body in BODIES.items():
        attributes = Attributes(mode=0o640 if name == "a" else None, mtime_ns=7 if name == "b" else None)
        metadata = to_metadata({}, attributes, is_directory=False)
        world.store.store(f"old/{name}", body, ObjectHeaders(metadata=metadata))


def tree(world: World, prefix: str) -> dict[str, bytes]:
    """Return the bodies under *prefix*."""
    keys = world.store.keys()
    return {key.removeprefix(prefix): world.store.body(key) for key in keys if key.startswith(prefix)}


def kept(world: World) -> None:
    """Assert that modes and times are at the new name as they were at the old one."""
    attributes = {n: from_metadata(world.store.stat(f"new/{n}").headers.metadata) for n in ("a", "b")}  # type: ignore[union-attr]
    assert attributes["a"].mode == 0o640
    assert attributes["b"].mtime_ns == 7


async def killed(world: World, number: int, rng: random.Random, *, parts: bool = False) -> bool:
    """Rename, and kill the daemon at its *number*-th request; return whether it came to that."""
    world.store.before = dying(rng, number, lambda: None)
    try:
        async with world.host(single_copy_max=PART if parts else 100 * PART) as host:
            if list_jobs(str(world.place / "spool")):
                host.jobs.resume()
                await host.jobs.drain()
            else:
                await host.rename("old", "new")
    except Killed:
        return True
    finally:
        world.store.before = MemoryStore().before
    return False


@pytest.mark.parametrize("parts", [False, True], ids=["single", "parts"])
def test_killed_at_any_request_it_ends_whole_at_one_name(tmp_path: Path, parts: bool) -> None:
    """kill -9 before each request in turn; the next mount finishes, and leaves no upload."""

    async def main() -> None:
        rng, number, is_killed, ends = random.Random(1), 0, True, set()
        while is_killed:
            number += 1
            world = World(tmp_path / str(number))
            world.place.mkdir()
            fill(world)
            is_killed = await killed(world, number, rng, parts=parts)
            has_begun = bool(list_jobs(str(world.place / "spool")))
            await world.finish()
            new, old = tree(world, "new/"), tree(world, "old/")
            assert (old, new) == ((BODIES, {}) if is_killed and not has_begun else ({}, BODIES)), number
            if new:
                kept(world)
            assert world.store.uploads() == []
            ends.add(bool(new))
        assert number > 15
        assert ends == {False, True}

    run(main, 120)


@pytest.mark.parametrize("seed", range(6))
def test_killed_again_and_again_it_ends_whole(tmp_path: Path, seed: int) -> None:
    """Each mount that goes on with it dies, too, sooner or later."""
    print("seed", seed)

    async def main() -> None:
        rng = random.Random(seed)
        for number in range(15):
            world = World(tmp_path / str(number))
            world.place.mkdir()
            fill(world)
            parts = rng.random() < 0.5
            for _ in range(rng.randrange(2, 6)):
                if not await killed(world, rng.randrange(4, 25), rng, parts=parts):
                    break
            await world.finish()
            trees = [tree(world, "old/"), tree(world, "new/")]
            assert sorted(trees, key=len) == [{}, BODIES]
            assert world.store.uploads() == []

    run(main, 120)


class Others:
    """Another host: stores bodies that nobody else stores, and deletes; knows what must not be lost."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.wanted = {body for body in BODIES.values() if body}
        self._world = world
        self._rng = rng
        self._number = 0

    def act(self) -> None:
        """Change something, now and then."""
        if self._rng.random() > 0.15:
            return
        store, names = self._world.store, [name for name in BODIES if not name.endswith("/") and name]
        jobs = list_jobs(str(self._world.place / "spool"))
        # Until all is copied, an object that comes to the new name may be replaced: S3 has no rename.
        places = ["old/", "new/"] if jobs and jobs[0].phase is not JobPhase.COPYING else ["old/"]
        key = self._rng.choice(places) + self._rng.choice([*names, "z"])
        is_there = key in list(store.keys())
        if is_there:
            self.wanted.discard(store.body(key))
        if self._rng.random() < 0.6:
            self._number += 1
            body = f"other {self._number}".encode()
            store.store(key, body)
            self.wanted.add(body)
        elif is_there:
            store.remove(key)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_of_others_is_lost(tmp_path: Path, seed: int) -> None:
    """Another host stores and deletes below both names, and the daemon is killed: its last versions stay.

    Not just between the listing and the DELETE that follows it: many servers ignore its conditions.
    """
    print("seed", seed)

    async def main() -> None:
        rng = random.Random(seed)
        for number in range(25):
            world = World(tmp_path / str(number))
            world.place.mkdir()
            fill(world)
            others = Others(world, rng)
            for _ in range(rng.randrange(1, 4)):
                dies = dying(rng, rng.randrange(3, 60), lambda: None)

                async def before(call: Call) -> None:
                    await dies(call)  # noqa: B023
                    if call.method != "delete_many":
                        others.act()  # noqa: B023

                world.store.before = before
                try:
                    async with world.host() as host:
                        if list_jobs(str(world.place / "spool")):
                            host.jobs.resume()
                            await host.jobs.drain()
                        else:
                            await host.rename("old", "new")
                except (Killed, FsError):
                    pass
            world.store.before = MemoryStore().before
            await world.finish()
            there = set(map(world.store.body, world.store.keys()))
            assert others.wanted <= there, (number, others.wanted - there)

    run(main, 120)


def failing(
    method: str, error: Callable[[], BaseException], *, first: int = 1, last: int = 10**9, prefix: str = ""
) -> Callable[[Call], Awaitable[None]]:
    """Return a hook that lets calls of *method* fail, from the *first* to the *last*."""
    count = 0

    async def hook(call: Call) -> None:
        nonlocal count
        await trio.lowlevel.checkpoint()
        if call.method == method and call.key.startswith(prefix):
            count += 1
            if first <= count <= last:
                raise error()

    return hook


def away() -> StoreUnavailable:
    """Return what an unreachable server gives."""
    return StoreUnavailable("away")


def denied() -> AccessDenied:
    """Return what a refusal gives."""
    return AccessDenied("no")


@pytest.mark.parametrize("error", [away, denied])
def test_a_copy_that_fails_undoes_the_rename(tmp_path: Path, error: Callable[[], FsError]) -> None:
    """rename(2) has failed, so the old name has everything, at once, and the new one nothing."""

    async def main() -> None:
        world = World(tmp_path)
        fill(world)
        world.store.before = failing("copy", error, first=3)
        async with world.host() as host:
            with pytest.raises(type(error())):
                await host.rename("old", "new")
            assert tree(world, "old/") == BODIES
            assert tree(world, "new/") == {}
            assert not host.jobs.summaries()
            assert (await host.file("old/a")).size == 1
            with pytest.raises(NotFound):
                await host.find("new")
            check(host.namespace.table)

    run(main)


def test_copies_that_cannot_be_taken_back_are_tried_again(tmp_path: Path) -> None:
    """The caller has its error and the old name; the new one is busy until the copies are gone."""

    async def main() -> None:
        world = World(tmp_path)
        fill(world)

        async def fails(call: Call) -> None:
            await trio.lowlevel.checkpoint()
            if call.method == "delete_many" or (call.method == "copy" and call.key == "old/b"):
                raise away()

        world.store.before = fails
        async with world.host() as host:
            with pytest.raises(StoreUnavailable):
                await host.rename("old", "new")
            assert tree(world, "old/") == BODIES
            (job,) = host.jobs.summaries()
            assert (job.phase, job.old, job.new, job.cause) == (JobPhase.UNDOING, "old/", "new/", "away")
            with pytest.raises(Busy):
                await host.find("new")
            parent = await host.directory("")
            with pytest.raises(Busy):
                await host.tree.mkdir(parent, b"new", 0o755, ME)
            # The old name is free.
            _, number = await host.files.create(await host.directory("old"), b"more", 0o644, 0, ME)
            await host.files.flush(number)
            await host.files.release(number)
            world.store.before = MemoryStore().before
            assert await host.jobs.drain() == []
            assert tree(world, "new/") == {}
            assert tree(world, "old/") == BODIES | {"more": b""}
            await host.tree.mkdir(parent, b"new", 0o755, ME)

    run(main)


@pytest.mark.parametrize("replaces", [False, True], ids=["new", "empty"])
def test_a_refused_delete_is_turned_back_from(tmp_path: Path, replaces: bool) -> None:
    """Who may not delete cannot rename: EACCES, and the old name is what it was, for open files too."""

    async def main() -> None:
        world = World(tmp_path)
        fill(world)
        if replaces:
            world.store.store("new/", b"")
        async with world.host() as host:
            node = await host.file("old/d/c")
            number, _ = await host.files.open(node, 0, ME)
            world.store.before = failing("delete_many", denied, prefix="old/")
            with pytest.raises(AccessDenied):
                await host.rename("old", "new")
            assert tree(world, "old/") == BODIES
            assert tree(world, "new/") == ({"": b""} if replaces else {})
            assert await host.file("old/d/c") is node
            assert bytes(await host.files.read(number, 0, PART)) == BODIES["d/c"]
            await host.files.release(number)
            check(host.namespace.table)

    run(main)


def test_deleting_goes_on_after_the_callers_time(tmp_path: Path) -> None:
    """EINPROGRESS: the new name has everything and can be used, the old one is busy until it is gone."""

    async def main() -> None:
        world = World(tmp_path)
        fill(world)
        world.store.before = failing("delete_many", away)
        async with world.host() as host:
            node = await host.file("old/d/c")
            number, _ = await host.files.open(node, 0, ME)
            with pytest.raises(InProgress), trio.fail_after(1):
                await host.rename("old", "new")
            assert tree(world, "new/") == BODIES
            assert await host.file("new/d/c") is node
            assert bytes(await host.files.read(number, 0, PART)) == BODIES["d/c"]
            await host.files.release(number)
            with pytest.raises(Busy):
                await host.find("old")
            await host.tree.unlink(await host.directory("new"), b"a")
            (job,) = host.jobs.summaries()
            assert (job.phase, job.total, job.cause) == (JobPhase.DELETING, len(BODIES), "away")
            world.store.before = MemoryStore().before
            left = await host.jobs.drain()
            assert left == []
            assert "a" not in tree(world, "new/")
            check(host.namespace.table)

    run(main)


def test_copying_goes_on_after_the_callers_time(tmp_path: Path) -> None:
    """EINPROGRESS: a directory too large for the deadline is renamed all the same."""

    async def main() -> None:
        world = World(tmp_path)
        fill(world)
        go_on = trio.Event()

        async def slow(call: Call) -> None:
            await trio.lowlevel.checkpoint()
            if call.method == "copy" and call.key == "old/d/c":
                await go_on.wait()

        world.store.before = slow
        async with world.host() as host:
            with pytest.raises(InProgress), trio.fail_after(1):
                await host.rename("old", "new")
            # Meanwhile it is read under the old name, and not changed.
            node = await host.file("old/d/c")
            number, _ = await host.files.open(node, 0, ME)
            assert bytes(await host.files.read(number, 0, PART)) == BODIES["d/c"]
            for path, name in (("old", b"x"), ("old/d", b"x"), ("", b"old"), ("", b"new")):
                with pytest.raises(Busy):
                    await host.files.create(await host.directory(path), name, 0o644, 0, ME)
            with pytest.raises(Busy):
                await host.rename("old", "other")
            with pytest.raises(Busy):
                await host.find("new")
            assert host.jobs.summaries()[0].phase is JobPhase.COPYING
            go_on.set()
            assert await host.jobs.drain() == []
            assert (tree(world, "old/"), tree(world, "new/")) == ({}, BODIES)
            assert await host.file("new/d/c") is node
            assert bytes(await host.files.read(number, 0, PART)) == BODIES["d/c"]
            await host.files.release(number)
            with pytest.raises(NotFound):
                await host.find("old")
            check(host.namespace.table)

    run(main)


def test_what_others_change_meanwhile_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another host's version at the old name is not the one that was copied, so it is not deleted."""

    async def main() -> None:
        world = World(tmp_path)
        fill(world)

        async def change(call: Call) -> None:
            await trio.lowlevel.checkpoint()
            if (call.method, call.key) == ("list_page", "old/") and "i/j" in tree(world, "new/"):
                world.store.before = MemoryStore().before
                world.store.store("old/i/j", b"newer")
                world.store.store("old/d/added", b"added")
                world.store.now_ns = lambda: 2 * 10**18
                world.store.store("old/h/", b"", ObjectHeaders(metadata={"mode": str(stat.S_IFDIR)}))
                world.store.remove("old/b")

        world.store.before = change
        async with world.host() as host:
            await host.rename("old", "new")
            # The markers of directories that stay do so as well, and the changed one of h.
            stays = {"i/j": b"newer", "d/added": b"added", "": b"", "d/": b"", "h/": b""}
            assert tree(world, "old/") == stays
            assert tree(world, "new/") == BODIES
            assert "were changed or added by others" in caplog.text
            assert (await host.file("old/i/j")).size == 5
            assert (await host.file("new/i/j")).size == 1

    run(main)


def test_a_file_that_others_delete_while_its_tree_is_renamed_takes_no_more_writes(tmp_path: Path) -> None:
    """It has no name any more: what is written into an open one would reach no object, so it is refused."""

    async def main() -> None:
        world = World(tmp_path)
        fill(world)

        async def remove(call: Call) -> None:
            await trio.lowlevel.checkpoint()
            if (call.method, call.key) == ("list_page", "old/"):
                world.store.before = MemoryStore().before
                world.store.remove("old/b")

        async with world.host() as host:
            number, _ = await host.files.open(await host.file("old/b"), os.O_RDWR, ME)
            world.store.before = remove
            await host.rename("old", "new")
            assert "b" not in tree(world, "new/")
            with pytest.raises(ConditionFailed):
                await host.files.write(number, 0, b"lost")
            await host.files.flush(number)
            await host.files.release(number)

    run(main)


def test_a_version_that_changes_before_it_is_copied_moves(tmp_path: Path) -> None:
    """What is at the old name when its turn comes is what moves."""

    async def main() -> None:
        world = World(tmp_path)
        fill(world)

        async def change(call: Call) -> None:
            await trio.lowlevel.checkpoint()
            if (call.method, call.key) == ("copy", "old/a"):
                world.store.before = MemoryStore().before
                world.store.store("old/a", b"newer")
                world.store.remove("old/b")

        world.store.before = change
        async with world.host() as host:
            await host.rename("old", "new")
        new = {name: body for name, body in BODIES.items() if name != "b"} | {"a": b"newer"}
        there = tree(world, "new/")
        assert there in (new, new | {"b": b"bb"})
        assert tree(world, "old/") == {}

    run(main)


def test_a_directory_that_others_have_made_meanwhile_is_not_merged_into(tmp_path: Path) -> None:
    """The bucket is asked what is at the new name, whatever is known of it."""

    async def main() -> None:
        world = World(tmp_path)
        fill(world)
        async with world.host() as host:
            parent = await host.directory("")
            await host.directory("old")
            with pytest.raises(NotFound):
                await host.namespace.lookup(parent, b"new")
            parent.absent_until = float("inf")
            world.store.store("new/x", b"theirs")
            with pytest.raises(DirectoryNotEmpty):
                await host.renamer.rename(parent, b"old", parent, b"new", no_replace=False)
        assert tree(world, "old/") == BODIES
        assert tree(world, "new/") == {"x": b"theirs"}

    run(main)


def test_thousands_of_objects(tmp_path: Path) -> None:
    """Page by page: a copy each, two listings, and a thousand deletes a request."""

    async def main() -> None:
        world = World(tmp_path)
        for number in range(2500):
            world.store.store(f"old/{number % 7}/{number}", b"%d" % number)
        before = tree(world, "old/")
        async with world.host() as host:
            parent = await host.directory("")
            await host.directory("old")
            world.store.calls.clear()
            await host.renamer.rename(parent, b"old", parent, b"new", no_replace=False)
        methods = [call.method for call in world.store.calls]
        assert methods.count("copy") == 2500
        assert methods.count("delete_many") == 4
        assert methods.count("list_page") <= 1 + 2 * 3 + 1 + 1
        assert (tree(world, "old/"), tree(world, "new/")) == ({}, before)

    run(main, 60)


async def write(host: Host, path: str, body: bytes) -> int:
    """Write *body* over the beginning of a file, or into a new one; return the handle, with all unsent."""
    above, _, name = path.rpartition("/")
    try:
        number, _ = await host.files.open(await host.file(path), os.O_RDWR, ME)
    except NotFound:
        parent = await host.directory(above)
        _, number = await host.files.create(parent, name.encode(), 0o644, os.O_RDWR, ME)
    await host.files.write(number, 0, body)
    return number


def spooled(host: Host) -> dict[str, tuple[str | None, WriteCondition]]:
    """Return, for each file in the spool, its key, the key below it, and the condition to be sent with."""
    return {
        record.key: (None if record.base is None else record.base.key, record.condition)
        for record in host.spool.records()
    }


def test_unsent_files_come_along(tmp_path: Path) -> None:
    """What is not in the bucket yet is written to the new name, over the copy and no other object."""

    async def main() -> None:
        world = World(tmp_path)
        fill(world)
        async with world.host() as host:
            numbers = [await write(host, path, b"X") for path in ("old/d/c", "old/d/fresh")]
            await host.rename("old", "new")
            etag = world.store.stat("new/d/c").etag
            assert spooled(host) == {
                "new/d/c": ("new/d/c", WriteCondition(if_match=etag)),
                "new/d/fresh": (None, WriteCondition(if_none_match=True)),
            }
            for number in numbers:
                await host.files.flush(number)
                await host.files.release(number)
        assert tree(world, "old/") == {}
        assert tree(world, "new/") == BODIES | {"d/c": b"X" + BODIES["d/c"][1:], "d/fresh": b"X"}

    run(main)


def test_unsent_files_go_back_with_the_tree(tmp_path: Path) -> None:
    """A rename that is refused leaves them at the old name, over the old object."""

    async def main() -> None:
        world = World(tmp_path)
        fill(world)
        async with world.host() as host:
            numbers = [await write(host, path, b"X") for path in ("old/d/c", "old/d/fresh")]
            world.store.before = failing("delete_many", denied, prefix="old/")
            with pytest.raises(AccessDenied):
                await host.rename("old", "new")
            etag = world.store.stat("old/d/c").etag
            assert spooled(host) == {
                "old/d/c": ("old/d/c", WriteCondition(if_match=etag)),
                "old/d/fresh": (None, WriteCondition(if_none_match=True)),
            }
            for number in numbers:
                await host.files.flush(number)
                await host.files.release(number)
        assert tree(world, "new/") == {}
        assert tree(world, "old/") == BODIES | {"d/c": b"X" + BODIES["d/c"][1:], "d/fresh": b"X"}

    run(main)


def test_a_killed_rename_leaves_unsent_files_where_the_tree_will_be(tmp_path: Path) -> None:
    """Whenever the daemon dies: after the next mount the spool names a key of the tree's only name."""

    async def main() -> None:
        ends, is_killed, number = set(), True, 0
        while is_killed:
            number += 1
            world = World(tmp_path / str(number))
            world.place.mkdir()
            fill(world)
            try:
                async with world.host() as host:
                    for path in ("old/d/c", "old/d/fresh"):
                        await write(host, path, b"X")
                    world.store.before = dying(random.Random(number), number, lambda: None)
                    await host.rename("old", "new")
                    is_killed = False
            except Killed:
                pass
            world.store.before = MemoryStore().before
            await world.finish()
            (top,) = {key.partition("/")[0] for key in world.store.keys()}  # noqa: SIM118
            async with world.host() as host:
                assert spooled(host).keys() == {f"{top}/d/c", f"{top}/d/fresh"}, number
            ends.add(top)
        assert ends == {"old", "new"}

    run(main, 120)


def test_the_jobs_are_listed_without_a_mount(tmp_path: Path) -> None:
    """Kind, names, phase, progress, since when and why, for `spool list`."""

    async def main() -> None:
        world = World(tmp_path)
        fill(world)
        assert list_jobs(str(tmp_path / "spool")) == []
        await killed(world, 12, random.Random(1))
        (job,) = list_jobs(str(tmp_path / "spool"))
        assert (job.kind, job.old, job.new, job.phase) == ("rename", "old/", "new/", JobPhase.COPYING)
        assert 0 < job.done < job.total == len(BODIES)
        assert job.since_ns > 10**18

    run(main)
