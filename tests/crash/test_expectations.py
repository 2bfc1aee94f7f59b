"""The oracle finds what it is there to find, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.crash.agent import Progress
from tests.crash.oracle import Expectation, Kept
from tests.crash.works import Change, Edit, Files, Rename, Work, rename, small


def complaints(
    work: Work, progress: Progress, bucket: Files, *spool: Kept, is_power_cut: bool = False
) -> list[str]:
    """Return what the oracle says."""
    expected = Expectation(work, progress, is_power_cut=is_power_cut)
    return expected.judge(bucket, list(spool), {"d"}).complaints


def end_of(work: Work, steps: int) -> Files:
    """Return what so many steps lead to."""
    files = work.initial
    for step in work.steps[:steps]:
        files = step.after(files)
    return files


@pytest.mark.parametrize("make", [small, rename])
def test_what_the_steps_lead_to_is_right(make: Callable[[], Work]) -> None:
    """Every step done, and all of it in the bucket; and nothing is missed."""
    work = make()
    for done in range(len(work.steps) + 1):
        assert complaints(work, Progress(done), end_of(work, done)) == []


def test_a_promised_file_that_is_absent_old_or_mixed_is_lost() -> None:
    """Each of these is a complaint, and its bytes count as lost."""
    work = Work()
    work.there_is("f", 100)
    work.write("f", 200)
    new = end_of(work, 1)["f"]
    for bad in ({}, work.initial, {"f": new[:150] + bytes(50)}, {"f": new, "g": b""}):
        assert complaints(work, Progress(1), bad)
    assert Expectation(work, Progress(1)).judge({}, [], set()).lost_bytes == 200


def test_a_file_in_flight_is_old_or_new_and_nothing_between() -> None:
    """A close that did not return leaves either version; once fsync has, the new one."""
    work = Work()
    work.there_is("f", 100)
    work.write("f", 200, syncs=True)
    old, new = work.initial, end_of(work, 1)
    begun = Progress(0, step=0)
    assert complaints(work, begun, old) == complaints(work, begun, new) == []
    assert complaints(work, begun, {"f": b""})
    assert complaints(work, begun, {"f": new["f"][:100]})
    assert complaints(work, Progress(0, step=0, edits=1, is_synced=True), old)


def test_written_bytes_must_be_in_the_spool_if_not_in_the_bucket() -> None:
    """Of three pieces two were answered for: both, or the whole file in the bucket."""
    work = Work()
    work.write("f", 300, piece=100)
    data = end_of(work, 1)["f"]
    begun = Progress(0, step=0, edits=2)

    def kept(data: bytes) -> Kept:
        return Kept("1.data", "f", "parked", data, ((0, len(data)),), is_over_object=False)

    assert complaints(work, begun, {"f": data}) == []
    for size in (200, 250, 300):
        assert complaints(work, begun, {}, kept(data[:size])) == []
    assert complaints(work, begun, {})
    assert complaints(work, begun, {}, kept(data[:199]))
    assert complaints(work, begun, {}, kept(data[:100] + bytes(100)))
    assert complaints(work, Progress(1), {"f": data}, kept(data)), "nobody needs it any more"


def test_over_an_object_only_the_written_bytes_are_the_spools() -> None:
    """What was not written is the object's, and not in the spool."""
    work = Work()
    work.there_is("f", 10_000)
    work.edit("f", Edit(5000, b"x" * 10), Edit(100, b"y" * 10))
    data = bytearray(10_000)
    data[5000:5010] = b"x" * 10
    kept = Kept("1.data", "f", "parked", bytes(data), ((4096, 8192),), is_over_object=True)
    begun = Progress(0, step=0, edits=1)
    assert complaints(work, begun, work.initial, kept) == []
    assert complaints(work, Progress(0, step=0, edits=2), work.initial, kept)


def test_a_rename_in_flight_keeps_the_file() -> None:
    """Old name, new name or both; never neither. A directory is not torn."""
    work = Work(initial={"a": b"1", "d/x": b"2", "d/y": b"3"}, steps=[Rename("a", "b"), Rename("d", "e")])
    begun = Progress(0, step=0)
    rest = {"d/x": b"2", "d/y": b"3"}
    for good in ({"a": b"1"}, {"b": b"1"}, {"a": b"1", "b": b"1"}):
        assert complaints(work, begun, {**rest, **good}) == []
    assert complaints(work, begun, rest)
    begun = Progress(1, step=1)
    assert complaints(work, begun, {"b": b"1", **rest}) == []
    assert complaints(work, begun, {"b": b"1", "e/x": b"2", "e/y": b"3"}) == []
    assert complaints(work, begun, {"b": b"1", "e/x": b"2", "d/y": b"3"})


def test_a_power_cut_may_forget_a_rename_and_a_removal_and_no_write() -> None:
    """Where the bucket had not heard of either: the name comes back, with its bytes."""
    work = Work(
        options=("--write-back",), steps=[Change("a", os.O_CREAT, (Edit(0, b"1"),)), Rename("a", "b")]
    )
    assert complaints(work, Progress(2), {"a": b"1"}, is_power_cut=True) == []
    assert complaints(work, Progress(2), {"b": b"1"}, is_power_cut=True) == []
    assert complaints(work, Progress(2), {"a": b"1"})
    assert complaints(work, Progress(1), {}, is_power_cut=True)


@pytest.mark.parametrize("is_power_cut", [False, True])
def test_in_write_back_mode_a_file_being_changed_again_is_in_the_bucket_as_it_was_closed(
    is_power_cut: bool,
) -> None:
    """Not as it was before, whatever the spool has; what was written since is in the spool."""
    work = Work(options=("--write-back",))
    work.there_is("f", 100)
    work.append("f", 50)
    work.append("f", 60, version=2)
    work.write("f", 10, version=3)

    def kept(data: bytes, start: int = 100) -> Kept:
        return Kept("1.data", "f", "parked", data, ((start, len(data)),), is_over_object=True)

    for done, edit in ((1, end_of(work, 2)["f"]), (2, end_of(work, 3)["f"])):
        closed = end_of(work, done)
        begun, edited = Progress(done, step=done), Progress(done, step=done, edits=1)
        own = kept(edit, 150 if done == 1 else 0)
        assert complaints(work, begun, closed, is_power_cut=is_power_cut) == []
        assert complaints(work, begun, {"f": edit}, is_power_cut=is_power_cut) == []
        assert complaints(work, edited, closed, own, is_power_cut=is_power_cut) == []
        assert bool(complaints(work, edited, closed, is_power_cut=is_power_cut)) is not is_power_cut
        for progress in (begun, edited):
            assert complaints(work, progress, work.initial, is_power_cut=is_power_cut)
            assert complaints(work, progress, work.initial, own, is_power_cut=is_power_cut)
            assert complaints(work, progress, work.initial, kept(edit, 0), is_power_cut=is_power_cut)
    assert complaints(work, Progress(2), work.initial, kept(end_of(work, 2)["f"]), is_power_cut=is_power_cut)


def test_only_a_power_cut_may_leave_a_file_without_a_name() -> None:
    """And only while something was being written."""
    work = Work()
    work.write("f", 300)
    kept = Kept("1.data", "", "parked", bytes(300), ((0, 300),), is_over_object=False)
    begun = Progress(0, step=0, edits=1)
    assert complaints(work, begun, {}, kept, is_power_cut=True) == []
    assert complaints(work, begun, {}, is_power_cut=True) == []
    assert complaints(work, begun, {}, kept)
    assert complaints(work, Progress(1), end_of(work, 1), kept, is_power_cut=True)
