"""Uploads and copies on schedules and with failures that no server gives on demand."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from s3mount.core.objects import (
    Body,
    ByteRange,
    FileSlice,
    MultipartUpload,
    ObjectHeaders,
    ObjectStat,
    PartTag,
    WriteAnswer,
    WriteCondition,
)
from s3mount.core.server_facts import ServerFacts
from s3mount.data.uploader import ATTEMPTS, OpenDescriptor, Uploader
from s3mount.errors import (
    AccessDenied,
    BadAnswer,
    ConditionFailed,
    FsError,
    NotFound,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
)
from tests.support.memory_store import Call, MemoryStore

MIB = 1 << 20
PART = 5 * MIB
PLAIN = ObjectHeaders()
TYPED = ObjectHeaders(content_type="text/x-odd", metadata={"mode": "33188"})

Hook = Callable[[Call], Awaitable[None]]


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Callable[[int], OpenDescriptor]]:
    """Make files of a given size to upload."""
    opened = []

    def make(size: int) -> OpenDescriptor:
        path = tmp_path / f"{len(opened)}"
        path.write_bytes(random.Random(size).randbytes(size))
        opened.append(os.open(path, os.O_RDONLY))
        return OpenDescriptor(opened[-1], size)

    yield make
    for fd in opened:
        os.close(fd)


def body_of(source: OpenDescriptor) -> bytes:
    """Return a source's bytes."""
    return os.pread(source.fd, source.size, 0)


def methods(store: MemoryStore) -> list[str]:
    """Return what was asked, in order."""
    return [call.method for call in store.calls]


def failing(method: str, failure: Callable[[], Exception], times: int = 1, skip: int = 0) -> Hook:
    """Let calls of *method* fail: *times* of them, after the first *skip*."""
    seen = 0

    async def hook(call: Call) -> None:
        nonlocal seen
        await trio.lowlevel.checkpoint()
        if call.method == method:
            seen += 1
            if skip < seen <= skip + times:
                raise failure()

    return hook


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run with a clock that jumps over back-offs: the store answers at once and uses no thread."""
    trio.run(main, clock=MockClock(autojump_threshold=0))


Make = Callable[[int], OpenDescriptor]


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART])
def test_a_small_file_is_one_put(source: Make, size: int) -> None:
    """Up to one part, and so for an empty file too, the only request is a PUT with the headers."""

    async def main() -> None:
        store, file = MemoryStore(), source(size)
        answer = await Uploader(store, part_size=PART).upload("k", file, TYPED)
        assert methods(store) == ["put"]
        assert store.body("k") == body_of(file)
        assert store.stat("k").headers == TYPED
        assert answer.etag == store.stat("k").etag

    run(main)


@pytest.mark.parametrize("size", [PART + 1, 2 * PART, 3 * PART + 17])
def test_a_large_file_goes_in_parts(source: Make, size: int) -> None:
    """Create, every part once, complete; the object is the file, with the headers."""

    async def main() -> None:
        store, file = MemoryStore(min_part_bytes=PART), source(size)
        answer = await Uploader(store, part_size=PART).upload("k", file, TYPED)
        parts = -(-size // PART)
        assert methods(store) == ["create_multipart", *["upload_part"] * parts, "complete_multipart"]
        assert store.body("k") == body_of(file)
        assert store.stat("k").headers == TYPED
        assert answer.etag == store.stat("k").etag
        assert store.uploads() == []

    run(main)


def test_parts_go_side_by_side_within_one_limit_for_all_uploads(source: Make) -> None:
    """Two uploads of many parts together never have more requests than allowed, but that many."""

    async def main() -> None:
        now = most = 0

        async def before(call: Call) -> None:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await trio.sleep(1)

        async def after(call: Call) -> None:
            nonlocal now
            now -= 1

        store = MemoryStore(before=before, after=after)
        uploader = Uploader(store, part_size=PART, concurrency=3)
        files = [source(4 * PART), source(4 * PART + 1)]
        async with trio.open_nursery() as nursery:
            for number, file in enumerate(files):
                nursery.start_soon(uploader.upload, f"k{number}", file, PLAIN)
        assert most == 3
        assert [store.body(f"k{n}") for n in range(2)] == [body_of(file) for file in files]

    run(main)


@pytest.mark.parametrize("condition", [WriteCondition('"x"'), WriteCondition(if_none_match=True)])
@pytest.mark.parametrize("size", [1, 2 * PART])
def test_a_condition_is_checked_when_the_object_is_published(
    source: Make, size: int, condition: WriteCondition
) -> None:
    """Another writer's object stays, the upload is gone, and the caller is told."""

    async def main() -> None:
        store = MemoryStore()
        store.store("k", b"theirs")
        with pytest.raises(ConditionFailed):
            await Uploader(store, part_size=PART).upload("k", source(size), PLAIN, condition=condition)
        assert store.body("k") == b"theirs"
        assert store.uploads() == []

    run(main)


