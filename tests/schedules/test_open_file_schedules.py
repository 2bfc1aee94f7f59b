"""Files being written while requests fail, answers are lost and other hosts write: what is promised, holds.

This is everything between the kernel and the store. Names ``w…`` belong to this host alone, names ``c…``
are written by another one, too.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from s3mount.core.objects import ObjectStat
from s3mount.core.server_facts import QUESTIONS, ServerFacts
from s3mount.errors import (
    ConditionFailed,
    FsError,
    NotFound,
    StaleObject,
    StoreTimeout,
    StoreUnavailable,
    collapsed,
)
from s3mount.fuse.operations import FileSystem
from s3mount.meta.inodes import FileNode
from s3mount.store.checked import CheckedStore
from s3mount.store.conditional import ConditionalStore
from tests.schedules.schedule import Weather, run_seeded, sleep
from tests.support.file_system import CALLER, file_system
from tests.support.memory_store import MemoryStore
from tests.sweeps.spooled import spooled

KIB = 1 << 10
PART = 16 * KIB
OWN, SHARED = ("w0", "w1", "w2"), ("c0", "c1")
PASSING = (StoreUnavailable, StoreTimeout)
CONFLICTS = (ConditionFailed, StaleObject)
IN_CI, IN_ALL, BATCH = 60, 2000, 50

BACKGROUND = 0.7
"""The chance that the queue works beside the programs."""


class History(MemoryStore):
    """A store that remembers every version of every key, and who wrote over what."""

    def __init__(self, before: Weather, after: Weather) -> None:
        super().__init__(before=before, after=after)
        self.bodies: dict[str, list[bytes]] = {}
        self.versions: dict[str, bytes] = {}
        """The bytes by ETag."""
        self.theirs: dict[str, str] = {}
        """The ETag of another host's version that nobody has replaced yet, by key."""
        self.overwritten: list[tuple[str, str]] = []
        """Key and ETag of every version of another host's that this host has replaced."""

    def _put(self, key: str, body: bytes, headers):  # type: ignore[no-untyped-def]
        stored = super()._put(key, body, headers)
        self.bodies.setdefault(key, []).append(body)
        self.versions[stored.etag] = body
        if (etag := self.theirs.pop(key, None)) is not None:
            self.overwritten.append((key, etag))
        return stored

    async def complete_multipart(self, upload, parts, **conditions):  # type: ignore[no-untyped-def]
        try:
            return await super().complete_multipart(upload, parts, **conditions)
        finally:  # also where the answer is lost
            if upload.key in self._objects:
                stored = self._objects[upload.key]
                self.versions[stored.etag] = stored.body

    def put_theirs(self, key: str, body: bytes) -> None:
        """Store as another host."""
        self.theirs.pop(key, None)
        self.theirs[key] = self.store(key, body).etag

    def take_theirs(self, key: str) -> None:
        """Remove as another host."""
        self.theirs.pop(key, None)
        if key in set(self.keys()):
            self.remove(key)


@dataclass
class Name:
    """What is known of one name of this host's.

    Args:
        here: what this host has put into it, None if it is not there.
        allowed: what the bucket may have; None: nothing.
        states: every content that a reader may have found.
        is_doubtful: a removal failed that may have been carried out: what is here may be overtaken by it.
    """

    here: bytes | None = None
    is_doubtful: bool = False
    allowed: set[bytes | None] = field(default_factory=lambda: {None})
    states: set[bytes] = field(default_factory=set)


@dataclass
class World:
    """All that tasks share."""

    rng: random.Random
    store: History
    fs: FileSystem
    spool: Path
    names: dict[str, Name]
    seen_bases: dict[str, set[str]]
    """The versions over which this host has opened each contested name."""

    def in_bucket(self, name: str) -> bytes | None:
        """Return what the bucket has."""
        return self.store.body(name) if name in set(self.store.keys()) else None

    def kept(self, name: str) -> list[bytes]:
        """Return what the spool has for *name*."""
        return spooled(self.spool, lambda _, etag: self.store.versions.get(etag)).get(name, [])

    async def node(self, name: str) -> FileNode:
        """Look *name* up. Raises: NotFound, what the store raises."""
        found = await self.fs.namespace.lookup(self.fs.namespace.table.root, name.encode())
        assert isinstance(found, FileNode)
        return found

    async def open(self, name: str, flags: int) -> int:
        """Open as the kernel does, creating what is not there; ESTALE is tried once more."""
        root = self.fs.namespace.table.root
        for is_last in (False, True):
            try:
                node = await self.node(name)
                if name in SHARED:
                    self.note_base(name, node.stat)
                number, _ = await self.fs.files.open(node, flags, CALLER)
                if name in SHARED:
                    self.note_base(name, self.fs.open_files.handle(number).file.base)
                return number
            except NotFound:
                if not flags & os.O_CREAT:
                    raise
                _, number = await self.fs.files.create(root, name.encode(), 0o644, flags, CALLER)
                return number
            except StaleObject:
                if is_last:
                    raise
        raise AssertionError

    def note_base(self, name: str, stat: ObjectStat | None) -> None:
        """Remember a version that this host knowingly writes over."""
        if stat is not None:
            self.seen_bases.setdefault(name, set()).add(stat.etag)


