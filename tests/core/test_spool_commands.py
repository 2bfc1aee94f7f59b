"""What `s3mount spool` may do with a file, decided without touching one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3mount.core.objects import ByteRange, ObjectHeaders, ObjectStat, WriteCondition
from s3mount.core.spool_commands import (
    missing_ranges,
    push_condition,
    refuse_change,
    refuse_giving_up,
    refuse_push,
    shown,
    why_not_in_all,
    with_size_on_disk,
)
from s3mount.core.spool_record import (
    INTERRUPTED,
    NO_CONDITION,
    RESTARTED,
    SENDABLE,
    UNKNOWN_KEY,
    SpoolRecord,
    SpoolState,
)

BOOT = "this boot"
BASE = ObjectStat("k", 100, '"etag"', 0)
RECORD = SpoolRecord(
    1, "1.data", "k", SpoolState.QUEUED, size=10, present=(ByteRange(0, 10),), headers=ObjectHeaders(),
    is_synced=True, boot_id=BOOT,
)  # fmt: skip
WAITING = (SpoolState.CONFLICT, SpoolState.PARKED)


@pytest.mark.parametrize("state", [one for one in SpoolState if one is not SpoolState.DONE])
def test_beside_a_mount_only_what_waits_for_the_user_is_touched(state: SpoolState) -> None:
    """What is being written, and what the mount sends, is the mount's own."""
    refusal = refuse_change(replace(RECORD, state=state, cause="no route", attempts=3), "the mount at /mnt")
    assert (refusal is None) == (state in WAITING)
    if state in SENDABLE and refusal is not None:
        assert (
            refusal.cause == "the mount at /mnt sends it by itself, 3 tries so far, the last error: no route"
        )


def test_a_rename_is_given_up_only_where_no_mount_works_on_it() -> None:
    """The refusal says what it failed from last."""
    assert refuse_giving_up("no route", "") is None
    refusal = refuse_giving_up("no route", "the mount at /mnt")
    assert refusal is not None
    assert refusal.cause == "the mount at /mnt goes on with it by itself, the last error: no route"
    assert refuse_giving_up("", "the mount at /mnt") is not None


def test_a_file_that_a_dead_mount_was_writing_is_shown_as_parked() -> None:
    """As the next mount will find it; beside a live one it is being written."""
    record = replace(RECORD, state=SpoolState.WRITING, is_synced=False)
    assert shown(record, BOOT, has_mount=True) == record
    dead = shown(record, BOOT, has_mount=False)
    assert (dead.state, dead.cause) == (SpoolState.PARKED, INTERRUPTED)
    assert shown(replace(RECORD, cause="no route"), BOOT, has_mount=False).cause == "no route"
    unsafe = replace(RECORD, is_synced=False, boot_id="another")
    assert shown(unsafe, BOOT, has_mount=False).cause == RESTARTED


def test_a_conflict_is_sent_over_theirs_or_beside_it_and_never_unsaid() -> None:
    """And what has no key needs one."""
    record = replace(RECORD, state=SpoolState.CONFLICT)
    assert refuse_push(record, overwrite=False, other_key=None) is not None
    assert refuse_push(record, overwrite=False, other_key="k") is not None
    assert refuse_push(record, overwrite=True, other_key=None) is None
    assert refuse_push(record, overwrite=False, other_key="other") is None
    orphan = replace(RECORD, key=UNKNOWN_KEY, state=SpoolState.PARKED)
    assert refuse_push(orphan, overwrite=True, other_key=None) is not None
    assert refuse_push(orphan, overwrite=False, other_key="k") is None


@given(
    st.sampled_from(list(SpoolState)),
    st.sampled_from([NO_CONDITION, WriteCondition(if_match='"x"'), WriteCondition(if_none_match=True)]),
    st.sampled_from([None, BASE]),
    st.sampled_from([None, "k", "other"]),
)
def test_without_overwrite_every_push_has_a_condition(
    state: SpoolState, condition: WriteCondition, base: ObjectStat | None, other_key: str | None
) -> None:
    """Whatever the row says, nothing is replaced that nobody has looked at."""
    record = replace(RECORD, state=state, condition=condition, base=base)
    found = push_condition(record, overwrite=False, other_key=other_key)
    assert found
    if other_key == "other":
        assert found == WriteCondition(if_none_match=True)
    elif condition:
        assert found == condition
    else:
        assert found == (
            WriteCondition(if_match=base.etag) if base is not None else WriteCondition(if_none_match=True)
        )
    assert push_condition(record, overwrite=True, other_key=other_key) == NO_CONDITION


@pytest.mark.parametrize(
    ("record", "is_sent"),
    [
        (RECORD, True),
        (replace(RECORD, state=SpoolState.UPLOADING), True),
        (replace(RECORD, state=SpoolState.PARKED, cause="403"), True),
        (replace(RECORD, state=SpoolState.CONFLICT), False),
        (replace(RECORD, state=SpoolState.WRITING), False),
        (replace(RECORD, state=SpoolState.PARKED, is_synced=False, cause=INTERRUPTED), False),
        (replace(RECORD, is_synced=False, boot_id="another"), False),
        (replace(RECORD, state=SpoolState.PARKED, key=UNKNOWN_KEY, cause="?"), False),
    ],
)
def test_all_means_what_is_known_to_be_whole(record: SpoolRecord, is_sent: bool) -> None:
    """Half a file would replace a whole one; conflicts go with --overwrite only."""
    reason = why_not_in_all(record, BOOT, overwrite=False)
    assert (reason is None) == is_sent, reason
    if record.state is SpoolState.CONFLICT:
        assert why_not_in_all(record, BOOT, overwrite=True) is None


@given(
    st.integers(0, 50),
    st.integers(0, 50),
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50))),
)
def test_missing_is_what_is_of_the_object_and_not_here(
    size: int, limit: int, ranges: list[tuple[int, int]]
) -> None:
    """Byte by byte."""
    present = tuple(ByteRange(start, stop) for start, stop in ranges if start < stop)
    record = replace(RECORD, size=size, base_limit=limit, base=BASE, present=present)
    missing = {position for span in missing_ranges(record) for position in range(span.start, span.stop)}
    here = {position for span in present for position in range(span.start, span.stop)}
    assert missing == set(range(min(size, limit))) - here


def test_what_is_on_the_disk_is_rescued_whatever_the_row_says() -> None:
    """Of a row without any facts all of the file, of one with others as much as there is."""
    nothing = SpoolRecord(0, "f.data", UNKNOWN_KEY, SpoolState.PARKED)
    assert with_size_on_disk(nothing, 7).present == (ByteRange(0, 7),)
    assert with_size_on_disk(RECORD, 10) is RECORD
    short = with_size_on_disk(RECORD, 4)
    assert (short.size, short.present) == (4, (ByteRange(0, 4),))
    untouched = replace(RECORD, base=BASE, base_limit=10, present=())
    assert with_size_on_disk(untouched, 10) is untouched
