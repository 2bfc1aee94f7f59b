"""Conditions hold on every server: by the server where it honours them, else by a HEAD just before."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import trio

from s3mount.core.objects import ByteRange, MultipartUpload, ObjectHeaders, PartTag
from s3mount.core.server_facts import QUESTIONS, ServerFacts
from s3mount.errors import ConditionFailed, FsError, NotFound, StoreUnavailable, WriteRace
from s3mount.store.base import ObjectStore
from s3mount.store.checked import CheckedStore
from s3mount.store.client import ClientOptions, build_client
from s3mount.store.conditional import RACES, ConditionalStore
from s3mount.store.probe import probe
from s3mount.store.s3 import S3Store
from tests.conftest import ServerPool
from tests.store.contract import CHECKS, DEVIATIONS, Subject
from tests.support.counting_proxy import Answer, CountingProxy, DropAnswer
from tests.support.memory_store import Call, MemoryStore
from tests.support.servers import STARTERS

PLAIN = ObjectHeaders()
RICH = ObjectHeaders(content_type="text/x-test", cache_control="max-age=1", metadata={"mode": "33188"})
WRONG = '"00000000000000000000000000000000"'
NOTHING = ServerFacts()
EVERYTHING = NOTHING.answered(dict.fromkeys(QUESTIONS, True))
MIB = 1024 * 1024
FACTS: dict[str, ServerFacts] = {}
"""What a probe found out, by server."""


@dataclass(frozen=True)
class Place:
    """A store whose conditions hold, the way past it, and what it cost."""

    store: ObjectStore
    past: ObjectStore
    count: Callable[[], Counter[str]]
    proxy: CountingProxy | None = None
    bucket: str = ""


@contextmanager
def memory(ignores: frozenset[str]) -> Iterator[Place]:
    """A store in memory that ignores some conditions, and a wrapper that knows which."""
    inner = MemoryStore(ignores=ignores)
    facts = replace(EVERYTHING, **dict.fromkeys(ignores, False))  # type: ignore[arg-type]

    def count() -> Counter[str]:
        counted = Counter(call.method for call in inner.calls)
        inner.calls.clear()
        return counted

    yield Place(ConditionalStore(CheckedStore(inner), facts), CheckedStore(inner), count)
    assert inner.uploads() == []


@contextmanager
def real(name: str, pool: ServerPool, monkeypatch: pytest.MonkeyPatch, *, knows: bool) -> Iterator[Place]:
    """A server, and a wrapper that knows what a probe found out, or nothing."""
    server = pool.get(name)
    for variable, value in server.environment().items():
        monkeypatch.setenv(variable, value)
    bucket = server.fresh_bucket()
    with CountingProxy(server.endpoint_url) as proxy:
        options = ClientOptions(bucket=bucket, endpoint_url=proxy.endpoint_url)
        past_options = ClientOptions(bucket=bucket, endpoint_url=server.endpoint_url)
        s3 = S3Store(build_client(options), options)
        past = S3Store(build_client(past_options), past_options)

        def count() -> Counter[str]:
            counted = proxy.counts()
            proxy.clear()
            return counted

        try:
            if name not in FACTS:
                FACTS[name] = trio.run(probe, CheckedStore(past), "", NOTHING).facts
            facts = FACTS[name] if knows else NOTHING
            yield Place(ConditionalStore(CheckedStore(s3), facts), CheckedStore(past), count, proxy, bucket)
            left = trio.run(past.list_multipart_uploads, "k")
            assert left == []
        finally:
            s3.close()
            past.close()


PLACES = [
    *(f"{name}, {how}" for name in STARTERS for how in ("probed", "unknown")),
    "memory, honours all",
    "memory, ignores all",
    *(f"memory, ignores {name}" for name in QUESTIONS if "_if_" in name),
]


@pytest.fixture(params=PLACES)
def place(
    request: pytest.FixtureRequest, server_pool: ServerPool, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """Every server, known and unknown, and stores in memory that ignore one condition, or all."""
    name, _, how = request.param.partition(", ")
    if name != "memory":
        with real(name, server_pool, monkeypatch, knows=how == "probed") as found:
            yield found
        return
    ignored = {"honours all": frozenset[str](), "ignores all": frozenset(QUESTIONS)}
    with memory(ignored.get(how, frozenset({how.removeprefix("ignores ")}))) as found:
        yield found


async def fails(expected: type[FsError], call: Awaitable[object]) -> None:
    """Fail unless *call* raises exactly *expected*."""
    with pytest.raises(expected) as caught:
        await call
    assert caught.type is expected


async def read(store: ObjectStore, key: str) -> bytes | None:
    """Return an object's bytes, None where there is none."""
    try:
        stat = await store.head(key)
    except NotFound:
        return None
    buffer = bytearray(stat.size)
    if stat.size:
        await store.get_into(key, ByteRange(0, stat.size), memoryview(buffer), if_match=stat.etag)
    return bytes(buffer)


