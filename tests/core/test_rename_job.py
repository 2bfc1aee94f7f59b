"""The decisions of a directory's rename: whatever happens in between, the last version of an object stays.

The model below is one object of the tree and its two keys: what is decided about one never depends on
another. Between any two requests others may store and delete at both keys, and the daemon may be killed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3mount.core.attributes import Attributes, to_metadata
from s3mount.core.objects import ObjectHeaders, ObjectStat
from s3mount.core.rename_job import (
    CopyStep,
    DeleteStep,
    JobObject,
    JobPhase,
    UndoStep,
    Version,
    after_comparing,
    after_failure,
    is_marker,
    looks_copied,
    next_copy,
    next_delete,
    next_undo,
    state_if_given_up,
    version_of,
    wanted_attributes,
)

SECOND = 10**9
NAME = "x"


def stat(
    body: int, time: int, mtime_ns: int | None = None, *, parts: bool = False, key: str = "k"
) -> ObjectStat:
    """Describe an object; *parts*: its ETag tells nothing of its bytes."""
    metadata = to_metadata({}, Attributes(mtime_ns=mtime_ns), is_directory=False)
    etag = f'"{body}-{time}"' if parts else f'"{body}"'
    return ObjectStat(key, 10, etag, time * SECOND, ObjectHeaders(metadata=metadata))


@dataclass
class Model:
    """One object under two keys, what the journal has of it, and who stored what.

    ``wanted`` are the bodies that others have stored and nobody of them has replaced or deleted since.
    *parts*: objects were uploaded in parts, so that a copy has another ETag.
    """

    parts: bool
    old: ObjectStat | None = None
    new: ObjectStat | None = None
    phase: JobPhase | None = JobPhase.COPYING
    known: JobObject | None = None
    time: int = 100
    bodies: dict[str, int] = field(default_factory=dict)
    wanted: set[int] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def put(self, place: str) -> None:
        """Somebody stores a body that nobody has stored before."""
        self.delete(place)
        body = next(self.numbers)
        self.time += 1
        self._set(place, body, None)
        self.wanted.add(body)

    def delete(self, place: str) -> None:
        """Somebody deletes what is there, and means it."""
        there = getattr(self, place)
        if there is not None:
            self.wanted.discard(self.bodies[there.etag])
            setattr(self, place, None)

    def copy(self, mtime_ns: int, *, if_none_match: bool) -> None:
        """The job's CopyObject."""
        assert self.old is not None
        self.time += 1
        if if_none_match and self.new is not None:
            return
        self._set("new", self.bodies[self.old.etag], mtime_ns)

    def check(self) -> None:
        """No body that somebody wants is gone."""
        there = {self.bodies[one.etag] for one in (self.old, self.new) if one is not None}
        assert self.wanted <= there, f"lost {self.wanted - there}"

    def _set(self, place: str, body: int, mtime_ns: int | None) -> None:
        made = stat(body, self.time, mtime_ns, parts=self.parts)
        self.bodies[made.etag] = body
        setattr(self, place, made)


def work(model: Model, fails: Iterator[str]) -> Iterator[None]:
    """The job as fs/rename_job.py does it; others act, and kill it, wherever it yields."""
    while model.phase is not None:
        yield
        phase = model.phase
        failure = next(fails, "")
        if failure:
            intact = model.known is None or (
                model.old is not None and version_of(model.old) == model.known.source
            )
            model.phase = after_failure(
                phase,
                is_passing=failure == "passing",
                has_caller=failure == "with caller",
                may_turn_back=intact,
            )
            continue
        if phase is JobPhase.COPYING:
            yield from copying(model)
        elif phase is JobPhase.DELETING:
            yield from deleting(model)
        else:
            yield from undoing(model)


