"""Directory renames under way: begun by rename(2), or left by an earlier mount and gone on with.

A job has a task of its own, so that it outlives its caller. Up to its first delete it is undone if it
fails while its caller waits; from then on, and where nobody waits, it goes on until it is finished.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from s3mount.core.rename_job import JobPhase, after_failure
from s3mount.data.job_journal import JobJournal, JobRecord, JobSummary
from s3mount.errors import FsError, InProgress, StoreError, collapsed
from s3mount.fs.file_services import FileServices
from s3mount.fs.open_files import OpenFiles
from s3mount.fs.rename_job import Progress, RenameJob
from s3mount.fs.rename_tree import MovingTree, Place, find_place
from s3mount.fs.tree import Tree
from s3mount.meta.busy_names import Access
from s3mount.meta.namespace import Namespace

log = logging.getLogger(__name__)

PROGRESS_S = 5.0
"""How often a job says how far it is."""

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
"""Before a job that failed is tried again; doubled each time. The store's own retries lie below it."""

ANSWER_S = 1.0
"""So long before its deadline rename(2) is answered, with EINPROGRESS, if the job is not done."""

_ACCESS = {
    JobPhase.COPYING: (Access.READ, Access.NONE),
    JobPhase.DELETING: (Access.NONE, Access.FREE),
    JobPhase.UNDOING: (Access.FREE, Access.NONE),
}
"""What may be done below the old and the new name."""


class Jobs:
    """All jobs of a mount. Make it with :meth:`open`."""

    def __init__(
        self,
        services: FileServices,
        open_files: OpenFiles,
        tree: Tree,
        journal: JobJournal,
        nursery: trio.Nursery,
    ) -> None:
        self._services = services
        self._open_files = open_files
        self._tree = tree
        self._journal = journal
        self._nursery = nursery
        self._runners: dict[int, JobRunner] = {}
        self._found: list[JobRunner] = []

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        services: FileServices,
        open_files: OpenFiles,
        tree: Tree,
        journal: JobJournal,
    ) -> AsyncIterator[Jobs]:
        """Run jobs while the block runs. At its end they stop, and the next mount goes on with them."""
        with collapsed():
            async with trio.open_nursery() as nursery:
                yield cls(services, open_files, tree, journal, nursery)
                nursery.cancel_scope.cancel()

    async def rename(self, old: str, new: str, place: Place, *, keeps_top: bool) -> None:
        """Move the tree *old* to *new*, where nothing is but, *keeps_top*, the marker of an empty directory.

        Cancel: the job goes on in the background.
        Raises: Busy, InProgress (the deadline comes near; the job goes on), what the store and the spool's
            disk raise: then the old name has everything it had, unless the job had begun to delete.
        """
        busy = self._services.namespace.busy
        busy.check_tree(old)
        busy.check_tree(new)
        claims = [busy.add(old, Access.READ), busy.add(new, Access.NONE)]
        try:
            record = await self._journal.begin(old, new, keeps_top=keeps_top, now_ns=time.time_ns())
            runner = self._runner(record, place)
        finally:
            for claim in claims:
                busy.remove(claim)
        self._start(runner)
        await runner.wait()

    def find(self) -> None:
        """Take up what an earlier mount has left: the names are busy from here on."""
        self._found = [self._runner(record, None) for record in self._journal.unfinished()]

    def resume(self) -> None:
        """Go on with the jobs that were found, in the background."""
        found, self._found = self._found, []
        for runner in found:
            self._start(runner)

    async def drain(self) -> list[JobSummary]:
        """Give every job one more try; return those that the next mount has to go on with."""
        for runner in list(self._runners.values()):
            runner.hurry()
            await runner.ended.wait()
        return self._journal.summaries()

    def summaries(self) -> list[JobSummary]:
        """Return the jobs as they stand."""
        return self._journal.summaries()

    def _runner(self, record: JobRecord, place: Place | None) -> JobRunner:
        services, journal = self._services, self._journal
        is_fresh = place is not None
        tree = MovingTree(record, journal, services, self._open_files, self._tree, place)
        job = RenameJob(record, journal, services.store, services.uploader, tree, is_fresh=is_fresh)
        return JobRunner(job, tree, journal, services.namespace, has_caller=is_fresh)

    def _start(self, runner: JobRunner) -> None:
        number = runner.record.id
        self._runners[number] = runner
        self._nursery.start_soon(runner.run, lambda: self._runners.pop(number, None))