@pytest.mark.parametrize("method", ["upload_part", "complete_multipart"])
@pytest.mark.parametrize("failure", [AccessDenied, BadAnswer, NotFound])
def test_a_lasting_failure_is_not_tried_again_and_leaves_nothing(
    source: Make, method: str, failure: type[FsError]
) -> None:
    """A 4xx fails fast with itself, not with a group; the upload is aborted, the old object stays."""

    async def main() -> None:
        store = MemoryStore(before=failing(method, lambda: failure("no"), times=99))
        store.store("k", b"old")
        uploader = Uploader(store, part_size=PART, concurrency=1)
        # The file is there: ENOENT would say of it what is true of its upload.
        with pytest.raises(StoreError if failure is NotFound else failure):
            await uploader.upload("k", source(2 * PART), PLAIN)
        assert methods(store).count(method) == 1
        assert methods(store)[-1] == "abort_multipart"
        assert store.uploads() == []
        assert store.body("k") == b"old"

    run(main)


@pytest.mark.parametrize("failure", [StoreUnavailable, StoreTimeout])
@pytest.mark.parametrize("method", ["put", "upload_part", "complete_multipart"])
def test_a_passing_failure_is_tried_again(source: Make, method: str, failure: type[StoreError]) -> None:
    """A request that broke off is repeated, and the program never hears of it."""

    async def main() -> None:
        store = MemoryStore(before=failing(method, lambda: failure("busy"), times=ATTEMPTS - 1))
        file = source(1 if method == "put" else 3 * PART)
        await Uploader(store, part_size=PART).upload("k", file, PLAIN)
        assert store.body("k") == body_of(file)
        assert store.uploads() == []

    run(main)


@pytest.mark.parametrize("method", ["put", "create_multipart", "upload_part", "complete_multipart"])
def test_a_store_that_stays_away_fails_the_upload(source: Make, method: str) -> None:
    """After a few tries the caller gets the failure, and nothing is left in the bucket."""

    async def main() -> None:
        store = MemoryStore(before=failing(method, lambda: StoreUnavailable("away"), times=999))
        with pytest.raises(StoreUnavailable, match="away"):
            await Uploader(store, part_size=PART).upload(
                "k", source(1 if method == "put" else 2 * PART), PLAIN
            )
        assert store.keys() == []
        assert store.uploads() == []

    run(main)


@pytest.mark.parametrize("kind", ["created", "replaced"])
def test_a_put_whose_answer_was_lost_is_no_conflict_with_itself(source: Make, kind: str) -> None:
    """The second try meets the first one's object, and knows it."""

    async def main() -> None:
        store, file = MemoryStore(after=failing("put", lambda: StoreTimeout("lost"))), source(1)
        old = store.store("k", b"old") if kind == "replaced" else None
        condition = WriteCondition(if_none_match=True) if old is None else WriteCondition(old.etag)
        answer = await Uploader(store, part_size=PART).upload("k", file, PLAIN, condition=condition)
        assert answer.etag == store.stat("k").etag
        assert store.body("k") == body_of(file)
        assert methods(store) == ["put", "put", "head"]

    run(main)


@pytest.mark.parametrize("theirs", [b"", b"t", b"theirs"])
def test_a_put_whose_answer_was_lost_is_a_conflict_if_another_writer_came(
    source: Make, theirs: bytes
) -> None:
    """What is there is not ours, even if it is as large."""

    async def main() -> None:
        async def after(call: Call) -> None:
            if call.method == "put":
                store.store("k", theirs)
                raise StoreTimeout("lost")

        store = MemoryStore(after=after)
        with pytest.raises(ConditionFailed):
            await Uploader(store, part_size=PART).upload(
                "k", source(1), PLAIN, condition=WriteCondition(if_none_match=True)
            )
        assert store.body("k") == theirs

    run(main)


