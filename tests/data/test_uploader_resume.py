"""Uploads that are cut off and gone on with, and answers that are lost, with the journal's own ledger."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from s3mount.core.objects import ObjectHeaders, WriteCondition
from s3mount.core.spool_record import SpoolState
from s3mount.data.journal import Journal
from s3mount.data.spool import SpoolDir, SpoolFile
from s3mount.data.uploader import Uploader
from s3mount.data.uploader_requests import ATTEMPTS
from s3mount.errors import (
    AccessDenied,
    ConditionFailed,
    FsError,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
    WriteRace,
)
from tests.data.spools import HEADERS, data_files, play
from tests.support.memory_store import Call, MemoryStore

MIB = 1 << 20
PART = 5 * MIB
PARTS = 4
SIZE = (PARTS - 1) * PART + 17
CREATED = WriteCondition(if_none_match=True)
MINUTE_NS = 60 * 1_000_000_000


def body(seed: int = 1, size: int = SIZE) -> bytes:
    """Return bytes in which no two parts are alike."""
    return random.Random(seed).randbytes(size)


def uploader(store: MemoryStore, spool: SpoolDir | None = None, concurrency: int = 1) -> Uploader:
    """Return an uploader as a mount makes it, without pauses."""
    begun = None if spool is None else spool.rows
    return Uploader(store, part_size=PART, concurrency=concurrency, backoff_s=0, begun=begun)


async def written(spool: SpoolDir, data: bytes | None = None) -> SpoolFile:
    """Return a file of the spool with *data*."""
    file = await spool.create("k", condition=CREATED)
    await file.write(0, body() if data is None else data)
    return file


async def upload(
    by: Uploader,
    file: SpoolFile,
    condition: WriteCondition = CREATED,
    headers: ObjectHeaders = HEADERS,
    key: str = "k",
) -> None:
    """Upload as an open file does."""
    if file.is_edited:
        await file.make_durable(SpoolState.QUEUED)
    await file.begin_upload(key, headers, condition)
    await by.upload(key, file, headers, condition=condition, ledger=file.ledger)
    file.sent()


def count(store: MemoryStore, method: str) -> int:
    """Return how often *method* was called since the last ``store.calls.clear()``."""
    return sum(call.method == method for call in store.calls)


class Faults:
    """Hooks for a store: what is to happen to which calls of a method, counted from 1."""

    def __init__(self) -> None:
        self.rules: dict[tuple[str, str], Callable[[int], Awaitable[None]]] = {}
        self._seen: dict[tuple[str, str], int] = {}

    def at(self, when: str, method: str, act: Callable[[int], Awaitable[None]]) -> None:
        """Await *act* with the number of the call, "before" or "after" it took effect."""
        self.rules[when, method] = act
        self._seen[when, method] = 0

    def fail(self, when: str, method: str, error: FsError, first: int = 1, last: int = 1 << 30) -> None:
        """Let the calls from the *first* to the *last* fail."""

        async def act(number: int) -> None:
            if first <= number <= last:
                raise error

        self.at(when, method, act)

    def clear(self) -> None:
        """Let everything go well from now on."""
        self.rules.clear()

    async def before(self, call: Call) -> None:
        """Be a store's hook."""
        await self._run("before", call)

    async def after(self, call: Call) -> None:
        """Be a store's hook."""
        await self._run("after", call)

    async def _run(self, when: str, call: Call) -> None:
        await trio.lowlevel.checkpoint()
        if (act := self.rules.get((when, call.method))) is not None:
            self._seen[when, call.method] += 1
            await act(self._seen[when, call.method])


@pytest.fixture
def faults() -> Faults:
    """What goes wrong with the store."""
    return Faults()