async def put(store: ObjectStore, key: str, body: bytes, **condition: Any) -> str:
    """Store in one request; return the ETag."""
    return (await store.put(key, body, PLAIN, **condition)).etag or ""


async def put_parts(store: ObjectStore, key: str, body: bytes, **condition: Any) -> str:
    """Store in one part; return the ETag."""
    upload = await store.create_multipart(key, PLAIN)
    try:
        parts = [await store.upload_part(upload, 1, body)]
        return (await store.complete_multipart(upload, parts, **condition)).etag or ""
    except FsError:
        await store.abort_multipart(upload)
        raise


WRITES: dict[str, Callable[..., Awaitable[str]]] = {"in one": put, "in parts": put_parts}


@pytest.fixture(params=list(WRITES))
def write(request: pytest.FixtureRequest) -> Callable[..., Awaitable[str]]:
    """Both ways to write."""
    return WRITES[request.param]


Write = Callable[..., Awaitable[str]]


# One writer


def test_creating_once(place: Place, write: Write) -> None:
    """The first succeeds; the second changes nothing."""

    async def main() -> None:
        await write(place.store, "k", b"one", if_none_match=True)
        await fails(ConditionFailed, write(place.store, "k", b"two", if_none_match=True))
        assert await read(place.past, "k") == b"one"

    trio.run(main)


def test_replacing_what_is_named(place: Place, write: Write) -> None:
    """And nothing else."""

    async def main() -> None:
        old = await put(place.past, "k", b"one")
        await fails(ConditionFailed, write(place.store, "k", b"two", if_match=WRONG))
        assert await read(place.past, "k") == b"one"
        await write(place.store, "k", b"two", if_match=old)
        assert await read(place.past, "k") == b"two"

    trio.run(main)


def test_replacing_what_is_gone(place: Place, write: Write) -> None:
    """Somebody has deleted it: a conflict, and it is not created anew."""

    async def main() -> None:
        old = await put(place.past, "k", b"one")
        await place.past.delete("k")
        await fails(ConditionFailed, write(place.store, "k", b"two", if_match=old))
        assert await read(place.past, "k") is None

    trio.run(main)


def test_an_upload_that_is_gone_is_not_found(place: Place) -> None:
    """Although its condition holds: it can be begun anew. (moto answers 500 to it.)"""

    async def main() -> None:
        old = await put(place.past, "k", b"one")
        upload = await place.store.create_multipart("k", PLAIN)
        parts = [await place.store.upload_part(upload, 1, b"two")]
        await place.store.abort_multipart(upload)
        with pytest.raises((NotFound, StoreUnavailable)):
            await place.store.complete_multipart(upload, parts, if_match=old)
        assert await read(place.past, "k") == b"one"

    trio.run(main)


def test_deleting_what_is_named(place: Place) -> None:
    """A changed object stays, an absent one is fine."""

    async def main() -> None:
        old = await put(place.past, "k", b"one")
        await fails(ConditionFailed, place.store.delete("k", if_match=WRONG))
        assert await read(place.past, "k") == b"one"
        await place.store.delete("k", if_match=old)
        assert await read(place.past, "k") is None
        await place.store.delete("k", if_match=old)

    trio.run(main)


def test_writes_without_a_condition_cost_one_request(place: Place) -> None:
    """Whatever is known about the server."""

    async def main() -> None:
        await put(place.store, "k", b"one")
        await put_parts(place.store, "k", b"two")
        await place.store.copy("k", "copy", if_match=None, headers=None)
        await place.store.delete("k")

    trio.run(main)
    assert sum(place.count().values()) == 1 + 3 + 1 + 1


# Copies


def test_a_copy_is_of_the_source_that_is_named(place: Place) -> None:
    """Changed and gone are told apart, and nothing is created."""

    async def main() -> None:
        etag = await put(place.past, "k", b"one")
        copy = place.store.copy
        await fails(ConditionFailed, copy("k", "k2", if_match=WRONG, headers=None))
        await fails(NotFound, copy("absent", "k2", if_match=WRONG, headers=None))
        assert await read(place.past, "k2") is None
        await copy("k", "k2", if_match=etag, headers=None)
        assert await read(place.past, "k2") == b"one"

    trio.run(main)