def copying(model: Model) -> Iterator[None]:
    target_etag = None if model.new is None else model.new.etag
    yield
    for _ in range(5):
        source = model.old
        if source is None:
            break
        yield
        mtime_ns = source.last_modified_ns
        step = next_copy(model.known, version_of(source), target_etag)
        if step in (CopyStep.COPY, CopyStep.COMPARE) and model.known is None:
            model.known = JobObject(NAME, version_of(source), mtime_ns)
            yield
        target = model.new
        if step is CopyStep.COMPARE:
            step = CopyStep.COPY if target is None else after_comparing(NAME, source, target, mtime_ns)
            if step is CopyStep.DONE:
                assert target is not None
                model.known = JobObject(NAME, version_of(source), mtime_ns, target.etag)
        if step in (CopyStep.DONE, CopyStep.LEAVE):
            break
        # A copy of ours is replaced in a window that S3 does not close: nobody is let in here.
        if step is CopyStep.COPY:
            yield
        elif model.new is not None and target_etag != model.new.etag:
            continue
        if model.old is None or model.old.etag != source.etag:
            continue  # 412: the source is another one by now
        if step is CopyStep.COPY and model.new is not None:
            target_etag = model.new.etag  # 412: something came to the new name
            continue
        model.copy(mtime_ns, if_none_match=step is CopyStep.COPY)
        assert model.new is not None
        etag = model.new.etag
        yield
        model.known = JobObject(NAME, version_of(source), mtime_ns, etag)
        break
    yield
    model.phase = JobPhase.DELETING


def deleting(model: Model) -> Iterator[None]:
    has_copy = model.new is not None
    if model.old is not None:
        step = next_delete(model.known, version_of(model.old), has_copy=has_copy)
        if step is DeleteStep.DELETE:
            model.old = None
    yield
    model.phase = None


def undoing(model: Model) -> Iterator[None]:
    if model.new is not None:
        step = next_undo(model.known, model.new.etag, keeps_top=False)
        if step is UndoStep.COMPARE:
            assert model.known is not None
            ours = model.old is not None and looks_copied(model.old, model.new, model.known.mtime_ns)
            step = UndoStep.DELETE if ours else UndoStep.LEAVE
        if step is UndoStep.DELETE:
            model.new = None
    yield
    model.phase = None


ACTS = ("step", "crash", "put old", "put new", "delete old", "delete new")


def play(acts: list[str], fails: list[str], *, parts: bool) -> Model:
    """Carry *acts* out, then the job to its end; nothing that is wanted is missing at any time."""
    model = Model(parts)
    model.put("old")
    failures = iter(fails)
    job = work(model, failures)
    for act in acts:
        if act == "crash":
            job = work(model, failures)
        elif act == "step":
            next(job, None)
        else:
            kind, place = act.split()
            getattr(model, kind)(place)
        model.check()
    for _ in work(model, failures):
        model.check()
    model.check()
    return model


@pytest.mark.parametrize("parts", [False, True], ids=["md5", "parts"])
@pytest.mark.parametrize("fails", [[], ["", "permanent"], ["", "", "permanent"], ["with caller"]], ids=str)
def test_nothing_is_lost_in_any_history_of_two_acts(fails: list[str], parts: bool) -> None:
    """Two acts of others or crashes, each at every point of the job: all of them."""
    for first, second in itertools.product(ACTS[1:], repeat=2):
        for before, between in itertools.product(range(14), repeat=2):
            play(["step"] * before + [first] + ["step"] * between + [second], fails, parts=parts)


@given(
    acts=st.lists(st.sampled_from(ACTS + ("step",) * 6), max_size=40),
    fails=st.lists(st.sampled_from(("", "", "passing", "permanent", "with caller")), max_size=8),
    parts=st.booleans(),
)
def test_nothing_is_lost_in_random_histories(acts: list[str], fails: list[str], parts: bool) -> None:
    """Whatever others do, wherever the job fails or is killed."""
    play(acts, fails, parts=parts)


@pytest.mark.parametrize("parts", [False, True], ids=["md5", "parts"])
def test_left_alone_the_object_is_at_the_new_name_only(parts: bool) -> None:
    """However often the daemon is killed, and wherever."""
    for before, between in itertools.product(range(14), repeat=2):
        model = play(["step"] * before + ["crash"] + ["step"] * between + ["crash"], [], parts=parts)
        assert model.old is None
        assert model.new is not None