@pytest.fixture
def store(faults: Faults) -> MemoryStore:
    """A store that refuses small parts, as servers do."""
    return MemoryStore(min_part_bytes=PART, before=faults.before, after=faults.after)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A spool directory that is not there yet."""
    return tmp_path / "spool"


AWAY = StoreUnavailable("away")
LOST = StoreTimeout("lost")


@pytest.mark.parametrize("sent", range(PARTS + 1))
@pytest.mark.parametrize("ending", ["fails", "refused", "cancelled", "remounted"])
def test_a_later_try_sends_only_the_parts_that_are_missing(
    path: Path, store: MemoryStore, faults: Faults, sent: int, ending: str
) -> None:
    """After a failure, a 403, a cancel, or in another mount: of each part that arrived nothing goes again."""

    async def first(spool: SpoolDir) -> None:
        file = await written(spool)
        cancel = trio.CancelScope()

        async def act(number: int) -> None:
            if number <= sent:
                return
            if ending == "cancelled":
                cancel.cancel()
                await trio.lowlevel.checkpoint()
            raise AccessDenied("403") if ending == "refused" else AWAY

        faults.at("before", "upload_part", act)
        if sent == PARTS:
            faults.at("before", "complete_multipart", lambda number: act(number + sent))
        with cancel, pytest.raises((StoreUnavailable, AccessDenied)):
            await upload(uploader(store, spool), file)
        if ending == "cancelled":
            assert cancel.cancelled_caught
        assert len(store.uploads()) == 1
        faults.clear()
        store.calls.clear()
        if ending != "remounted":
            await again(spool, file)

    async def again(spool: SpoolDir, file: SpoolFile) -> None:
        await upload(uploader(store, spool), file)
        assert count(store, "upload_part") == PARTS - sent
        assert count(store, "create_multipart") == 0
        assert store.body("k") == body()
        assert store.stat("k").headers == HEADERS
        assert (store.uploads(), spool.rows.begun()) == ([], [])

    async def second(spool: SpoolDir) -> None:
        (left,) = spool.leftovers()
        await again(spool, await spool.reopen(left.record))

    play(path, first)
    if ending == "remounted":
        play(path, second)


@pytest.mark.parametrize("has_checksums", [True, False])
def test_parts_whose_bytes_have_changed_are_sent_anew(
    path: Path, faults: Faults, has_checksums: bool
) -> None:
    """By the server's checksums or its ETags: what is published is the file as it is now."""
    store = MemoryStore(
        min_part_bytes=PART,
        before=faults.before,
        ignores=() if has_checksums else ("part_checksums",),
    )

    async def main(spool: SpoolDir) -> None:
        file = await written(spool)
        faults.fail("before", "complete_multipart", AWAY)
        with pytest.raises(StoreUnavailable):
            await upload(uploader(store), file)
        faults.clear()
        await file.write(PART + 5, b"changed")
        await file.truncate(SIZE - 3)
        store.calls.clear()
        await upload(uploader(store), file)
        assert count(store, "upload_part") == 2
        expected = bytearray(body()[:-3])
        expected[PART + 5 : PART + 12] = b"changed"
        assert store.body("k") == expected

    play(path, main)


def test_an_upload_that_is_gone_begins_anew(path: Path, store: MemoryStore, faults: Faults) -> None:
    """A lifecycle rule has aborted it between two tries, or somebody does so in the midst of one."""

    async def main(spool: SpoolDir) -> None:
        file = await written(spool)
        faults.fail("before", "upload_part", AWAY, first=3)
        with pytest.raises(StoreUnavailable):
            await upload(uploader(store), file)
        store._uploads.clear()

        async def vanish(number: int) -> None:
            if number == 2:
                store._uploads.clear()

        faults.at("before", "upload_part", vanish)
        await upload(uploader(store), file)
        assert store.body("k") == body()
        assert store.uploads() == []

    play(path, main)


def test_an_upload_that_vanishes_before_its_end_begins_anew(
    path: Path, store: MemoryStore, faults: Faults
) -> None:
    """Complete meets nothing: the parts are sent once more, not the failure told."""

    async def main(spool: SpoolDir) -> None:
        file = await written(spool)

        async def vanish(number: int) -> None:
            if number == 1:
                store._uploads.clear()

        faults.at("before", "complete_multipart", vanish)
        await upload(uploader(store), file)
        assert count(store, "upload_part") == 2 * PARTS
        assert store.body("k") == body()

    play(path, main)


@pytest.mark.parametrize("change", ["headers", "key"])
def test_an_upload_for_something_else_is_aborted(
    path: Path, store: MemoryStore, faults: Faults, change: str
) -> None:
    """chmod or rename between two tries: the object has the new mode, the new name, and nothing is left."""

    async def main(spool: SpoolDir) -> None:
        file = await written(spool)
        faults.fail("before", "complete_multipart", AWAY)
        with pytest.raises(StoreUnavailable):
            await upload(uploader(store, spool), file)
        faults.clear()
        headers = ObjectHeaders(content_type="a/b") if change == "headers" else HEADERS
        key = "new" if change == "key" else "k"
        if change == "key":
            file.rekey(key, CREATED)
        await upload(uploader(store, spool), file, headers=headers, key=key)
        assert store.stat(key).headers == headers
        assert (store.uploads(), spool.rows.begun()) == ([], [])

    play(path, main)