class JobRunner:
    """Runs one job; the names of its trees are busy from the beginning.

    ``ended`` is set once the runner has stopped, whether the job is done or the next mount has to go on.

    Args:
        has_caller: rename(2) waits, see :meth:`wait`.
    """

    def __init__(
        self,
        job: RenameJob,
        tree: MovingTree,
        journal: JobJournal,
        namespace: Namespace,
        *,
        has_caller: bool,
    ) -> None:
        self.record = job.record
        self.phase = job.record.phase
        self.ended = trio.Event()
        self._job = job
        self._tree = tree
        self._journal = journal
        self._namespace = namespace
        self._has_caller = has_caller
        self._failure: FsError | None = None  # why it is being undone
        self._answer: FsError | None = None
        self._answered = trio.Event()
        self._is_failing = False
        self._is_last_try = False
        self._hurry = trio.Event()
        self._old = namespace.busy.add(self.record.old, Access.NONE)
        self._new = namespace.busy.add(self.record.new, Access.NONE)
        self._set_access()

    async def wait(self) -> None:
        """Return once the rename is done, for its caller.

        Cancel: the job goes on.
        Raises: InProgress (the deadline comes near), what made the job fail.
        """
        deadline = trio.current_effective_deadline()
        margin = min(ANSWER_S, (deadline - trio.current_time()) / 10)
        try:
            with trio.move_on_at(deadline - margin):
                await self._answered.wait()
        finally:
            self._has_caller = False
            self._set_access()
        if not self._answered.is_set():
            raise InProgress(f"the rename of {self._name} goes on")
        if self._answer is not None:
            raise self._answer

    async def run(self, on_end: Callable[[], object]) -> None:
        """Run the job to its end, whatever it takes. Raises: nothing."""
        log.info("renaming %s (%s)", self._name, self.phase.value)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._report)
                await self._until_done()
                nursery.cancel_scope.cancel()
            self._give_answer(StoreError(f"the rename of {self._name} was interrupted"))
        finally:
            on_end()
            self.ended.set()

    def hurry(self) -> None:
        """Try again now and, if that fails, leave the job to the next mount."""
        self._is_last_try = True
        self._hurry.set()

    async def _until_done(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            try:
                await self._go_on()
                return
            except FsError as exc:
                if await self._turn_back(exc):
                    continue
                self._note(exc)
            except Exception:
                log.exception("rename of %s: a bug in s3mount; the next mount goes on with it", self._name)
                return
            if self._is_last_try:
                return
            # Jitter, so that jobs that failed together do not come back together.
            with trio.move_on_after(random.uniform(0.5, 1) * wait_s):
                await self._hurry.wait()
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def _go_on(self) -> None:
        """Do what is left to do in this phase and the next. Raises: FsError."""
        if self.phase is JobPhase.COPYING:
            if not self._has_caller and not self._tree.is_placed:
                self._tree.take(await find_place(self._namespace, self.record))
            async with self._tree.held():
                await self._job.copy_all()
                await self._tree.keep_parent_alive()
                self._tree.rekey()
                await self._enter(JobPhase.DELETING)
                self._tree.switch()
        if self.phase is JobPhase.DELETING:
            await self._job.delete_all()
        else:
            await self._job.undo_all()
        await self._journal.finish(self.record.id)
        self._done()

    async def _enter(self, phase: JobPhase) -> None:
        await self._journal.enter(self.record.id, phase)
        self.phase = phase
        self._set_access()

    async def _turn_back(self, exc: FsError) -> bool:
        """Begin to undo the job after *exc* if that is what its caller expects; return whether."""
        is_passing = isinstance(exc, StoreError)
        was = self.phase
        may = was is JobPhase.DELETING and self._has_caller and not is_passing and await self._is_whole()
        after = after_failure(was, is_passing=is_passing, has_caller=self._has_caller, may_turn_back=may)
        if after is was:
            return False
        self._failure = exc
        log.info("the rename of %s fails and is undone: %s", self._name, exc)
        if was is JobPhase.DELETING:
            self._tree.switch_back()
        else:
            self._tree.rekey_back()
        try:
            await self._enter(after)
        except FsError as failure:
            # Undone all the same: a job in its former phase that finds no copies deletes nothing.
            log.warning("the rename of %s is undone, which could not be recorded: %s", self._name, failure)
            self.phase = after
            self._set_access()
        return True

    async def _is_whole(self) -> bool:
        try:
            return await self._job.is_whole() and self._tree.may_switch_back
        except FsError:
            return False

    def _note(self, exc: FsError) -> None:
        """Say that the job failed and is to be tried again; a caller who is waiting in vain is told."""
        if self.phase is JobPhase.UNDOING or not isinstance(exc, StoreError):
            self._give_answer(self._failure or exc)
        if self._is_failing:
            log.info("the rename of %s (%s) fails again: %s", self._name, self.phase.value, exc)
        else:
            log.warning(
                "the rename of %s (%s) fails, and is tried again until it is done: %s",
                *(self._name, self.phase.value, exc),
            )
        self._is_failing = True
        try:
            self._journal.note(self.record.id, cause=str(exc))
        except FsError as failure:
            log.debug("the cause is not recorded: %s", failure)

    def _done(self) -> None:
        is_undone = self.phase is JobPhase.UNDOING
        left = [] if is_undone else self._job.progress.left
        self._namespace.busy.remove(self._old)
        self._namespace.busy.remove(self._new)
        self._tree.settle(left_behind=bool(left))
        self._tree.close()
        progress = self._job.progress
        said = "undone" if is_undone else "done"
        log.info("the rename of %s is %s: %d copied, %d deleted", self._name, said, *_counts(progress))
        if left:
            log.warning(
                "%d object(s) under %s were changed or added by others while it was renamed, and stay "
                "there, %r among them",
                *(len(left), self.record.old, left[0]),
            )
        self._give_answer(self._failure)

    def _give_answer(self, answer: FsError | None) -> None:
        """Answer the caller; only the first answer counts."""
        if not self._answered.is_set():
            self._answer = answer
            self._answered.set()

    def _set_access(self) -> None:
        self._old.access, self._new.access = _ACCESS[self.phase]
        if self.phase is JobPhase.DELETING and self._has_caller:
            # It may still turn back, and then must find the tree as it was.
            self._new.access = Access.READ

    async def _report(self) -> None:
        last = _counts(self._job.progress)
        while True:
            await trio.sleep(PROGRESS_S)
            counts = _counts(self._job.progress)
            if counts != last:
                log.info("rename of %s (%s): %d copied, %d deleted", self._name, self.phase.value, *counts)
            last = counts

    @property
    def _name(self) -> str:
        return f"{self.record.old!r} to {self.record.new!r}"


def _counts(progress: Progress) -> tuple[int, int]:
    return progress.copied, progress.deleted
