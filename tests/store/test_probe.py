"""A probe believes what it sees, not what it is told, and leaves nothing behind however it ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from s3mount.core.objects import ObjectHeaders
from s3mount.core.server_facts import QUESTIONS, ServerFacts
from s3mount.errors import AccessDenied, FsError, StoreUnavailable
from s3mount.store.checked import CheckedStore
from s3mount.store.client import ClientOptions, build_client
from s3mount.store.probe import Findings, probe
from s3mount.store.s3 import S3Store
from s3mount.store.scratch import CLEANUPS
from tests.conftest import ServerPool
from tests.support.counting_proxy import Action, Answer, Close, CountingProxy, DropAnswer
from tests.support.memory_store import Call, MemoryStore
from tests.support.servers import STARTERS, Server

PREFIX = "some/prefix/"
ALL = frozenset(QUESTIONS)
#: What the servers of the tests do not honour; docs/semantics.md says the same in the user's words.
NOT_HONOURED = {
    "minio": {"delete_if_match", "copy_if_none_match"},
    "seaweedfs": {"part_checksums", "lists_in_byte_order"},
    "moto": {
        "complete_if_match",
        "copy_if_none_match",
        "copy_source_if_match",
        "copy_part_source_if_match",
        "part_checksums",
    },
}


def honoured(facts: ServerFacts) -> set[str]:
    """The questions that were answered with yes."""
    return {name for name in QUESTIONS if getattr(facts, name)}


def probe_memory(store: MemoryStore) -> Findings:
    """Probe, and see that nothing is left."""
    findings = trio.run(probe, CheckedStore(store), PREFIX, ServerFacts())
    assert (store.keys(), store.uploads()) == ([], [])
    return findings


def test_a_store_that_honours_everything() -> None:
    """Every answer is yes, and what was known before stays."""
    store = MemoryStore()
    known = ServerFacts(server="S", list_has_metadata=True)
    findings = trio.run(probe, CheckedStore(store), PREFIX, known)
    assert (honoured(findings.facts), findings.failures) == (ALL, {})
    assert (findings.facts.server, findings.facts.list_has_metadata) == ("S", True)
    assert findings.facts.windows() == []


@pytest.mark.parametrize("has_metadata", [True, False])
def test_an_empty_prefixs_listing_is_learnt_about(has_metadata: bool) -> None:
    """Where the first LIST of the mount showed no object, the scratch objects tell."""
    findings = probe_memory(MemoryStore(list_metadata=has_metadata))
    assert findings.facts.list_has_metadata is has_metadata


@pytest.mark.parametrize(
    ("lie", "question"),
    [
        *((name, name) for name in QUESTIONS),
        ("put_if_match_of_absent", "put_if_match"),
        ("complete_if_match_of_absent", "complete_if_match"),
    ],
)
def test_a_server_that_ignores_one_condition(lie: str, question: str) -> None:
    """Exactly that answer is no."""
    findings = probe_memory(MemoryStore(ignores={lie}))
    assert (honoured(findings.facts), findings.failures) == (ALL - {question}, {})


class Overwriting(MemoryStore):
    """Says 412, or "not found", and writes all the same."""

    async def put(self, key: str, body: Any, headers: ObjectHeaders, **conditions: Any) -> Any:
        try:
            return await super().put(key, body, headers, **conditions)
        except FsError:
            self.store(key, body)
            raise

    async def copy(self, source_key: str, target_key: str, **asked: Any) -> Any:
        try:
            return await super().copy(source_key, target_key, **asked)
        except FsError:
            self.store(target_key, b"copied all the same")
            raise

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        try:
            await super().delete(key, if_match=if_match)
        except FsError:
            self._objects.pop(key, None)
            raise


def test_a_refusal_is_not_believed_where_the_object_changed() -> None:
    """An old MinIO answered If-Match on an absent key with 404, and created it."""
    facts = probe_memory(Overwriting()).facts
    assert ALL - honoured(facts) == {
        "put_if_none_match",
        "put_if_match",
        "copy_if_none_match",
        "copy_source_if_match",
        "delete_if_match",
    }


class Refusing(MemoryStore):
    """Refuses every condition, also one that holds."""

    async def put(self, key: str, body: Any, headers: ObjectHeaders, **conditions: Any) -> Any:
        if any(conditions.values()):
            raise FsError("HTTP 400: unknown header")
        return await super().put(key, body, headers)


def test_a_server_that_refuses_a_condition_that_holds_does_not_honour_it() -> None:
    """What is never carried out is of no use; the other questions do not suffer."""
    findings = probe_memory(Refusing())
    assert honoured(findings.facts) == ALL - {"put_if_none_match", "put_if_match"}


@dataclass(frozen=True)
class Asked:
    """A server's bucket behind a proxy."""

    server: Server
    bucket: str
    proxy: CountingProxy
    store: CheckedStore

    def left(self) -> list[str]:
        """Return the keys and the keys of uploads that are in the bucket."""
        client = self.server.client()
        try:
            objects = client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
            uploads = client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        finally:
            client.close()
        return [one["Key"] for one in (*objects, *uploads)]