def test_a_file_that_became_small_leaves_no_upload(path: Path, store: MemoryStore, faults: Faults) -> None:
    """It goes in one PUT now, and the upload of its larger self is aborted."""

    async def main(spool: SpoolDir) -> None:
        file = await written(spool)
        faults.fail("before", "complete_multipart", AWAY)
        with pytest.raises(StoreUnavailable):
            await upload(uploader(store), file)
        faults.clear()
        await file.truncate(5)
        await upload(uploader(store), file)
        assert store.body("k") == body()[:5]
        assert store.uploads() == []

    play(path, main)


@pytest.mark.parametrize("has_ledger", [True, False])
def test_a_cancel_keeps_the_parts_for_who_will_go_on(
    path: Path, store: MemoryStore, faults: Faults, has_ledger: bool
) -> None:
    """With a ledger the upload stays; without, nobody would ever find it, so it is aborted."""

    async def main(spool: SpoolDir) -> None:
        file = await written(spool)
        await file.begin_upload("k", HEADERS, CREATED)
        with trio.CancelScope() as scope:

            async def act(number: int) -> None:
                if number == 3:
                    scope.cancel()
                    await trio.lowlevel.checkpoint()

            faults.at("before", "upload_part", act)
            ledger = file.ledger if has_ledger else None
            await uploader(store, spool).upload("k", file, HEADERS, condition=CREATED, ledger=ledger)
        assert scope.cancelled_caught
        assert len(store.uploads()) == (1 if has_ledger else 0)
        assert spool.rows.begun() == []

    play(path, main)


@pytest.mark.parametrize("failure", [ConditionFailed("theirs"), FsError("the spool's disk failed")])
def test_a_failure_for_good_leaves_no_upload(
    path: Path, store: MemoryStore, faults: Faults, failure: FsError
) -> None:
    """No try will follow, or none that may trust the bytes."""

    async def main(spool: SpoolDir) -> None:
        file = await written(spool)
        faults.fail("before", "complete_multipart", failure)
        with pytest.raises(type(failure)):
            await upload(uploader(store, spool), file)
        assert (store.uploads(), spool.rows.begun(), file.ledger.upload) == ([], [], None)

    play(path, main)


# Lost answers of CreateMultipartUpload.


@pytest.mark.parametrize("lost", range(1, ATTEMPTS + 1))
def test_a_lost_answer_of_create_leaves_no_stray(
    path: Path, store: MemoryStore, faults: Faults, lost: int
) -> None:
    """Whether a repetition got an answer at once, or only a later try: at the end there is no upload."""

    async def main(spool: SpoolDir) -> None:
        file = await written(spool)
        faults.fail("after", "create_multipart", LOST, last=lost)
        if lost == ATTEMPTS:
            with pytest.raises(StoreTimeout):
                await upload(uploader(store, spool), file)
            assert len(store.uploads()) == ATTEMPTS
        await upload(uploader(store, spool), file)
        assert store.body("k") == body()
        assert (store.uploads(), spool.rows.begun()) == ([], [])

    play(path, main)


@pytest.mark.parametrize("ending", ["killed", "discarded"])
def test_a_stray_outlives_neither_the_process_nor_the_file(
    path: Path, store: MemoryStore, faults: Faults, ending: str
) -> None:
    """The journal knows that one may be there, also when the file that it was for is gone."""

    async def first(spool: SpoolDir) -> None:
        file = await written(spool)
        faults.fail("after", "create_multipart", LOST)
        with pytest.raises(StoreTimeout):
            await upload(uploader(store, spool), file)
        faults.clear()
        if ending == "discarded":
            await file.discard()

    async def second(spool: SpoolDir) -> None:
        if ending == "discarded":
            await uploader(store, spool).abort_left()
        else:
            (left,) = spool.leftovers()
            await upload(uploader(store, spool), await spool.reopen(left.record))
        assert (store.uploads(), spool.rows.begun()) == ([], [])

    play(path, first)
    assert len(store.uploads()) == ATTEMPTS
    play(path, second)