def test_of_two_who_create_the_same_only_one_has_created_it(source: Make) -> None:
    """Lock files of two hosts may have the same bytes: without a lost answer it is a conflict."""

    async def main() -> None:
        store, file = MemoryStore(), source(1)
        store.store("k", body_of(file))
        with pytest.raises(ConditionFailed):
            await Uploader(store, part_size=PART).upload(
                "k", file, PLAIN, condition=WriteCondition(if_none_match=True)
            )

    run(main)


@pytest.mark.parametrize("stage", ["create_multipart", "upload_part", "complete_multipart"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cancelled_upload_leaves_nothing_behind(source: Make, stage: str, when: str) -> None:
    """Wherever the cancel comes, the upload is aborted; the object is the old one or the whole new one."""

    async def main() -> None:
        reached = trio.Event()

        async def hold(call: Call) -> None:
            if call.method == stage:
                reached.set()
                await trio.sleep(1)

        store = MemoryStore(**{when: hold})  # type: ignore[arg-type]
        store.store("k", b"old")
        file = source(3 * PART)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Uploader(store, part_size=PART).upload, "k", file, PLAIN)
            await reached.wait()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert store.uploads() == []
        published = (stage, when) == ("complete_multipart", "after")
        assert store.body("k") == (body_of(file) if published else b"old")

    trio.run(main)


def test_an_abort_that_hangs_does_not_hold_up_the_failure(
    source: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets the first failure within the grace, and the log says what is left."""

    async def main() -> None:
        async def before(call: Call) -> None:
            if call.method == "upload_part":
                raise AccessDenied("no")
            if call.method == "abort_multipart":
                await trio.sleep_forever()

        store = MemoryStore(before=before)
        with pytest.raises(AccessDenied):
            await Uploader(store, part_size=PART).upload("k", source(2 * PART), PLAIN)

    with caplog.at_level(logging.WARNING):
        run(main)
    assert [record.message for record in caplog.records] == [
        "upload upload-1 of k is left in the bucket: no answer to the abort"
    ]


def test_an_abort_that_fails_does_not_hide_the_failure(
    source: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason of the failed upload is what the caller sees; the abort's is logged."""

    async def main() -> None:
        async def before(call: Call) -> None:
            if call.method == "upload_part":
                raise AccessDenied("no")
            if call.method == "abort_multipart":
                raise StoreUnavailable("away")

        with pytest.raises(AccessDenied):
            await Uploader(MemoryStore(before=before), part_size=PART).upload("k", source(2 * PART), PLAIN)

    with caplog.at_level(logging.WARNING):
        run(main)
    assert [r.message for r in caplog.records] == ["upload upload-1 of k is left in the bucket: away"]


class BadParts(MemoryStore):
    """Answers parts in a way that cannot be true."""

    def __init__(self, change: dict[str, object]) -> None:
        super().__init__()
        self.change = change

    async def upload_part(self, upload: MultipartUpload, number: int, body: Body) -> PartTag:
        """Lie about the part."""
        return replace(await super().upload_part(upload, number, body), **self.change)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"etag": None}, {"size": 1}, {"number": 77}])
def test_a_part_whose_answer_cannot_be_true_fails_the_upload(source: Make, change: dict[str, object]) -> None:
    """A 200 without an ETag (a captive portal's page) is no success."""

    async def main() -> None:
        store = BadParts(change)
        with pytest.raises(BadAnswer):
            await Uploader(store, part_size=PART).upload("k", source(2 * PART), PLAIN)
        assert store.uploads() == []
        assert store.keys() == []

    run(main)


def test_a_put_without_an_etag_is_no_success(source: Make) -> None:
    """The same for the single PUT."""

    class Portal(MemoryStore):
        async def put(self, *args: object, **options: object) -> WriteAnswer:
            return WriteAnswer(None)

    async def main() -> None:
        with pytest.raises(BadAnswer, match="write of k: no ETag"):
            await Uploader(Portal()).upload("k", source(1), PLAIN)

    run(main)


class LosesCompletes(MemoryStore):
    """Loses every answer to complete."""

    async def complete_multipart(
        self, upload: MultipartUpload, parts: object, **conditions: object
    ) -> WriteAnswer:
        """Publish, then break off, once."""
        answer = await super().complete_multipart(upload, parts, **conditions)  # type: ignore[arg-type]
        raise StoreUnavailable(f"lost {answer.etag}")