@contextmanager
def asked(server: Server, monkeypatch: pytest.MonkeyPatch, attempts: int = 1) -> Iterator[Asked]:
    """Give a fresh bucket on *server*."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    bucket = server.fresh_bucket()
    with CountingProxy(server.endpoint_url) as proxy:
        options = ClientOptions(bucket=bucket, endpoint_url=proxy.endpoint_url, attempts=attempts)
        s3 = S3Store(build_client(options), options)
        try:
            yield Asked(server, bucket, proxy, CheckedStore(s3))
        finally:
            s3.close()


@pytest.mark.parametrize("name", list(STARTERS))
def test_what_the_servers_honour(name: str, server_pool: ServerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/semantics.md says, in less than 80 requests, and the bucket is empty afterwards."""
    with asked(server_pool.get(name), monkeypatch) as place:
        findings = trio.run(probe, place.store, PREFIX, ServerFacts())
        assert (ALL - honoured(findings.facts), findings.failures) == (NOT_HONOURED[name], {})
        assert findings.facts.list_has_metadata is (name == "minio")
        assert len(place.proxy.requests()) < 80
        assert place.left() == []


# However it ends


def requests_of_a_probe() -> int:
    """How many calls a probe of a store in memory makes."""
    store = MemoryStore()
    trio.run(probe, CheckedStore(store), PREFIX, ServerFacts())
    return len(store.calls)


CALLS = requests_of_a_probe()


@pytest.mark.parametrize("is_carried_out", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("call", range(1, CALLS + 1))
def test_a_failure_of_any_request_leaves_nothing_behind(call: int, is_carried_out: bool) -> None:
    """Carried out or not: what was written without an answer is taken away too, and no yes is invented."""
    seen = 0

    async def fault(_: Call) -> None:
        nonlocal seen
        await trio.lowlevel.checkpoint()
        seen += 1
        if seen == call:
            raise StoreUnavailable("cut")

    lying = MemoryStore(ignores=ALL, **{"after" if is_carried_out else "before": fault})
    try:
        findings = trio.run(probe, CheckedStore(lying), PREFIX, ServerFacts())
    except StoreUnavailable:
        pass
    else:
        assert honoured(findings.facts) == set()
    assert (lying.keys(), lying.uploads()) == ([], [])


@pytest.mark.parametrize("call", range(1, CALLS + 1))
def test_a_cancelled_probe_leaves_nothing_behind(call: int) -> None:
    """At whichever request the mount is given up."""
    scope = trio.CancelScope()

    async def cancel(_: Call) -> None:
        if len(store.calls) >= call:
            scope.cancel()
        await trio.lowlevel.checkpoint()

    store = MemoryStore(before=cancel)

    async def main() -> None:
        with scope:
            await probe(CheckedStore(store), PREFIX, ServerFacts())

    trio.run(main)
    assert (store.keys(), store.uploads()) == ([], [])


@pytest.mark.parametrize("fault", [Close(), DropAnswer()], ids=repr)
def test_nothing_is_left_in_a_bucket_after_a_cut_at_each_request(
    minio: Server, monkeypatch: pytest.MonkeyPatch, fault: Action
) -> None:
    """On a server, with each request in turn lost on the way there or on the way back."""
    with asked(minio, monkeypatch) as place:
        trio.run(probe, place.store, PREFIX, ServerFacts())
        count = len(place.proxy.requests())
        for number in range(1, count + 1):
            with place.proxy.rule(fault, first=number, last=number):
                try:
                    trio.run(probe, place.store, PREFIX, ServerFacts())
                except StoreUnavailable:
                    assert number <= 3
            assert place.left() == [], f"after a cut at request {number}"


def test_a_cancel_with_a_server_leaves_nothing_behind(minio: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that are under way end first."""

    async def main(seconds: float) -> bool:
        with trio.move_on_after(seconds) as scope:
            await probe(place.store, PREFIX, ServerFacts())
        return scope.cancelled_caught

    with asked(minio, monkeypatch) as place:
        seconds = 0.0
        while trio.run(main, seconds):
            assert place.left() == []
            seconds += 0.02
        assert place.left() == []


def test_where_nothing_may_be_deleted_nothing_is_written(
    minio: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first request finds out."""
    denied = Answer(403, b"<Error><Code>AccessDenied</Code></Error>")
    with asked(minio, monkeypatch) as place:
        with place.proxy.rule(denied, method="DELETE"), pytest.raises(AccessDenied):
            trio.run(probe, place.store, PREFIX, ServerFacts())
        assert place.proxy.counts()["PutObject"] == 0


def test_one_kind_of_request_that_is_denied_leaves_its_questions_open(
    minio: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are answered, and everything but those uploads is taken away."""
    denied = Answer(403, b"<Error><Code>AccessDenied</Code></Error>")
    with asked(minio, monkeypatch) as place:
        with place.proxy.rule(denied, operation="CreateMultipartUpload"):
            findings = trio.run(probe, place.store, PREFIX, ServerFacts())
        in_parts = {"complete_if_none_match", "complete_if_match", "copy_part_source_if_match"}
        assert set(findings.failures) == in_parts | {"part_checksums"}
        assert {type(one) for one in findings.failures.values()} == {AccessDenied}
        assert honoured(findings.facts) == ALL - set(findings.failures) - NOT_HONOURED["minio"]
        assert place.left() == []


def test_what_cannot_be_taken_away_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """After as many tries as there are."""
    tries = 0

    async def refuse(call: Call) -> None:
        nonlocal tries
        await trio.lowlevel.checkpoint()
        if call.method == "delete_many":
            tries += 1
            raise StoreUnavailable("cannot")

    store = MemoryStore(before=refuse)
    with caplog.at_level(logging.WARNING):
        trio.run(probe, CheckedStore(store), PREFIX, ServerFacts())
    assert tries == CLEANUPS
    (record,) = caplog.records
    assert record.getMessage().startswith(f"scratch objects under {PREFIX}.s3mount-probe-")
    assert store.uploads() == []