def test_a_sweep_that_is_cut_off_is_made_up_for(path: Path, store: MemoryStore, faults: Faults) -> None:
    """The deadline came while strays were being listed: a later visit finds them, by the list."""

    async def main(spool: SpoolDir) -> None:
        file = await written(spool)
        faults.fail("after", "create_multipart", LOST, last=1)
        by = uploader(store, spool)
        with trio.CancelScope() as scope:

            async def act(number: int) -> None:
                scope.cancel()
                await trio.lowlevel.checkpoint()

            faults.at("before", "list_multipart_uploads", act)
            await upload(by, file)
        assert scope.cancelled_caught
        assert len(store.uploads()) == 2
        faults.clear()
        await upload(by, file)
        assert count(store, "create_multipart") == 2 + 1  # one more only to learn the server's time
        assert (store.uploads(), spool.rows.begun()) == ([], [])

    play(path, main)


def test_uploads_that_somebody_goes_on_with_are_no_strays(
    path: Path, store: MemoryStore, faults: Faults
) -> None:
    """One that rests in the journal between two tries is as alive as one that is being sent."""

    async def main(spool: SpoolDir) -> None:
        stray = await store.create_multipart("k", HEADERS)
        row = spool.rows.begin("k", row_time(store))
        file = await written(spool)
        faults.fail("before", "upload_part", AWAY, first=2)
        by = uploader(store)
        with pytest.raises(StoreUnavailable):
            await upload(by, file)
        faults.clear()
        await uploader(store, spool).abort_left()
        assert spool.rows.begun() == []
        assert row.upload_id is None
        (kept,) = store.uploads()
        assert kept != stray
        store.calls.clear()
        await upload(by, file)
        assert count(store, "upload_part") == PARTS - 1

    play(path, main)


def row_time(store: MemoryStore) -> int:
    """Return a time before which the store's uploads were not asked for."""
    begun = store.uploads()[0].begun_ns
    assert begun is not None
    return begun


def test_other_hosts_uploads_of_another_time_are_left_alone(path: Path, faults: Faults) -> None:
    """Begun long before, or at another key: nobody's lost answer."""
    now = 1_700_000_000 * 1_000_000_000
    store = MemoryStore(after=faults.after, now_ns=lambda: now)

    async def main(spool: SpoolDir) -> None:
        nonlocal now
        await store.create_multipart("k", HEADERS)
        await store.create_multipart("k2", HEADERS)
        now += 60 * MINUTE_NS
        others = store.uploads()
        file = await written(spool)
        faults.fail("after", "create_multipart", LOST, last=1)
        await upload(uploader(store, spool), file)
        assert store.uploads() == others

    play(path, main)


# The list of uploads that nobody answers for.


def test_what_a_crash_has_left_is_aborted(path: Path, store: MemoryStore) -> None:
    """A copy in parts when the process died: the next upload or mount aborts it."""

    async def first(spool: SpoolDir) -> None:
        begun = await store.create_multipart("copy", HEADERS)
        spool.rows.name(spool.rows.begin("copy", 1), begun.upload_id)

    async def second(spool: SpoolDir) -> None:
        await uploader(store, spool).abort_left()
        assert (store.uploads(), spool.rows.begun()) == ([], [])

    play(path, first)
    play(path, second)


def test_what_cannot_be_aborted_now_stays_on_the_list(path: Path, store: MemoryStore, faults: Faults) -> None:
    """One that fails does not keep the others, and is tried again; uploads are not held up by it."""

    async def main(spool: SpoolDir) -> None:
        for key in ("a", "b"):
            begun = await store.create_multipart(key, HEADERS)
            spool.rows.name(spool.rows.begin(key, 1), begun.upload_id)
        by = uploader(store, spool)
        faults.fail("before", "abort_multipart", AWAY, last=1)
        await by.abort_left()
        assert [row.key for row in spool.rows.begun()] == ["a"]
        await upload(by, await written(spool))
        assert (store.uploads(), spool.rows.begun()) == ([], [])

    play(path, main)


def test_a_copy_that_is_under_way_is_not_aborted(path: Path, store: MemoryStore, faults: Faults) -> None:
    """It is on the list in case of a crash, and this process has not crashed."""

    async def main(spool: SpoolDir) -> None:
        source = store.store("a", body())
        by = Uploader(
            store, copy_part_size=PART, single_copy_max=PART, part_size=PART, backoff_s=0, begun=spool.rows
        )

        async def act(number: int) -> None:
            await by.abort_left()
            assert len(store.uploads()) == 1

        faults.at("before", "copy_part", act)
        await by.copy(source, "b")
        assert store.body("b") == body()
        assert spool.rows.begun() == []

    play(path, main)


