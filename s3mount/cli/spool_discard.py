"""``s3mount spool discard``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol

import trio

from s3mount.cli import say_failure
from s3mount.cli.spool_places import (
    Found,
    Place,
    find_places,
    is_job_name,
    jobs,
    printable,
    select,
    select_jobs,
)
from s3mount.cli.spool_work import Work, described, failed, open_work
from s3mount.core.exits import Exit
from s3mount.core.rename_job import state_if_given_up
from s3mount.core.spool_commands import Refusal, refuse_giving_up
from s3mount.data.job_journal import JobJournal, JobSummary
from s3mount.errors import FsError, StartupError


class _Discarding(Protocol):
    """One thing that was named."""

    def __call__(self, work: Work, *, is_sure: bool) -> bool:
        """Discard it, asking first unless *is_sure*; return whether it is gone. Raises: StartupError."""


def run(arguments: argparse.Namespace) -> int:
    """Delete files from the spool and give up renames of directories, each after a question.

    Returns: Exit.OK if all that were named are gone, else the code of the last that is not.
    Raises: StartupError.
    """
    chosen = list(_chosen(find_places(arguments.where, arguments.spool_dir), arguments.ids))
    if not arguments.yes and not sys.stdin.isatty():
        raise StartupError(
            "discard", "there is no terminal to ask at", "give --yes if you are sure", Exit.USAGE
        )
    code = int(Exit.OK)
    for place in dict.fromkeys(place for place, _ in chosen):
        with open_work(place) as work:
            for discard in (discard for at, discard in chosen if at is place):
                try:
                    is_gone = discard(work, is_sure=arguments.yes)
                except StartupError as error:
                    say_failure(error)
                    code = error.exit_code
                else:
                    code = code if is_gone else int(Exit.NOT_DRAINED)
    return code


def _chosen(places: list[Place], names: Sequence[str]) -> Iterator[tuple[Place, _Discarding]]:
    """Yield what *names* name. Raises: StartupError (it is not there)."""
    for place, found in select(places, [name for name in names if not is_job_name(name)]):
        yield place, partial(_discard_file, found)
    for place, job in select_jobs(places, [name for name in names if is_job_name(name)]):
        yield place, partial(_discard_job, job)


def _discard_file(found: Found, work: Work, *, is_sure: bool) -> bool:
    with work.claimed(work.find(found)) as claimed:
        title = described(claimed.record)
        if not is_sure and not _confirmed(f"Delete {title}? No other place has these bytes."):
            print(f"s3mount: {title} stays in the spool")
            return False
        try:
            claimed.delete()
        except FsError as error:
            raise failed(claimed.record, Refusal(str(error), "see the spool's disk")) from error
    print(f"s3mount: {title} is deleted")
    return True


def _discard_job(known: JobSummary, work: Work, *, is_sure: bool) -> bool:
    """Forget a rename, and ask no server: its bucket may be gone for good."""
    job = next((one for one in jobs(work.place)[0] if one.id == known.id), None)
    if job is None:
        raise _failed(known, Refusal("it is in the spool no more", "see `s3mount spool list`"))
    if (refusal := refuse_giving_up(job.cause, work.mount)) is not None:
        raise _failed(job, refusal)
    old, new = printable(job.old), printable(job.new)
    title = f"{_named(job)} ({job.phase.value}, {job.done} of {job.total})"
    state = state_if_given_up(job.phase, old, new, done=job.done, total=job.total)
    if not is_sure and not _confirmed(f"Give up {title}? As far as the bucket is there, {state}."):
        print(f"s3mount: {title} stays in the spool")
        return False
    try:
        trio.run(JobJournal(work.guest.rows.journal).finish, job.id)
    except FsError as error:
        raise _failed(job, Refusal(str(error), "see the spool's disk")) from error
    print(f"s3mount: {title} is given up: as far as the bucket is there, {state}")
    return True


def _failed(job: JobSummary, refusal: Refusal) -> StartupError:
    return StartupError(_named(job), printable(refusal.cause), refusal.advice, Exit.NOT_DRAINED)


def _named(job: JobSummary) -> str:
    return f"rename {job.name} ({printable(job.old)} -> {printable(job.new)})"


def _confirmed(question: str) -> bool:
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False