@pytest.mark.parametrize("condition", [WriteCondition(), WriteCondition(if_none_match=True)])
def test_a_lost_answer_to_complete_is_recognised(source: Make, condition: WriteCondition) -> None:
    """If the object that is there can only be ours, the upload has succeeded."""

    async def main() -> None:
        store, file = LosesCompletes(), source(2 * PART)
        answer = await Uploader(store, part_size=PART).upload("k", file, PLAIN, condition=condition)
        assert answer.etag == store.stat("k").etag
        assert store.body("k") == body_of(file)

    run(main)


@pytest.mark.parametrize("theirs", [None, b"theirs", bytes(2 * PART)])
def test_a_lost_answer_is_a_failure_if_another_writer_came(source: Make, theirs: bytes | None) -> None:
    """What is there is not ours, even if it is as large, so the caller gets the first failure."""

    class Overwritten(LosesCompletes):
        async def head(self, key: str, *, checksum: bool = False) -> ObjectStat:
            self._objects.pop("k", None)
            if theirs is not None:
                self.store("k", theirs)
            return await super().head(key, checksum=checksum)

    async def main() -> None:
        with pytest.raises(StoreUnavailable, match="lost"):
            await Uploader(Overwritten(), part_size=PART).upload("k", source(2 * PART), PLAIN)

    run(main)


def test_a_source_that_must_not_be_sent_aborts_the_upload() -> None:
    """A poisoned file is never published half."""

    class Poisoned:
        size = 2 * PART

        def slice(self, span: ByteRange) -> FileSlice:
            raise FsError("bytes are missing")

    async def main() -> None:
        store = MemoryStore()
        with pytest.raises(FsError, match="bytes are missing"):
            await Uploader(store, part_size=PART).upload("k", Poisoned(), PLAIN)
        assert store.uploads() == []
        assert store.keys() == []

    run(main)


def test_a_copy_is_one_request_bound_to_the_version() -> None:
    """Up to the limit CopyObject does it, headers and all; a changed source is refused."""

    async def main() -> None:
        store = MemoryStore()
        stat = store.store("a", b"data", TYPED)
        answer = await Uploader(store).copy(stat, "b")
        assert methods(store) == ["copy"]
        assert (store.body("b"), store.stat("b").headers) == (b"data", TYPED)
        assert answer.etag == store.stat("b").etag
        await Uploader(store).copy(stat, "c", replace(TYPED, content_type="image/png"))
        assert store.stat("c").headers == replace(TYPED, content_type="image/png")
        store.store("a", b"changed")
        with pytest.raises(ConditionFailed):
            await Uploader(store).copy(stat, "d")
        assert store.keys() == ["a", "b", "c"]

    run(main)


@pytest.mark.parametrize("known", [True, False])
def test_a_large_copy_goes_in_parts_and_keeps_the_headers(known: bool) -> None:
    """Above the limit it is copied in parts; the headers, which parts do not carry, are brought over."""

    async def main() -> None:
        store = MemoryStore(min_part_bytes=PART)
        body = random.Random(3).randbytes(2 * PART + 5)
        stat = store.store("a", body, TYPED)
        uploader = Uploader(store, copy_part_size=PART, single_copy_max=PART)
        await uploader.copy(stat if known else replace(stat, headers=None), "b")
        expected = [] if known else ["head"]
        assert methods(store) == [*expected, "create_multipart", *["copy_part"] * 3, "complete_multipart"]
        assert (store.body("b"), store.stat("b").headers) == (body, TYPED)

    run(main)


@pytest.mark.parametrize("known", [True, False])
def test_a_large_copy_of_a_changed_source_leaves_nothing(known: bool) -> None:
    """Parts of two versions are never put together."""

    async def main() -> None:
        store = MemoryStore()
        stat = store.store("a", bytes(2 * PART))
        store.store("a", b"changed")
        uploader = Uploader(store, copy_part_size=PART, single_copy_max=PART)
        with pytest.raises(ConditionFailed):
            await uploader.copy(stat if known else replace(stat, headers=None), "b")
        assert store.keys() == ["a"]
        assert store.uploads() == []

    run(main)