@pytest.mark.parametrize("crashes", range(12))
def test_a_rename_that_is_refused_leaves_the_object_at_the_old_name_only(crashes: int) -> None:
    """The copies go, those that a crash left unrecorded as well."""
    acts = ["step"] * crashes + ["crash"]
    model = Model(parts=False)
    model.put("old")
    job = work(model, iter(()))
    for act in acts:
        if act == "step":
            next(job, None)
    if model.phase is not JobPhase.COPYING:
        return
    for _ in work(model, iter(["permanent"])):
        model.check()
    assert model.new is None
    assert model.old is not None


def test_the_attributes_tell_a_copy_from_a_stranger() -> None:
    """Same size, same time to the nanosecond: the stored time of a copy is the one the source showed."""
    source = stat(1, 100)
    assert looks_copied(source, stat(1, 200, 100 * SECOND + 7), 100 * SECOND + 7)
    assert not looks_copied(source, stat(1, 200, 100 * SECOND), 100 * SECOND + 7)
    assert not looks_copied(source, stat(1, 200), 100 * SECOND)
    assert not looks_copied(replace(source, size=9), stat(1, 200, 100 * SECOND), 100 * SECOND)
    assert after_comparing(NAME, source, stat(2, 200, 100 * SECOND), 100 * SECOND) is CopyStep.COPY_OVER


def test_a_stored_time_stays() -> None:
    """Only a time that nobody stored is stored with the copy."""
    assert wanted_attributes(Attributes(mtime_ns=5), 7) == Attributes(mtime_ns=5)
    assert wanted_attributes(Attributes(mode=0o600), 7) == Attributes(mode=0o600, mtime_ns=7)


def test_markers() -> None:
    """An empty object whose key ends in a slash, or that is the tree's top itself, stands for a directory."""
    assert is_marker("", 0)
    assert is_marker("d/", 0)
    assert not is_marker("d/", 1)
    assert not is_marker("d", 0)


def test_the_marker_that_was_there_before_stays_when_a_rename_is_undone() -> None:
    """rename(2) onto an empty directory that fails leaves it."""
    top = JobObject("", Version('"e"', 0, 0), 0, '"e"')
    assert next_undo(top, '"e"', keeps_top=True) is UndoStep.LEAVE
    assert next_undo(top, '"e"', keeps_top=False) is UndoStep.DELETE


def test_a_source_whose_copy_has_vanished_stays() -> None:
    """Somebody took the new tree for rubbish: what is left of the old one is all there is."""
    known = JobObject(NAME, Version('"e"', 1, 0), 0, '"e"')
    assert next_delete(known, known.source, has_copy=True) is DeleteStep.DELETE
    assert next_delete(known, known.source, has_copy=False) is DeleteStep.UNCOPIED


@pytest.mark.parametrize("phase", JobPhase)
def test_who_gives_a_job_up_is_told_which_name_has_everything(phase: JobPhase) -> None:
    """The old one but while deleting; and how far the work at the other one had come."""
    said = state_if_given_up(phase, "d/", "n/", done=5, total=21)
    whole, other = ("n/", "d/") if phase is JobPhase.DELETING else ("d/", "n/")
    assert said.startswith(f"{whole} has everything")
    assert "5 of" in said and "or some more" in said and other in said
    assert ("nothing of it was deleted" in said) == (phase is not JobPhase.DELETING)


def test_what_was_given_up() -> None:
    """Only a tree that is whole at the old name is turned back to, and never once anything was deleted."""
    for passing, caller, back in itertools.product((False, True), repeat=3):
        after = after_failure(JobPhase.DELETING, is_passing=passing, has_caller=caller, may_turn_back=back)
        assert (after is JobPhase.UNDOING) == (caller and back and not passing)
        after = after_failure(JobPhase.COPYING, is_passing=passing, has_caller=caller, may_turn_back=back)
        assert (after is JobPhase.COPYING) == (passing and not caller)
        after = after_failure(JobPhase.UNDOING, is_passing=passing, has_caller=caller, may_turn_back=back)
        assert after is JobPhase.UNDOING
