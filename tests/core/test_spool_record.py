"""What is decided about a file that a mount left: nothing doubtful is sent, no only copy is dropped."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3mount.core.objects import ByteRange, ObjectHeaders, ObjectStat
from s3mount.core.spool_record import (
    INTERRUPTED,
    NO_HEADERS,
    NO_KEY,
    RESTARTED,
    SENDABLE,
    UNKNOWN_KEY,
    Action,
    Fingerprint,
    SpoolRecord,
    SpoolState,
    doubt_file,
    what_to_do,
)
from tests.support.spool_records import BOOT, OTHER_BOOT, ranges, spool_records

HEADERS = ObjectHeaders()
QUEUED = SpoolRecord(1, "1.data", "k", SpoolState.QUEUED, headers=HEADERS, boot_id=BOOT)
WAITING = frozenset({SpoolState.CONFLICT, SpoolState.PARKED})


def stat(size: int, etag: str = '"etag"', crc32: str | None = None) -> ObjectStat:
    """Describe an object."""
    return ObjectStat("k", size, etag, 0, crc32=crc32)


@given(spool_records(), st.sampled_from([BOOT, OTHER_BOOT]))
def test_what_a_living_mount_has_is_left_alone(record: SpoolRecord, boot_id: str) -> None:
    """Whatever its row says: that mount goes on with it."""
    assert what_to_do(record, boot_id, is_dead_mount=False).action is Action.LEAVE


@given(spool_records(), st.sampled_from([BOOT, OTHER_BOOT]), st.booleans())
def test_what_may_be_garbage_is_never_sent(record: SpoolRecord, boot_id: str, is_dead: bool) -> None:
    """Sent is only what is whole, has a key and headers, and cannot have suffered from a power cut."""
    if what_to_do(record, boot_id, is_dead).action is Action.SEND:
        assert is_dead
        assert record.state in SENDABLE
        assert record.key != UNKNOWN_KEY
        assert record.headers is not None
        assert record.is_synced or record.boot_id == boot_id


@given(spool_records(), st.sampled_from([BOOT, OTHER_BOOT]), st.booleans())
def test_what_may_be_the_only_copy_is_never_dropped(record: SpoolRecord, boot_id: str, is_dead: bool) -> None:
    """Dropped is only what the row says that nobody needs."""
    if what_to_do(record, boot_id, is_dead).action is Action.DROP:
        assert record.state is SpoolState.DONE


@given(spool_records(), st.sampled_from([BOOT, OTHER_BOOT]))
def test_what_waits_for_the_user_goes_on_waiting(record: SpoolRecord, boot_id: str) -> None:
    """A conflict does not resolve itself by mounting again; its cause stays what it was."""
    decision = what_to_do(record, boot_id, is_dead_mount=True)
    if record.state in WAITING:
        assert (decision.action, decision.cause) == (Action.LEAVE, record.cause)
    else:
        assert decision.action is not Action.LEAVE


@given(spool_records(), st.sampled_from([BOOT, OTHER_BOOT]))
def test_the_user_is_told_why_a_file_is_parked(record: SpoolRecord, boot_id: str) -> None:
    """Every file that is not simply gone on with has a cause."""
    decision = what_to_do(record, boot_id, is_dead_mount=True)
    if decision.action in (Action.PARK, Action.COMPARE):
        assert decision.cause


@pytest.mark.parametrize(
    ("record", "boot_id", "action", "cause"),
    [
        (QUEUED, BOOT, Action.SEND, ""),
        (replace(QUEUED, state=SpoolState.UPLOADING), BOOT, Action.SEND, ""),
        (replace(QUEUED, is_synced=True), OTHER_BOOT, Action.SEND, ""),
        (QUEUED, OTHER_BOOT, Action.COMPARE, RESTARTED),
        (replace(QUEUED, headers=None), BOOT, Action.PARK, NO_HEADERS),
        (replace(QUEUED, key=UNKNOWN_KEY), BOOT, Action.PARK, NO_KEY),
        (replace(QUEUED, state=SpoolState.WRITING), BOOT, Action.PARK, INTERRUPTED),
        (replace(QUEUED, state=SpoolState.WRITING, is_synced=True), OTHER_BOOT, Action.PARK, INTERRUPTED),
        (replace(QUEUED, state=SpoolState.WRITING), OTHER_BOOT, Action.PARK, f"{INTERRUPTED}; {RESTARTED}"),
        (replace(QUEUED, state=SpoolState.DONE), OTHER_BOOT, Action.DROP, ""),
        (replace(QUEUED, state=SpoolState.PARKED, cause="why"), OTHER_BOOT, Action.LEAVE, "why"),
        (replace(QUEUED, state=SpoolState.CONFLICT, cause="why"), BOOT, Action.LEAVE, "why"),
    ],
)
def test_each_kind_of_leftover_has_its_decision(
    record: SpoolRecord, boot_id: str, action: Action, cause: str
) -> None:
    """The table, row by row."""
    decision = what_to_do(record, boot_id, is_dead_mount=True)
    assert (decision.action, decision.cause) == (action, cause)


@given(spool_records(), st.integers(0, 100))
def test_a_file_beyond_doubt_can_be_sent_byte_for_byte(record: SpoolRecord, size: int) -> None:
    """Each byte is present, or of the object underneath and within it, or zero; the sizes agree."""
    if doubt_file(record, size) is not None:
        return
    assert size == record.size
    present = {at for span in record.present for at in range(span.start, span.stop)}
    assert all(at < size for at in present)
    missing = set(range(min(record.base_limit, size))) - present
    assert not missing or (record.base is not None and max(missing) < record.base.size)
    assert record.is_complete == (not missing)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 9},
        {"size": 11},
        {"base_limit": 11},
        {"base": stat(4)},
        {"base": None},
        {"present": (ByteRange(0, 11),)},
        {"present": (ByteRange(5, 7), ByteRange(0, 2))},
        {"present": (ByteRange(0, 4), ByteRange(3, 5))},
    ],
)
def test_a_file_that_contradicts_its_row_is_doubted(change: dict[str, object]) -> None:
    """A sound row with one thing wrong about it."""
    sound = replace(QUEUED, size=10, base_limit=5, base=stat(5), present=(ByteRange(1, 10),))
    assert doubt_file(sound, 10) is None
    assert doubt_file(replace(sound, **change), 10) is not None  # type: ignore[arg-type]


@given(st.integers(0, 40), st.integers(0, 40), ranges(40))
def test_a_file_is_complete_if_nothing_below_the_limit_is_missing(
    size: int, limit: int, present: tuple[ByteRange, ...]
) -> None:
    """The same as counting bytes."""
    have = {at for span in present for at in range(span.start, span.stop)}
    record = replace(QUEUED, size=size, base_limit=limit, present=present)
    assert record.is_complete == (set(range(min(size, limit))) <= have)


MD5 = '"0123456789abcdef0123456789abcdef"'


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (stat(5, MD5), True),
        (stat(5, MD5.strip('"')), True),
        (stat(6, MD5), False),
        (stat(5, '"other"'), False),
        (stat(5, '"other"', "AAAAAA=="), True),
        (stat(5, '"other"', "AAAAAA==-3"), True),
        (stat(5, '"other"', "BBBBBB=="), False),
        (stat(6, '"other"', "AAAAAA=="), False),
    ],
)
def test_a_fingerprint_tells_its_object_from_others(found: ObjectStat, expected: bool) -> None:
    """The size must be the same, and the ETag or the checksum; quotes and numbers of parts do not count."""
    assert Fingerprint(5, MD5, "AAAAAA==").matches(found) is expected


CRC32S = st.none() | st.just("AAAAAA==")


@given(CRC32S, CRC32S)
def test_a_checksum_that_is_not_known_tells_nothing(mine: str | None, theirs: str | None) -> None:
    """Where one of the two is missing only the ETag tells."""
    expected = mine is not None and theirs is not None
    assert Fingerprint(5, MD5, mine).matches(stat(5, '"x"', theirs)) is expected
