"""The journal's tables of directory renames."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from s3mount.core.rename_job import JobObject, JobPhase, Version
from s3mount.data.job_journal import FORGOTTEN_AT_ONCE, JobJournal, list_jobs
from s3mount.data.journal import Journal

ODD = ["", "d/", "d/é x\n", "nul\0", "'; --", "a" * 1000]


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[JobJournal]:
    """An empty journal."""
    journal = Journal(str(tmp_path))
    yield JobJournal(journal)
    journal.close()


def one(name: str, **more: object) -> JobObject:
    """Return a record of that name."""
    return replace(JobObject(name, Version('"e"', 3, 10**18), 10**18 + 7), **more)  # type: ignore[arg-type]


def test_what_was_recorded_is_there_after_a_crash(jobs: JobJournal, tmp_path: Path) -> None:
    """Another connection, as of the next mount, sees every job and object as it was recorded."""
    record = trio.run(lambda: jobs.begin("old/", "new/", keeps_top=True, now_ns=5))
    other = trio.run(lambda: jobs.begin("o/", "n/", keeps_top=False, now_ns=6))
    objects = [one(name) for name in ODD]
    jobs.add(record.id, objects)
    jobs.add(record.id, [replace(objects[2], copy_etag='"c"')])
    jobs.note(record.id, cause="it is so")
    trio.run(jobs.enter, other.id, JobPhase.DELETING)
    after = Journal(str(tmp_path))
    try:
        again = JobJournal(after)
        first, second = again.unfinished()
        assert (first.old, first.new, first.keeps_top, first.phase) == (
            "old/",
            "new/",
            True,
            JobPhase.COPYING,
        )
        assert (first.began_ns, first.cause, second.phase) == (5, "it is so", JobPhase.DELETING)
        want = {found.name: found for found in objects} | {ODD[2]: replace(objects[2], copy_etag='"c"')}
        assert again.objects(first.id, [*ODD, "absent"]) == want
        assert again.objects(second.id, ODD) == {}
        assert again.copied_after(first.id, "", 10) == [ODD[2]]
        assert again.copied(first.id) == 1
    finally:
        after.close()


def test_jobs_are_listed_beside_a_mount_and_without(jobs: JobJournal, tmp_path: Path) -> None:
    """Done and total are those of the phase."""
    assert list_jobs(str(tmp_path / "none")) == []
    assert list_jobs(str(tmp_path)) == []
    record = trio.run(lambda: jobs.begin("old/", "new/", keeps_top=False, now_ns=5))
    jobs.add(record.id, [one("a"), one("b", copy_etag='"c"'), one("c", copy_etag='"c"')])
    (job,) = list_jobs(str(tmp_path))
    assert (job.id, job.kind, job.old, job.new) == (record.id, "rename", "old/", "new/")
    assert (job.phase, job.done, job.total, job.since_ns, job.cause) == (JobPhase.COPYING, 2, 3, 5, "")
    trio.run(jobs.enter, record.id, JobPhase.DELETING)
    jobs.note(record.id, deleted=1, cause="away")
    (job,) = jobs.summaries()
    assert (job.phase, job.done, job.total, job.cause) == (JobPhase.DELETING, 1, 2, "away")
    jobs.note(record.id, deleted=5)
    assert jobs.summaries()[0].done == 2
    trio.run(jobs.finish, record.id)
    assert list_jobs(str(tmp_path)) == []


def test_a_hundred_thousand_objects(jobs: JobJournal) -> None:
    """They are recorded, looked up and forgotten; no transaction is large enough to hold the mount up."""

    async def main() -> None:
        record = await jobs.begin("old/", "new/", keeps_top=False, now_ns=5)
        names = [f"{number:06}" for number in range(100_000)]
        longest = 0.0
        for start in range(0, len(names), 1000):
            began = time.perf_counter()
            jobs.add(record.id, [one(name, copy_etag='"c"') for name in names[start : start + 1000]])
            longest = max(longest, time.perf_counter() - began)
        assert jobs.objects(record.id, names[500:1500]).keys() == set(names[500:1500])
        assert jobs.copied(record.id) == 100_000
        await jobs.finish(record.id)
        assert jobs.unfinished() == []
        assert jobs.objects(record.id, names[:10]) == {}
        print(f"longest transaction of 1,000: {longest * 1000:.1f} ms, forgotten {FORGOTTEN_AT_ONCE} at once")

    trio.run(main)


def test_a_jobs_number_is_never_used_again(jobs: JobJournal) -> None:
    """What is left of a job that was being forgotten must not be taken for another's."""

    async def main() -> None:
        first = await jobs.begin("a/", "b/", keeps_top=False, now_ns=1)
        await jobs.finish(first.id)
        second = await jobs.begin("a/", "b/", keeps_top=False, now_ns=1)
        assert second.id > first.id

    trio.run(main)