async def pause(rng: random.Random) -> None:
    """Wait for as long as chance says."""
    await sleep(rng, (0.0, 0.0, 0.01, 0.2, 2.0))


async def write_own(world: World, name: str) -> None:
    """Be the programs that write *name*, one after the other."""
    rng = world.rng
    for _ in range(rng.randrange(1, 7)):
        await pause(rng)
        if world.names[name].here is not None and rng.random() < 0.15:
            await unlink(world, name)
        else:
            await write_once(world, name)


async def write_once(world: World, name: str) -> None:
    """Open, write, perhaps fsync, close; judge each answer when it comes."""
    rng, known = world.rng, world.names[name]
    flags = os.O_RDWR | os.O_CREAT | (os.O_TRUNC if rng.random() < 0.5 else 0)
    known.states.add(b"")  # for a moment, where it is made or cut off
    try:
        number = await world.open(name, flags)
    except PASSING:
        return  # with O_TRUNC or without, nothing was stored
    data = bytearray(b"" if flags & os.O_TRUNC else known.here or b"")
    begin_to_change(known, bytes(data))
    try:
        for _ in range(rng.randrange(4)):
            place = rng.randrange(len(data) + 1)
            piece = rng.randbytes(rng.choice((10, 3 * KIB, 20 * KIB)))
            changed = bytearray(data)
            changed[place : place + len(piece)] = piece
            known.states.add(bytes(changed))
            try:
                await world.fs.files.write(number, place, piece)
            except PASSING:
                return
            data = changed
            known.here = bytes(data)
            if rng.random() < 0.3:
                await store_and_judge(world, name, number, is_close=False)
            await pause(rng)
        await store_and_judge(world, name, number, is_close=True)
    finally:
        with trio.CancelScope(shield=True):
            await world.fs.files.release(number)


def begin_to_change(known: Name, data: bytes) -> None:
    """Note what a file holds after an open that may have cut it off."""
    known.here = data
    known.states.add(data)


async def store_and_judge(world: World, name: str, number: int, *, is_close: bool) -> None:
    """fsync or close: after a 0 the bucket has the bytes; after an error it has old or new, and the spool."""
    known = world.names[name]
    assert known.here is not None
    known.allowed.add(known.here)
    try:
        await (world.fs.files.flush(number) if is_close else world.fs.files.fsync(number))
    except (*PASSING, *CONFLICTS) as exc:
        assert isinstance(exc, PASSING) or known.is_doubtful, f"{name}: a conflict with nobody"
        there = world.in_bucket(name)
        assert there in known.allowed, f"{name}: a mixture, or an old version that is long gone"
        assert there == known.here or known.here in world.kept(name), f"{name}: nobody has what was written"
        return
    assert world.in_bucket(name) == known.here, f"{name}: stored, and not there"
    known.allowed, known.is_doubtful = {known.here}, False


async def unlink(world: World, name: str) -> None:
    """rm: after a 0 it is gone; after an error it is gone or there."""
    known = world.names[name]
    known.allowed.add(None)
    try:
        await world.node(name)
        await world.fs.tree.unlink(world.fs.namespace.table.root, name.encode())
    except PASSING:
        assert world.in_bucket(name) in known.allowed
        known.is_doubtful = True
        if world.in_bucket(name) is None and not await is_known(world, name):
            known.here = None
        return
    assert world.in_bucket(name) is None, f"{name}: removed, and there"
    known.here, known.allowed, known.is_doubtful = None, {None}, False


async def is_known(world: World, name: str) -> bool:
    """Whether this host still has the name, whatever the weather."""
    while True:
        try:
            await world.node(name)
            return True
        except NotFound:
            return False
        except PASSING:
            continue


async def write_shared(world: World, name: str) -> None:
    """Write a name that another host writes, too: whoever was overtaken is told so and keeps the bytes."""
    rng = world.rng
    for _ in range(rng.randrange(1, 6)):
        await pause(rng)
        try:
            number = await world.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        except (*PASSING, *CONFLICTS):
            continue
        data = rng.randbytes(rng.choice((50, 40 * KIB)))
        try:
            await world.fs.files.write(number, 0, data)
            await pause(rng)
            await world.fs.files.flush(number)
        except ConditionFailed:
            assert data in world.kept(name), "lost against another host, and not kept"
        except PASSING:
            assert data in world.kept(name) or data in world.store.bodies.get(name, [])
        except StaleObject:
            pass
        else:
            assert data in world.store.bodies[name]
        finally:
            with trio.CancelScope(shield=True):
                await world.fs.files.release(number)


