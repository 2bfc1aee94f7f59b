"""What must be left, by a manifest, after a daemon has died; and what may be.

What has returned 0 is in the bucket byte for byte. What had begun and not returned is there whole or not at
all. The bytes that a program had handed over by then are in the bucket or in the spool. Nothing else is
anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from tests.crash.agent import Progress
from tests.crash.works import Change, Files, Mkdir, Rename, Truncate, Work

UNKNOWN = ""
"""The name of a file of which the journal does not know what it was to become."""


@dataclass(frozen=True)
class Kept:
    """What the spool has of a file: *present* are the ranges (start, stop) whose bytes in *data* count."""

    file_name: str
    name: str
    state: str
    data: bytes
    present: tuple[tuple[int, int], ...]
    is_over_object: bool
    cause: str = ""

    def has(self, want: bytes, start: int, stop: int) -> bool:
        """Whether the bytes from *start* to *stop* are here and those of *want*."""
        is_here = start >= stop or any(a <= start and stop <= b for a, b in self.present)
        return is_here and self.data[start:stop] == want[start:stop]


@dataclass(frozen=True)
class Verdict:
    """Complaints about a bucket and a spool, and how many bytes of what was promised are lost."""

    complaints: list[str]
    lost_bytes: int = 0


class Expectation:
    """What a work may leave that came as far as *progress* says.

    Args:
        is_power_cut: the power went, too. What was written and never closed may be gone then, or be in the
            spool without a name; in write-back mode renames and removals may be undone: of what the bucket
            did not have they are promised to survive the death of a process only, as anywhere.

    In write-back mode, too, a file that a program is changing again is in the bucket as its last close has
    left it. What the program has written since waits in the spool for the user: nobody knows what it was
    about to make of that. What is not there of it is in the object.
    """

    def __init__(self, work: Work, progress: Progress, *, is_power_cut: bool = False) -> None:
        self._is_power_cut = is_power_cut
        self._in_flight = None if progress.step is None else work.steps[progress.step]
        self._progress = progress
        self._markers = {step.name for step in work.steps[: progress.done] if isinstance(step, Mkdir)}
        self._others: dict[str, set[bytes | None]] = {}
        self._rules: list[tuple[str, Callable[[Files], bool]]] = []
        files: Files = dict(work.initial)
        for step in work.steps[: progress.done]:
            before, files = files, step.after(files)
            if is_power_cut and work.is_write_back and not isinstance(step, Change):
                self._may_be_undone(before, files)
            else:
                for name in _changed(before, files):
                    self._others.pop(name, None)
        self.before = files
        self.after = files if self._in_flight is None else self._in_flight.after(files)
        self._sure = self.after if progress.is_synced else self.before
        if not progress.is_synced:
            self._may_be_undone(self.after, self.before)
        if isinstance(self._in_flight, Rename):
            self._add_rule_of(self._in_flight)

    def judge(self, bucket: Files, spool: list[Kept], directories: set[str]) -> Verdict:
        """Say what is wrong. *directories* are those that the bucket has something of."""
        complaints, lost = [], 0
        for name in sorted(self._sure.keys() | self._others.keys() | bucket.keys()):
            want, found = self._sure.get(name), bucket.get(name)
            others = self._others.get(name, set())
            if found != want and found not in others:
                text = " or ".join(sorted(map(_short, {want, *others})))
                complaints.append(f"{name!r} is {_short(found)} in the bucket, and not {text}")
                lost += 0 if want is None else len(want)
        complaints += [text for text, holds in self._rules if not holds(bucket)]
        complaints += [f"directory {name!r} is gone" for name in sorted(self._markers - directories)]
        complaints += self._judge_spool(bucket, spool)
        return Verdict(complaints, lost)

    def _judge_spool(self, bucket: Files, spool: list[Kept]) -> list[str]:
        step = self._in_flight
        names = {step.name} if isinstance(step, Change | Truncate) else set()
        if names and self._is_power_cut:
            names.add(UNKNOWN)
        complaints = [
            f"nobody needs this in the spool: {_say(kept)}" for kept in spool if kept.name not in names
        ]
        if not isinstance(step, Change) or bucket.get(step.name) == self.after[step.name]:
            return complaints
        mine = [kept for kept in spool if kept.name == step.name]
        said = f"neither bucket nor spool, but {', '.join(map(_say, mine)) or 'nothing'}"
        is_owed = self._progress.edits > 0 and not self._is_power_cut
        if is_owed and not any(self._has_edits(kept, step) for kept in mine):
            complaints.append(f"what was written to {step.name!r} is in {said}")
        return complaints

    def _has_edits(self, kept: Kept, step: Change) -> bool:
        """Whether all that was answered for is there; what the next edit was at may be half done."""
        edits = self._progress.edits
        want = step.after_edits(self.before, edits)
        upcoming = step.edits[edits : edits + 1]
        sizes = {len(want), *(len(step.after_edits(self.before, edits + 1)) for _ in upcoming)}
        if not min(sizes) <= len(kept.data) <= max(sizes):
            return False
        spans = _spans(step, edits) if kept.is_over_object else [(0, len(want))]
        spans = [(start, min(stop, *sizes)) for start, stop in spans]
        if upcoming and upcoming[0].data:
            hole = (upcoming[0].offset, upcoming[0].stop)
            spans = [piece for span in spans for piece in _without(span, hole)]
        return all(kept.has(want, start, stop) for start, stop in spans)

    def _may_be_undone(self, alternative: Files, now: Files) -> None:
        for name in _changed(alternative, now):
            self._others.setdefault(name, set()).add(alternative.get(name))

    def _add_rule_of(self, step: Rename) -> None:
        """Let no moment of a rename be without the file; a directory goes as a whole."""
        old, new = step.name, step.new
        if old in self.before:
            data = self.before[old]
            text = f"neither {old!r} nor {new!r} has the file that was being renamed"
            self._rules.append((text, lambda bucket: data in (bucket.get(old), bucket.get(new))))
            return
        names = _changed(self.before, self.after)
        wholes = [{name: files.get(name) for name in names} for files in (self.before, self.after)]
        text = f"{old!r} is in two halves, the other of which is {new!r}"
        self._rules.append((text, lambda bucket: {name: bucket.get(name) for name in names} in wholes))


def _changed(before: Files, after: Files) -> list[str]:
    return [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]


def _spans(step: Change, edits: int) -> list[tuple[int, int]]:
    """Return where the first so many edits of *step* put bytes."""
    return [(edit.offset, edit.stop) for edit in step.edits[:edits] if edit.data]


def _without(span: tuple[int, int], hole: tuple[int, int]) -> list[tuple[int, int]]:
    pieces = [(span[0], min(span[1], hole[0])), (max(span[0], hole[1]), span[1])]
    return [(start, stop) for start, stop in pieces if start < stop]


def _short(data: bytes | None) -> str:
    return "absent" if data is None else f"{len(data)} bytes {hashlib.sha256(data).hexdigest()[:8]}"


def _say(kept: Kept) -> str:
    return f"{kept.name!r} {kept.state} ({kept.cause}), {_short(kept.data)} present {kept.present}"