@pytest.mark.parametrize("trouble", ["create_multipart", "abort_multipart"])
def test_looking_for_strays_leaves_none_of_its_own(
    path: Path, store: MemoryStore, faults: Faults, trouble: str
) -> None:
    """The upload that is begun to learn the server's time may lose its answer, or refuse to go."""

    async def main(spool: SpoolDir) -> None:
        await store.create_multipart("k", HEADERS)
        spool.rows.begin("k", row_time(store))
        by = uploader(store, spool)
        if trouble == "create_multipart":
            faults.fail("after", trouble, LOST, last=1)
        else:
            faults.fail("before", trouble, AWAY)
        await by.abort_left()
        assert len(store.uploads()) == 2
        faults.clear()
        for _ in range(2):
            await by.abort_left()
        assert (store.uploads(), spool.rows.begun()) == ([], [])

    play(path, main)


# Lost answers of what publishes.


async def publish_lost(spool: SpoolDir, store: MemoryStore, faults: Faults, size: int) -> SpoolFile:
    """Let a file be published without anybody hearing of it."""
    file = await written(spool, body(size=size))
    faults.fail("after", "complete_multipart" if size > PART else "put", LOST)
    faults.fail("before", "head", AWAY)
    with pytest.raises(StoreError):
        await upload(uploader(store, spool), file)
    faults.clear()
    store.calls.clear()
    return file


@pytest.mark.parametrize("size", [10, SIZE])
def test_a_later_try_knows_its_own_object(path: Path, store: MemoryStore, faults: Faults, size: int) -> None:
    """Published, the answer lost, the store away: neither a conflict nor another transfer."""

    async def main(spool: SpoolDir) -> None:
        file = await publish_lost(spool, store, faults, size)
        etag = store.stat("k").etag
        await upload(uploader(store, spool), file)
        assert store.stat("k").etag == etag
        assert store.body("k") == body(size=size)
        assert count(store, "upload_part") == 0
        assert (store.uploads(), spool.rows.begun()) == ([], [])

    play(path, main)


@pytest.mark.parametrize("size", [10, SIZE])
def test_the_next_mount_knows_an_object_of_the_last(
    path: Path, store: MemoryStore, faults: Faults, size: int
) -> None:
    """The process died between the request and its answer; the row says only that it was uploading."""

    async def first(spool: SpoolDir) -> None:
        file = await written(spool, body(size=size))
        died = trio.CancelScope()

        async def die(number: int) -> None:
            died.cancel()
            await trio.lowlevel.checkpoint()

        faults.at("after", "complete_multipart" if size > PART else "put", die)
        with died:
            await upload(uploader(store, spool), file)
        assert died.cancelled_caught
        file._entry.write(unanswered=())  # a process that dies remembers nothing

    async def second(spool: SpoolDir) -> None:
        (left,) = spool.leftovers()
        assert left.record.state is SpoolState.UPLOADING
        file = await spool.reopen(left.record)
        await upload(uploader(store, spool), file)
        assert count(store, "upload_part") == 0

    play(path, first)
    faults.clear()
    store.calls.clear()
    play(path, second)
    assert store.body("k") == body(size=size)
    assert store.uploads() == []


@pytest.mark.parametrize("forgotten", [1, PARTS])
def test_after_a_power_cut_an_object_is_known_by_the_file(
    path: Path, store: MemoryStore, faults: Faults, forgotten: int
) -> None:
    """The memory of the last parts was not safe; the file was, and tells what they were."""

    async def main(spool: SpoolDir) -> None:
        file = await publish_lost(spool, store, faults, SIZE)
        upload_left = file.ledger.upload
        assert upload_left is not None
        parts = upload_left.parts[: PARTS - forgotten]
        file._entry.write(unanswered=(), upload=type(upload_left)(1, PART, upload_left.upload, parts))
        await upload(uploader(store, spool), file)
        assert count(store, "upload_part") == 0

    play(path, main)


@pytest.mark.parametrize("size", [10, SIZE])
def test_an_own_object_that_is_out_of_date_is_replaced(
    path: Path, store: MemoryStore, faults: Faults, size: int
) -> None:
    """Published with its answer lost, then the file was changed: it is no conflict with oneself."""

    async def main(spool: SpoolDir) -> None:
        file = await publish_lost(spool, store, faults, size)
        await file.write(3, b"changed")
        await upload(uploader(store, spool), file)
        assert store.body("k")[:10] == body()[:3] + b"changed"
        assert len(store.body("k")) == size
        assert store.uploads() == []

    play(path, main)