def test_a_part_is_of_the_source_that_is_named(place: Place) -> None:
    """As with whole copies."""

    async def main() -> None:
        etag = await put(place.past, "source", b"one")
        upload = await place.store.create_multipart("k", PLAIN)
        span = ByteRange(0, 3)
        copy_part = place.store.copy_part
        await fails(ConditionFailed, copy_part(upload, 1, "source", span, if_match=WRONG))
        part = await copy_part(upload, 1, "source", span, if_match=etag)
        await place.store.complete_multipart(upload, [part])
        assert await read(place.past, "k") == b"one"

    trio.run(main)


@pytest.mark.parametrize("body", [b"", b"some bytes"], ids=["empty", "bytes"])
@pytest.mark.parametrize("headers", [None, RICH], ids=["kept", "replaced"])
def test_a_copy_that_creates(place: Place, body: bytes, headers: ObjectHeaders | None) -> None:
    """RENAME_NOREPLACE: bytes and headers are those of a copy, and a target that is there stays."""

    async def main() -> None:
        source = replace(RICH, content_type="a/b")
        etag = (await place.past.put("source", body, source)).etag
        copy = place.store.copy
        answer = await copy("source", "k", if_match=etag, headers=headers, if_none_match=True)
        stat = await place.past.head("k")
        assert (stat.etag, stat.headers) == (answer.etag, headers or source)
        assert await read(place.past, "k") == body
        await put(place.past, "k2", b"theirs")
        await fails(ConditionFailed, copy("source", "k2", if_match=etag, headers=headers, if_none_match=True))
        assert await read(place.past, "k2") == b"theirs"
        await fails(ConditionFailed, copy("source", "k3", if_match=WRONG, headers=None, if_none_match=True))
        await fails(NotFound, copy("absent", "k3", if_match=etag, headers=None, if_none_match=True))
        assert await read(place.past, "k3") is None

    trio.run(main)


# Two writers


class Host:
    """One of two hosts that write the same key; its steps are taken one at a time, as a test orders them."""

    def __init__(self, store: ObjectStore, body: bytes, in_parts: bool, **condition: Any) -> None:
        self._store = store
        self._in_parts = in_parts
        self._condition = condition
        self._upload: MultipartUpload | None = None
        self._parts: list[PartTag] = []
        self.body = body
        self.has_won: bool | None = None

    async def prepare(self) -> None:
        """Do what comes before the bytes are published."""
        if self._in_parts:
            self._upload = await self._store.create_multipart("k", PLAIN)
            self._parts = [await self._store.upload_part(self._upload, 1, self.body)]

    async def publish(self) -> None:
        """Let others see them, or lose."""
        try:
            if self._upload is not None:
                await self._store.complete_multipart(self._upload, self._parts, **self._condition)
            else:
                await self._store.put("k", self.body, PLAIN, **self._condition)
            self.has_won = True
        except ConditionFailed:
            self.has_won = False
            if self._upload is not None:
                await self._store.abort_multipart(self._upload)


# a and b prepare, A and B publish.
ORDERS = ["aAbB", "abAB", "abBA", "baAB", "baBA", "bBaA"]


WAYS = [(False, False), (False, True), (True, False), (True, True)]


@pytest.mark.parametrize("is_new", [False, True], ids=["the same base", "no base"])
def test_of_two_writers_the_first_to_publish_wins(place: Place, is_new: bool) -> None:
    """In every order, in one request and in parts: the other is told, and nothing of the winner's is lost."""

    async def compete(order: str, ways: tuple[bool, bool]) -> None:
        condition: dict[str, Any] = {"if_none_match": True}
        if not is_new:
            condition = {"if_match": await put(place.past, "k", b"base")}
        hosts = {
            name: Host(place.store, body, in_parts, **condition)
            for name, body, in_parts in (("a", b"from a", ways[0]), ("b", b"from b", ways[1]))
        }
        for step in order:
            host = hosts[step.lower()]
            await (host.prepare() if step.islower() else host.publish())
        first = next(step for step in order if step.isupper()).lower()
        assert {name: host.has_won for name, host in hosts.items()} == {"a": first == "a", "b": first == "b"}
        assert await read(place.past, "k") == hosts[first].body
        await place.past.delete("k")

    async def main() -> None:
        for order, ways in itertools.product(ORDERS, WAYS):
            await compete(order, ways)

    trio.run(main)


