"""The requests of a directory's rename: copying, deleting and undoing, each to be begun again at any time.

What to do with an object is decided in core/rename_job.py, what this host shows of it in rename_tree.py,
and when to try again in jobs.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import trio

from s3mount.core.objects import ObjectStat
from s3mount.core.rename_job import (
    CopyStep,
    DeleteStep,
    JobObject,
    UndoStep,
    after_comparing,
    looks_copied,
    next_copy,
    next_delete,
    next_undo,
    version_of,
)
from s3mount.data.job_journal import JobJournal, JobRecord
from s3mount.data.uploader import Uploader
from s3mount.errors import ConditionFailed, IllegalName, NotFound, StoreError, collapsed
from s3mount.fs.rename_copy import Copier
from s3mount.fs.rename_tree import MovingTree
from s3mount.store.base import ObjectStore

DELETE_BATCH = 1000
"""DeleteObjects takes no more keys in one request."""

COPIES_AT_ONCE = 16
"""Copies under way at once; the store's own limit is what counts."""

TRIES = 5
"""An object that changes each time before it is copied stays where it is after so many."""


@dataclass
class Progress:
    """What a job has done since it was begun or resumed; ``left`` are keys that stay at the old name."""

    copied: int = 0
    deleted: int = 0
    left: list[str] = field(default_factory=list)