HONOURED = ServerFacts(copy_if_none_match=True)
IN_PARTS = ServerFacts(complete_if_none_match=True, put_if_none_match=True)


@pytest.mark.parametrize("facts", [HONOURED, IN_PARTS], ids=["CopyObject", "in parts"])
@pytest.mark.parametrize("body", [b"", b"data"], ids=["empty", "some"])
def test_a_copy_that_may_not_replace_creates_or_fails(facts: ServerFacts, body: bytes) -> None:
    """Bytes and headers are the source's; a target that is there stays, and no upload is left."""

    async def main() -> None:
        ignores = set() if facts is HONOURED else {"copy_if_none_match"}
        store = MemoryStore(ignores=ignores)
        stat = store.store("a", body, TYPED)
        uploader = Uploader(store, facts=facts)
        answer = await uploader.copy(stat, "b", if_none_match=True)
        assert (store.body("b"), store.stat("b").headers) == (body, TYPED)
        assert answer.etag == store.stat("b").etag
        store.store("c", b"theirs")
        with pytest.raises(ConditionFailed):
            await uploader.copy(stat, "c", if_none_match=True)
        assert store.body("c") == b"theirs"
        store.store("a", b"changed")
        with pytest.raises(ConditionFailed):
            await uploader.copy(stat, "d", if_none_match=True)
        assert store.keys() == ["a", "b", "c"]
        assert store.uploads() == []

    run(main)


@pytest.mark.parametrize(
    ("facts", "method", "body"),
    [(HONOURED, "copy", b"data"), (IN_PARTS, "complete_multipart", b"data"), (IN_PARTS, "put", b"")],
    ids=["CopyObject", "in parts", "empty"],
)
@pytest.mark.parametrize("theirs", [None, b"else"], ids=["ours", "theirs"])
def test_a_copy_whose_answer_was_lost_is_told_from_another_writers_object(
    facts: ServerFacts, method: str, body: bytes, theirs: bytes | None
) -> None:
    """The second try meets a target: it is the copy that the first one made, or it is not."""

    async def main() -> None:
        async def after(call: Call) -> None:
            if call.method == method and len(lost) < 1:
                lost.append(call)
                if theirs is not None:
                    store.store("b", theirs)
                raise StoreTimeout("lost")

        lost: list[Call] = []
        store = MemoryStore(after=after)
        stat = store.store("a", body, TYPED)
        copying = Uploader(store, facts=facts, backoff_s=0.0).copy(stat, "b", TYPED, if_none_match=True)
        if theirs is None:
            assert (await copying).etag == store.stat("b").etag
            assert store.body("b") == body
        else:
            with pytest.raises((ConditionFailed, StoreTimeout)):
                await copying
            assert store.body("b") == theirs
        assert store.uploads() == []

    run(main)


def test_a_copy_onto_itself_is_not_repeated() -> None:
    """The first try may have changed the ETag that the second would ask for."""

    async def main() -> None:
        store = MemoryStore(after=failing("copy", lambda: StoreTimeout("lost"), times=99))
        stat = store.store("a", b"data", TYPED)
        with pytest.raises(StoreTimeout):
            await Uploader(store).copy(stat, "a", PLAIN)
        assert methods(store) == ["copy"]

    run(main)


@pytest.mark.parametrize("seed", range(20))
def test_random_failures_never_leave_an_upload_or_half_an_object(source: Make, seed: int) -> None:
    """Any mix of failures and lost answers: the old object or the whole new one, and no upload left."""

    async def main() -> None:
        chance = random.Random(seed)

        async def maybe_fail(call: Call) -> None:
            await trio.sleep(chance.random())
            if chance.random() < 0.2 and call.method not in ("abort_multipart", "create_multipart"):
                raise chance.choice([StoreUnavailable, StoreTimeout, AccessDenied])("chance")

        store = MemoryStore(before=maybe_fail, after=maybe_fail)
        store.store("k", b"old")
        file = source(chance.choice([10, 4 * PART]))
        with trio.move_on_after(chance.choice([2, 1000])):
            try:
                await Uploader(store, part_size=PART, concurrency=2).upload("k", file, PLAIN)
            except FsError:
                pass
            else:
                assert store.body("k") == body_of(file)
        assert store.body("k") in (b"old", body_of(file))
        assert store.uploads() == []

    run(main)