@pytest.mark.parametrize("name", ["minio", "seaweedfs", "moto"])
@pytest.mark.parametrize("is_new", [False, True], ids=["the same base", "no base"])
def test_of_many_writers_at_once_one_wins(
    name: str, is_new: bool, server_pool: ServerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight at the same moment, in one request and in parts, where the server decides between those.

    moto's Complete knows no If-Match, and SeaweedFS's looks and then acts.
    """
    with real(name, server_pool, monkeypatch, knows=True) as place:

        async def race() -> None:
            condition: dict[str, Any] = {"if_none_match": True}
            if not is_new:
                condition = {"if_match": await put(place.past, "k", os.urandom(8))}
            decides = name == "minio" or (name == "moto" and is_new)
            hosts = [
                Host(place.store, b"%d" % n, in_parts=decides and n % 2 == 1, **condition) for n in range(8)
            ]
            async with trio.open_nursery() as nursery:
                for host in hosts:
                    nursery.start_soon(host.prepare)
            async with trio.open_nursery() as nursery:
                for host in hosts:
                    nursery.start_soon(host.publish)
            (winner,) = [host for host in hosts if host.has_won]
            assert await read(place.past, "k") == winner.body
            await place.past.delete("k")

        for _ in range(2):
            trio.run(race)


# Requests


def spent(facts: ServerFacts, work: Callable[[ObjectStore], Awaitable[object]]) -> Counter[str]:
    """Return the calls that *work* makes, beside those that prepare "k" and its copy's absence."""
    inner = MemoryStore()
    inner.store("k", b"one")

    async def main() -> None:
        await work(ConditionalStore(CheckedStore(inner), facts))

    trio.run(main)
    return Counter(call.method for call in inner.calls)


ONE = '"f97c5d29941bfb1b2fdab0874906ab82"'
"""The ETag of b"one"."""


def test_what_each_condition_costs() -> None:
    """Nothing where it is honoured; one HEAD elsewhere; a copy that creates is made of a part."""

    def copy(store: ObjectStore) -> Awaitable[object]:
        return store.copy("k", "k2", if_match=ONE, headers=None, if_none_match=True)

    def delete(store: ObjectStore) -> Awaitable[object]:
        return store.delete("k", if_match=ONE)

    assert spent(EVERYTHING, lambda store: put(store, "k", b"", if_match=ONE)) == {"put": 1}
    assert spent(EVERYTHING, lambda store: put(store, "n", b"", if_none_match=True)) == {"put": 1}
    assert spent(EVERYTHING, copy) == {"copy": 1}
    assert spent(EVERYTHING, delete) == {"delete": 1}
    assert spent(NOTHING, lambda store: put(store, "k", b"", if_match=ONE)) == {"head": 1, "put": 1}
    assert spent(NOTHING, lambda store: put(store, "n", b"", if_none_match=True)) == {"head": 1, "put": 1}
    assert spent(NOTHING, copy) == {"head": 2, "copy": 1}
    assert spent(NOTHING, delete) == {"head": 1, "delete": 1}
    as_on_minio = replace(EVERYTHING, copy_if_none_match=False)
    in_parts = {"head": 1, "create_multipart": 1, "copy_part": 1, "complete_multipart": 1}
    assert spent(as_on_minio, copy) == in_parts


def test_a_copy_that_creates_keeps_tags(server_pool: ServerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """MinIO keeps them only with CopyObject, which replaces: a HEAD before is what is left."""
    with real("minio", server_pool, monkeypatch, knows=True) as place:
        client = server_pool.get("minio").client()
        client.put_object(Bucket=place.bucket, Key="source", Body=b"one", Tagging="project=x")
        client.put_object(Bucket=place.bucket, Key="k2", Body=b"theirs")

        async def main() -> None:
            copy = place.store.copy
            await copy("source", "k", if_match=None, headers=None, if_none_match=True)
            await fails(
                ConditionFailed, copy("source", "k2", if_match=None, headers=None, if_none_match=True)
            )

        trio.run(main)
        tags = client.get_object_tagging(Bucket=place.bucket, Key="k")["TagSet"]
        client.close()
        assert tags == [{"Key": "project", "Value": "x"}]


# Failures on the way


@pytest.mark.parametrize("method", ["copy_part", "complete_multipart"])
def test_a_copy_in_parts_that_fails_leaves_no_upload(method: str) -> None:
    """It is aborted, and nothing is created."""

    async def fault(call: Call) -> None:
        await trio.lowlevel.checkpoint()
        if call.method == method:
            raise StoreUnavailable("broken")

    inner = MemoryStore(before=fault)
    inner.store("k", b"one")
    store = ConditionalStore(CheckedStore(inner), replace(EVERYTHING, copy_if_none_match=False))

    async def main() -> None:
        await fails(StoreUnavailable, store.copy("k", "k2", if_match=ONE, headers=None, if_none_match=True))

    trio.run(main)
    assert (inner.uploads(), inner.keys()) == ([], ["k"])


@pytest.mark.parametrize("races", [1, RACES - 1, RACES, RACES + 5])
def test_a_race_is_run_again_a_few_times(races: int) -> None:
    """409: another conditional write is under way, and nobody has won yet."""
    seen = 0

    async def race(call: Call) -> None:
        nonlocal seen
        await trio.lowlevel.checkpoint()
        seen += 1
        if seen <= races:
            raise WriteRace("HTTP 409")

    async def main() -> None:
        store = ConditionalStore(CheckedStore(MemoryStore(before=race)), EVERYTHING)
        if races < RACES:
            await put(store, "k", b"", if_none_match=True)
        else:
            await fails(WriteRace, put(store, "k", b"", if_none_match=True))
        assert seen == min(races + 1, RACES)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_servers_409_is_tried_again(server_pool: ServerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As AWS answers it."""
    conflict = Answer(409, b"<Error><Code>ConditionalRequestConflict</Code></Error>")
    with real("minio", server_pool, monkeypatch, knows=True) as place:
        proxy = place.proxy
        assert proxy is not None

        async def main() -> None:
            with proxy.rule(conflict, last=2):
                await put(place.store, "k", b"one", if_none_match=True)
            assert place.count() == {"PutObject": 3}
            with proxy.rule(conflict):
                await fails(WriteRace, put(place.store, "k2", b"one", if_none_match=True))

        trio.run(main)


@pytest.mark.parametrize(
    ("name", "operation"), [("seaweedfs", "CopyObject"), ("minio", "CompleteMultipartUpload")]
)
@pytest.mark.parametrize("headers", [None, RICH], ids=["kept", "replaced"])
def test_a_copy_that_creates_and_whose_answer_was_lost_is_a_success(
    name: str,
    operation: str,
    headers: ObjectHeaders | None,
    server_pool: ServerPool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one request or in parts: no "is there already" about our own copy."""
    with real(name, server_pool, monkeypatch, knows=True) as place:
        proxy = place.proxy
        assert proxy is not None

        async def copy(target: str, etag: str) -> None:
            with proxy.rule(DropAnswer(), operation=operation, last=1):
                await place.store.copy("k", target, if_match=etag, headers=headers, if_none_match=True)

        async def main() -> None:
            etag = await put(place.past, "k", b"one")
            await copy("k2", etag)
            assert place.count()[operation] == 2
            assert await read(place.past, "k2") == b"one"
            # Another's object, of the same size and headers.
            await place.past.put("k3", b"two", headers or PLAIN)
            await fails(ConditionFailed, copy("k3", etag))
            assert await read(place.past, "k3") == b"two"

        trio.run(main)


# The contract of a store


DIFFERENT = {"put_if_match_on_an_absent_key_is_not_found"}
"""What this wrapper is for: it is ConditionFailed here."""
MENDED = {
    "complete_if_match_replaces_only_what_it_names",
    "a_part_is_not_copied_from_a_changed_object",
    "a_copy_is_bound_to_its_sources_etag",
    "delete_if_match_deletes_only_what_it_names",
}


@pytest.mark.parametrize("check", sorted(set(CHECKS) - DIFFERENT))
@pytest.mark.parametrize("facts", [EVERYTHING, NOTHING], ids=["trusting", "asking"])
def test_it_is_a_store(check: str, facts: ServerFacts) -> None:
    """The contract of tests/store/contract/ holds."""
    store = ConditionalStore(CheckedStore(MemoryStore(list_metadata=True, min_part_bytes=100)), facts)
    trio.run(CHECKS[check], Subject(store, part_bytes=100, list_metadata=True))


@pytest.mark.parametrize("check", sorted(MENDED))
@pytest.mark.parametrize("name", list(STARTERS))
def test_it_mends_what_servers_ignore(
    name: str, check: str, server_pool: ServerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those checks of the contract pass, although some fail without it."""
    assert any(check in table for table in DEVIATIONS.values())
    with real(name, server_pool, monkeypatch, knows=True) as place:
        trio.run(CHECKS[check], Subject(place.store, part_bytes=5 * MIB, list_metadata=name == "minio"))