@pytest.mark.parametrize("size", [10, SIZE])
def test_another_writers_object_is_a_conflict_in_spite_of_a_lost_answer(
    path: Path, store: MemoryStore, faults: Faults, size: int
) -> None:
    """Even if it is as large; it stays, and no upload is left."""

    async def main(spool: SpoolDir) -> None:
        file = await publish_lost(spool, store, faults, size)
        store.store("k", body(2, size))
        with pytest.raises(ConditionFailed):
            await upload(uploader(store, spool), file)
        assert store.body("k") == body(2, size)
        assert store.uploads() == []

    play(path, main)


def test_an_own_object_that_cannot_be_replaced_now_is_no_conflict(
    path: Path, store: MemoryStore, faults: Faults
) -> None:
    """Ours is there, and nobody else's: it is tried again."""

    async def main(spool: SpoolDir) -> None:
        file = await publish_lost(spool, store, faults, 10)
        await file.write(3, b"changed")
        faults.fail("before", "put", ConditionFailed("another write is under way"))
        with pytest.raises(StoreUnavailable, match="under way"):
            await upload(uploader(store, spool), file)
        faults.clear()
        await upload(uploader(store, spool), file)
        assert store.body("k") == body()[:3] + b"changed"

    play(path, main)


def test_the_same_bytes_of_the_object_that_was_opened_are_sent_again(
    path: Path, store: MemoryStore, faults: Faults
) -> None:
    """The upload is gone and the object is as it was: new headers must not be lost by taking it for ours."""

    async def main(spool: SpoolDir) -> None:
        file = await written(spool)
        await upload(uploader(store), file)
        opened = WriteCondition(if_match=store.stat("k").etag)
        newer = ObjectHeaders(content_type="text/newer", metadata={})
        await file.write(0, body()[:1])
        faults.fail("before", "complete_multipart", AWAY)
        with pytest.raises(StoreUnavailable):
            await upload(uploader(store), file, opened, newer)
        faults.clear()
        store._uploads.clear()
        await upload(uploader(store), file, opened, newer)
        assert store.stat("k").headers == newer

    play(path, main)


def test_an_upload_whose_bytes_an_earlier_one_has_published_is_not_left(
    path: Path, store: MemoryStore, faults: Faults
) -> None:
    """Begun anew since nobody knew that the first was completed; at the end the object is there already."""

    async def main(spool: SpoolDir) -> None:
        file = await publish_lost(spool, store, faults, SIZE)
        file.ledger.ended()  # cut off after it was found gone, by a version that forgot it then
        await upload(uploader(store, spool), file)
        assert count(store, "create_multipart") == 1
        assert (store.uploads(), spool.rows.begun()) == ([], [])

    play(path, main)


@pytest.mark.parametrize("size", [10, SIZE])
def test_a_write_that_meets_its_own_earlier_try_under_way_is_no_conflict(
    path: Path, store: MemoryStore, faults: Faults, size: int
) -> None:
    """As AWS answers (409) while a try that was given up is still being carried out: nobody has won yet.

    The file was in conflict with nothing, and waited for the user.
    """
    method = "put" if size < PART else "complete_multipart"

    async def main(spool: SpoolDir) -> None:
        file = await written(spool, body(1, size))

        async def slow(number: int) -> None:
            raise LOST if number == 1 else WriteRace("HTTP 409")

        faults.at("before", method, slow)
        with pytest.raises(StoreTimeout):
            await upload(uploader(store, spool), file)
        assert store.keys() == []
        faults.clear()
        await upload(uploader(store), await written(spool, body(1, size)))  # the first try has ended
        await upload(uploader(store, spool), file)
        assert store.body("k") == body(1, size)

    play(path, main)


def test_a_write_that_meets_others_under_way_is_a_conflict_only_if_one_has_won(
    path: Path, store: MemoryStore, faults: Faults
) -> None:
    """Without any answer of its own that was lost."""

    async def main(spool: SpoolDir) -> None:
        file = await written(spool, body(1, 10))
        faults.fail("before", "put", WriteRace("HTTP 409"))
        with pytest.raises(StoreUnavailable, match="409"):
            await upload(uploader(store, spool), file)
        store.store("k", b"theirs")
        with pytest.raises(ConditionFailed):
            await upload(uploader(store, spool), file)

    play(path, main)