class RenameJob:
    """One job's requests.

    Every method raises what the store and the spool's disk raise, and may then be called again. A cancel
    leaves what is under way to be finished, and the journal true.

    Args:
        is_fresh: nothing was copied yet, and nothing is at the new name but the marker of an empty
            directory.
    """

    def __init__(
        self,
        record: JobRecord,
        journal: JobJournal,
        store: ObjectStore,
        uploader: Uploader,
        tree: MovingTree,
        *,
        is_fresh: bool,
    ) -> None:
        self.record = record
        self.progress = Progress()
        self._journal = journal
        self._store = store
        self._uploader = uploader
        self._copier = Copier(store, uploader)
        self._tree = tree
        # Elsewhere it would take three requests instead of one.
        self._creates = uploader.facts.copy_if_none_match
        self._is_fresh = is_fresh
        self._has_seen_copies = False
        self._old, self._new = record.old, record.new
        self._limiter = trio.CapacityLimiter(COPIES_AT_ONCE)

    # Copying

    async def copy_all(self) -> None:
        """Copy every object under the old name that is not copied yet."""
        targets: dict[str, str] = {}
        if not self._is_fresh:
            await self._uploader.abort_left()
            targets = await self._etags(self._new)
        self._is_fresh = False
        async for objects, _ in Pages(self._store, self._old):
            await self._copy_page(objects, targets)
        self._has_seen_copies = True

    async def _copy_page(self, objects: Sequence[ObjectStat], targets: dict[str, str]) -> None:
        known = self._recorded(objects, self._old)
        fresh: list[JobObject] = []
        todo: list[tuple[CopyStep, ObjectStat, JobObject]] = []
        for listed in objects:
            name = listed.key[len(self._old) :]
            version = version_of(listed)
            step = next_copy(known.get(name), version, targets.get(name))
            if step in (CopyStep.DONE, CopyStep.LEAVE):
                continue
            stat, mtime_ns = self._tree.refined(listed)
            record = known.get(name)
            if record is None or (record.copy_etag is None and record.source != version):
                record = JobObject(name, version, mtime_ns)
                fresh.append(record)
            elif record.source != version:
                record = JobObject(name, version, mtime_ns)  # recorded once the new copy is made
            todo.append((step, stat, record))
        if fresh:
            self._journal.add(self.record.id, fresh)
        with collapsed():
            async with trio.open_nursery() as nursery:
                for step, stat, record in todo:
                    nursery.start_soon(self._copy_one, step, stat, record)

    async def _copy_one(self, step: CopyStep, stat: ObjectStat, record: JobObject) -> None:
        async with self._limiter:
            for _ in range(TRIES):
                try:
                    stat, record = await self._described(stat, record)
                    if step is CopyStep.COMPARE:
                        step = await self._compare(stat, record)
                    if step is not CopyStep.LEAVE:
                        creates = step is CopyStep.COPY and self._creates
                        await self._copy(stat, record, if_none_match=creates)
                    return
                except (ConditionFailed, NotFound) as exc:
                    current = await self._current(stat.key)
                    if current is None:
                        return  # deleted by somebody else: nothing is left to be moved
                    if current.etag != stat.etag:
                        stat, record = current, self._changed(record, current)
                    elif step is CopyStep.COPY and self._creates:
                        step = CopyStep.COMPARE  # something has come to the new name
                    else:
                        raise StoreError(f"copy of {stat.key!r}: {exc}") from exc

    async def _described(self, stat: ObjectStat, record: JobObject) -> tuple[ObjectStat, JobObject]:
        described = await self._copier.described(stat)
        if described.etag == stat.etag and described.size == stat.size:
            return described, record
        return described, self._changed(record, described)

    def _changed(self, record: JobObject, current: ObjectStat) -> JobObject:
        """Record that the object is another version by now."""
        changed = JobObject(record.name, version_of(current), current.last_modified_ns)
        self._journal.add(self.record.id, [changed])
        return changed

    async def _compare(self, stat: ObjectStat, record: JobObject) -> CopyStep:
        target = await self._current(self._new + record.name)
        if target is None:
            return CopyStep.COPY
        step = after_comparing(record.name, stat, target, record.mtime_ns)
        if step is CopyStep.DONE:
            self._journal.add(self.record.id, [replace(record, copy_etag=target.etag)])
            return CopyStep.LEAVE
        return step

    async def _copy(self, stat: ObjectStat, record: JobObject, *, if_none_match: bool) -> None:
        new_key = self._new + record.name
        copy, attributes = await self._copier.copy(
            stat, new_key, record.mtime_ns, if_none_match=if_none_match
        )
        self._journal.add(self.record.id, [replace(record, copy_etag=copy.etag)])
        self._tree.note_copy(stat, copy, attributes)
        self.progress.copied += 1

    # Deleting

    async def delete_all(self) -> None:
        """Delete from under the old name every version that was copied, and no other."""
        # Later, or by another mount, it may be that somebody took the copies for rubbish.
        copies = None if self._has_seen_copies else await self._etags(self._new)
        self._has_seen_copies = False

        async def choose(objects: Sequence[ObjectStat]) -> set[str]:
            known = self._recorded(objects, self._old)
            doomed = set()
            for stat in objects:
                name = stat.key[len(self._old) :]
                record, version = known.get(name), version_of(stat)
                step = next_delete(record, version, has_copy=copies is None or name in copies)
                if step is DeleteStep.UNCOPIED and await self._current(self._new + name) is not None:
                    step = DeleteStep.DELETE  # MinIO lists no `a/b` where there is an object `a`
                if step is DeleteStep.DELETE:
                    doomed.add(name)
            return doomed

        self.progress.left = await self._clear(self._old, choose, keeps_top=False)

    async def is_whole(self) -> bool:
        """Whether every version that was copied is at the old name still."""
        found = 0
        async for objects, _ in Pages(self._store, self._old):
            known = self._recorded(objects, self._old)
            for stat in objects:
                record = known.get(stat.key[len(self._old) :])
                if record is None or record.copy_etag is None:
                    continue
                if record.source != version_of(stat):
                    return False
                found += 1
        return found == self._journal.copied(self.record.id)

    # Undoing

    async def undo_all(self) -> None:
        """Delete the copies from under the new name, and nothing else that is there."""
        await self._uploader.abort_left()

        async def choose(objects: Sequence[ObjectStat]) -> set[str]:
            known = self._recorded(objects, self._new)
            doomed = set()
            for stat in objects:
                name = stat.key[len(self._new) :]
                step = next_undo(known.get(name), stat.etag, keeps_top=self.record.keeps_top)
                if step is UndoStep.DELETE or (step is UndoStep.COMPARE and await self._is_copy(known[name])):
                    doomed.add(name)
            return doomed

        await self._clear(self._new, choose, keeps_top=self.record.keeps_top)

    async def _is_copy(self, record: JobObject) -> bool:
        source = await self._current(self._old + record.name)
        target = await self._current(self._new + record.name)
        return source is not None and target is not None and looks_copied(source, target, record.mtime_ns)

    # Both

    async def _clear(
        self,
        prefix: str,
        choose: Callable[[Sequence[ObjectStat]], Awaitable[set[str]]],
        *,
        keeps_top: bool,
    ) -> list[str]:
        """Delete what *choose* names of each page, right after the page has shown which versions there are.

        Markers go last, the lowest first, and with them those of directories that have none: SeaweedFS
        goes on listing a directory whose last key was deleted until its marker is deleted, though it may
        have none, and keeps a marker that it says it deleted while anything is below.

        Returns: the keys that stay.
        """
        markers = {"", *await self._directories()}
        while True:
            left: list[str] = []
            deleted = pages = 0
            async for objects, is_last in Pages(self._store, prefix):
                pages += 1
                doomed = await choose(objects)
                left += sorted({stat.key[len(prefix) :] for stat in objects}.difference(doomed))
                markers.update(*map(directories_of, doomed))
                files = doomed.difference(markers)
                deleted += len(files)
                if is_last:
                    needed = set[str]().union(*map(directories_of, left))
                    if left or keeps_top:
                        needed.add("")
                    files |= markers.difference(needed)
                await self._delete(prefix, files)
            # Where keys are deleted between its pages, not every server's listing shows all the others.
            if pages == 1 or not deleted:
                return [prefix + name for name in left]

    async def _delete(self, prefix: str, names: Iterable[str]) -> None:
        ordered = sorted((prefix + name for name in names), reverse=True)
        for start in range(0, len(ordered), DELETE_BATCH):
            batch = ordered[start : start + DELETE_BATCH]
            left = await self._store.delete_many(batch)
            self.progress.deleted += len(batch) - len(left)
            self._journal.note(self.record.id, deleted=len(batch) - len(left))
            if left:
                raise StoreError(f"{len(left)} object(s) could not be deleted, {left[0]!r} among them")

    async def _directories(self) -> set[str]:
        """Return the names, each with a slash at its end, of all directories that copies were made of."""
        found: set[str] = set()
        last = ""
        while names := self._journal.copied_after(self.record.id, last, DELETE_BATCH):
            found.update(*map(directories_of, names))
            last = names[-1]
            await trio.lowlevel.checkpoint()
        return found

    async def _etags(self, prefix: str) -> dict[str, str]:
        etags: dict[str, str] = {}
        async for objects, _ in Pages(self._store, prefix):
            etags |= {stat.key[len(prefix) :]: stat.etag for stat in objects}
        return etags

    def _recorded(self, objects: Sequence[ObjectStat], prefix: str) -> dict[str, JobObject]:
        for stat in objects:
            try:
                stat.key.encode()
            except UnicodeEncodeError as exc:
                raise IllegalName(f"{stat.key!r} is not UTF-8") from exc
        return self._journal.objects(self.record.id, [stat.key[len(prefix) :] for stat in objects])

    async def _current(self, key: str) -> ObjectStat | None:
        try:
            return await self._store.head(key)
        except NotFound:
            return None


class Pages:
    """The objects under *prefix* page by page, each with whether it is the last.

    No generator: one that a kill leaves unfinished would have to be closed.
    """

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._token: str | None = None
        self._is_done = False

    def __aiter__(self) -> Pages:
        return self

    async def __anext__(self) -> tuple[Sequence[ObjectStat], bool]:
        if self._is_done:
            raise StopAsyncIteration
        page = await self._store.list_page(self._prefix, delimiter="", token=self._token)
        self._token, self._is_done = page.next_token, not page.truncated
        return page.objects, self._is_done


def directories_of(name: str) -> list[str]:
    """Return the directories that *name* lies in, and itself if it is one."""
    return [name[: place + 1] for place, character in enumerate(name) if character == "/"]