async def be_another_host(world: World) -> None:
    """Put and remove shared names."""
    for _ in range(world.rng.randrange(8)):
        await pause(world.rng)
        name = world.rng.choice(SHARED)
        if world.rng.random() < 0.2:
            world.store.take_theirs(name)
        else:
            world.store.put_theirs(name, b"theirs" + world.rng.randbytes(world.rng.choice((10, 30 * KIB))))


async def read_own(world: World) -> None:
    """Read whole files while they are written: each is one that there was."""
    for _ in range(world.rng.randrange(8)):
        await pause(world.rng)
        name = world.rng.choice(OWN)
        known = world.names[name]
        try:
            number = await world.open(name, os.O_RDONLY)
        except (NotFound, StaleObject, *PASSING):
            continue
        try:
            got = bytes(await world.fs.files.read(number, 0, 1 << 20))
        except PASSING:
            continue
        except StaleObject:
            continue  # replaced or removed by this host's own writer meanwhile
        finally:
            with trio.CancelScope(shield=True):
                await world.fs.files.release(number)
        assert got in known.states, f"{name}: a read of {len(got)} bytes that were never there"


async def play(rng: random.Random, spool: Path) -> None:
    """Let all go on at once; then the weather clears, everything is stored, and nothing is left behind."""
    failing = rng.choice((0.0, 0.05, 0.2, 0.5))
    before, after = Weather(rng, failing), Weather(rng, failing)
    store = History(before, after)
    ttl_s = rng.choice((0.0, 3600.0))
    facts = ServerFacts().answered(dict.fromkeys(QUESTIONS, True))
    whole = ConditionalStore(CheckedStore(store), facts)
    async with file_system(
        whole, spool, facts=facts, part_size=PART, ttl_s=ttl_s, negative_ttl_s=ttl_s
    ) as fs:
        fs.files._services.queue._rng = rng  # its jitter belongs to the schedule
        world = World(rng, store, fs, spool, {name: Name() for name in OWN}, {})
        with collapsed():
            async with trio.open_nursery() as background:
                if rng.random() < BACKGROUND:
                    background.start_soon(fs.work_in_background)
                async with trio.open_nursery() as nursery:
                    for name in OWN:
                        nursery.start_soon(write_own, world, name)
                    for name in SHARED:
                        nursery.start_soon(write_shared, world, name)
                    nursery.start_soon(be_another_host, world)
                    nursery.start_soon(read_own, world)
                before.failing = after.failing = 0.0
                await settle(world, is_fair=not failing)
                background.cancel_scope.cancel()


async def settle(world: World, *, is_fair: bool) -> None:
    """Drain, and judge what is there at the end.

    *is_fair*: no request has failed. Where an abort failed or an answer was lost, the uploader does forget
    some uploads yet.
    """
    await world.fs.files.upload_all()
    for name, known in world.names.items():
        there = world.in_bucket(name)
        assert there in known.allowed
        is_there = there == known.here or known.here is None
        assert is_there or (known.is_doubtful and known.here in world.kept(name)), f"{name}: not the last"
    for name, etag in world.store.overwritten:
        assert etag in world.seen_bases.get(name, set()), f"{name}: another host's version overwritten unseen"
    # What could not be aborted before is, when the next large file is sent.
    await write_fresh(world, "last", world.rng.randbytes(3 * PART))
    assert not (is_fair and world.store.uploads()), "an upload that nobody will finish"
    left = [name for name, known in world.names.items() if world.kept(name) and not known.is_doubtful]
    assert left == [], f"{left}: all is stored, and the spool still has it"
    unsent = {file.node.name.decode() for file in world.fs.open_files.unsent()}
    assert all(name in SHARED or world.names[name].is_doubtful for name in unsent)


async def write_fresh(world: World, name: str, data: bytes) -> None:
    """Make a file."""
    number = await world.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    await world.fs.files.write(number, 0, data)
    await world.fs.files.flush(number)
    await world.fs.files.release(number)
    assert world.in_bucket(name) == data


def run_seed(seed: int, base: Path) -> None:
    """Run one history in a spool directory of its own."""

    async def history(rng: random.Random) -> None:
        await play(rng, base / f"{seed}")

    try:
        run_seeded(seed, history)
    except FsError as exc:
        raise AssertionError(f"seed {seed}: an error that nobody expected") from exc


def test_a_sample_of_schedules(tmp_path: Path) -> None:
    """The first seeds."""
    for seed in range(IN_CI):
        run_seed(seed, tmp_path)


@pytest.mark.heavy
@pytest.mark.parametrize("first", range(IN_CI, IN_ALL, BATCH))
def test_schedules(tmp_path: Path, first: int) -> None:
    """Thousands of seeds."""
    for seed in range(first, min(first + BATCH, IN_ALL)):
        run_seed(seed, tmp_path)