@pytest.mark.parametrize("size", [10, SIZE])
def test_a_process_that_dies_as_soon_as_its_upload_is_complete_makes_no_conflict(
    path: Path, store: MemoryStore, size: int
) -> None:
    """The next one finds the object there, and that it is its own."""

    async def die(spool: SpoolDir) -> None:
        file = await written(spool, body(1, size))
        await file.begin_upload("k", HEADERS, CREATED)
        await uploader(store, spool).upload("k", file, HEADERS, condition=CREATED, ledger=file.ledger)

    async def recover(spool: SpoolDir) -> None:
        (left,) = spool.leftovers()
        await upload(uploader(store, spool), await spool.reopen(left.record))
        assert store.body("k") == body(1, size)
        assert (store.uploads(), spool.rows.begun()) == ([], [])

    play(path, die)
    play(path, recover)


# The journal's disk.


class Broken:
    """Lets the journal's disk fail from some moment on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_broken = False
        real = Journal.run

        def run(journal: Journal, work: Callable[..., object]) -> object:
            if self.is_broken:
                raise FsError("the spool's journal failed")
            return real(journal, work)

        monkeypatch.setattr(Journal, "run", run)


@pytest.mark.parametrize("stage", ["create_multipart", "upload_part", "complete_multipart"])
def test_an_upload_that_its_journal_does_not_know_is_not_left_behind(
    path: Path, store: MemoryStore, faults: Faults, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """The disk fails at some stage: nothing in the bucket that nobody remembers; what is published counts."""
    broken = Broken(monkeypatch)

    async def main(spool: SpoolDir) -> None:
        file = await written(spool)

        async def act(number: int) -> None:
            broken.is_broken = True

        faults.at("after", stage, act)
        if stage == "complete_multipart":
            await upload(uploader(store, spool), file)
            assert store.body("k") == body()
        else:
            with pytest.raises(FsError, match="journal failed"):
                await upload(uploader(store, spool), file)
            assert store.keys() == []
        assert store.uploads() == []
        broken.is_broken = False

    play(path, main)


@pytest.mark.parametrize("seed", range(25))
def test_any_failures_end_in_the_whole_file_and_nothing_else(path: Path, seed: int) -> None:
    """Failures, lost answers, cancels, changes and remounts in any order; at last a store that answers."""
    chance = random.Random(seed)
    is_quiet = False

    async def maybe(call: Call) -> None:
        await trio.lowlevel.checkpoint()
        if not is_quiet and chance.random() < 0.25:
            raise chance.choice([StoreUnavailable, StoreTimeout])("chance")

    store = MemoryStore(min_part_bytes=PART, before=maybe, after=maybe)
    expected = bytearray(body(seed))

    async def attempt(spool: SpoolDir, file: SpoolFile) -> None:
        condition = file.record.condition
        await file.begin_upload("k", HEADERS, condition)
        by = uploader(store, spool, concurrency=2)
        answer = await by.upload("k", file, HEADERS, condition=condition, ledger=file.ledger)
        file.sent(answer.etag)

    async def attempts(spool: SpoolDir, file: SpoolFile) -> None:
        for _ in range(chance.randrange(1, 4)):
            try:
                with trio.move_on_after(chance.choice([0.001, 5])):
                    await attempt(spool, file)
            except StoreError:
                pass
            if chance.random() < 0.3:
                at = chance.randrange(SIZE - 3)
                expected[at : at + 3] = b"new"
                await file.write(at, b"new")
                if file.is_edited:
                    await file.make_durable(SpoolState.QUEUED)

    async def mount(spool: SpoolDir) -> None:
        files = [await spool.reopen(left.record) for left in spool.leftovers()]
        for file in files or [await written(spool, bytes(expected))]:
            await attempts(spool, file)
            if is_quiet and file.state is not SpoolState.DONE:
                await attempt(spool, file)
            if file.state is SpoolState.DONE:
                await file.discard()

    for number in range(4):
        is_quiet = number == 3
        play(path, mount)
        if not data_files(path):
            break
    assert store.body("k") == bytes(expected)
    is_quiet = True

    async def last(spool: SpoolDir) -> None:
        await uploader(store, spool).abort_left()
        assert (spool.records(), spool.rows.begun()) == ([], [])

    play(path, last)
    assert store.uploads() == []
