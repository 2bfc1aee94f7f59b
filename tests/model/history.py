"""One random history: a mount, a stranger, failing requests, remounts and kills; every step is checked."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from s3mount.data.journal_rows import read_records
from tests.model.keys_model import Body, KeyModel
from tests.support.bucket import Bucket
from tests.support.counting_proxy import CountingProxy
from tests.support.fault_actions import (
    ACCESS_DENIED,
    HTML_200,
    INTERNAL_ERROR,
    SLOW_DOWN,
    Action,
    Close,
    Cut,
    DropAnswer,
)
from tests.support.fault_rules import Rule
from tests.support.mounting import Mount

NAMES = ("a", "b", "d/c")
STEPS = 40
FAULTS: tuple[Action, ...] = (
    ACCESS_DENIED,
    HTML_200,
    INTERNAL_ERROR,
    SLOW_DOWN,
    Close(reset=True),
    DropAnswer(reset=True),
    Cut(40),
)
SIZES = (0, 1, 100, 5000, 70_000)


class History:
    """Plays the steps of *seed* in a directory of its own and checks each against the model.

    Args:
        acknowledges_early: the mount is in write-back mode.
    """

    def __init__(
        self, mount: Mount, bucket: Bucket, proxy: CountingProxy, seed: int, *, acknowledges_early: bool
    ) -> None:
        self.faults = 0
        self._mount, self._bucket, self._proxy = mount, bucket, proxy
        self._early = acknowledges_early
        self._random = random.Random(seed)
        self._directory = f"h{seed}"
        self._keys = {name: KeyModel() for name in NAMES}
        self._writes = 0
        self._refused: list[tuple[str, bytes]] = []
        self._log: list[str] = []
        self._seed = seed

    def run(self) -> None:
        """Play all steps. Raises: AssertionError with the whole history."""
        try:
            self._bucket.put(f"{self._directory}/d/")
            for _ in range(STEPS):
                self._step()
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n" + self.story()) from None

    def finish(self, spooled: list[bytes]) -> None:
        """Check what the bucket holds when the mount has ended, and that the spool has the rest.

        Args:
            spooled: the bytes of all files that the spool still has.
        """
        for what, body in self._refused:
            assert not body or body in spooled, f"said ESTALE, and lost: {what}\n" + self.story()
        for name, key in self._keys.items():
            body = self._body(name)
            assert body in key.possible(), f"{name} ended as {_brief(body)}\n" + self.story()
            key.observed(body)
            if key.unsent and key.is_owed:
                assert key.unsent in spooled, f"lost: {name} {_brief(key.unsent)}\n" + self.story()

    def story(self) -> str:
        """Return what happened so far, to be read by people."""
        return f"seed {self._seed}:\n  " + "\n  ".join(self._log)

    def _step(self) -> None:
        choose = self._random.choice
        name = choose(NAMES)
        step = choose(
            [self._write] * 4
            + [self._append] * 2
            + [self._read] * 3
            + [self._strange] * 2
            + [self._unlink, self._rename, self._list]
        )
        if self._random.random() < 0.4:
            rule = Rule(
                choose(FAULTS),
                first=self._random.randint(1, 3),
                probability=choose([0.3, 1.0]),
                seed=self._random.randrange(1000),
                times=choose([1, 2, None]),
            )
            with self._proxy.apply(rule):
                step(name, is_faulty=True)
            self.faults += rule.injected
            self._log[-1] += f"   under {rule!r}, injected {rule.injected}"
        else:
            step(name, is_faulty=False)
        self._check_bucket()

    def _check_bucket(self) -> None:
        """The bucket holds what it may; what is certain now is certain from here on."""
        for name, key in self._keys.items():
            body = self._body(name)
            assert body in key.possible(), f"{name} is {_brief(body)} in the bucket"
            if key.unsent in (None, body):
                key.observed(body)

    def _write(self, name: str, *, is_faulty: bool) -> None:
        body = self._fresh()
        done: list[str] = []
        number = _attempt(lambda: self._put(name, os.O_TRUNC, lambda old: body, done))
        what = f"write {name} {_brief(body)}"
        if not done:
            self._say(f"{what} (not opened)", number)
            assert is_faulty or number == errno.ESTALE, f"opening {name}: {number}"
            return
        # Cut off at its opening, and then nothing was written to it.
        self._written(what, name, body if "written" in done else b"", number, is_faulty)

    def _append(self, name: str, *, is_faulty: bool) -> None:
        tag = self._fresh()
        seen: list[bytes] = []

        def changed(old: bytes) -> bytes:
            seen.append(old)
            return tag

        done: list[str] = []
        number = _attempt(lambda: self._put(name, os.O_APPEND, changed, done))
        if "written" not in done:
            self._say(f"append to {name} (not written)", number)
            assert number, "an append that returned 0 has written to the file"
            if done:
                self._keys[name].perhaps_created()
            return
        assert seen[0] in self._keys[name].history | {b""}, (
            f"{name} had {_brief(seen[0])}, which nobody wrote"
        )
        self._written(f"append to {name} {_brief(seen[0] + tag)}", name, seen[0] + tag, number, is_faulty)

    def _put(self, name: str, flags: int, make: Callable[[bytes], bytes], done: list[str]) -> None:
        """Open, write and close; *done* gets what was done."""
        descriptor = os.open(self._path(name), os.O_RDWR | os.O_CREAT | flags, 0o644)
        done.append("opened")
        try:
            data = make(b"" if flags & os.O_TRUNC else _read_all(descriptor))
            assert os.write(descriptor, data) == len(data)
            done.append("written")
        finally:
            os.close(descriptor)

    def _written(self, what: str, name: str, body: bytes, number: int, is_faulty: bool) -> None:
        self._say(what, number)
        key = self._keys[name]
        key.history.add(body)
        if number == 0 and not self._early:
            key.stored(body)
        elif number == errno.ESTALE:
            key.may_be = key.possible()
            key.unsent = None
            self._refused.append((what, body))
        else:
            assert number == 0 or is_faulty or key.unsent is not None or len(key.history) > 1, what
            key.unacknowledged(body)

    def _read(self, name: str, *, is_faulty: bool) -> None:
        found: list[Body] = []

        def read() -> None:
            descriptor = os.open(self._path(name), os.O_RDONLY)
            try:
                found.append(_read_all(descriptor))
            finally:
                os.close(descriptor)

        number = _attempt(read)
        self._say(f"read {name} -> {_brief(found[0]) if found else ''}", number)
        key = self._keys[name]
        if found:
            wanted = key.history if is_faulty else key.shown()
            assert found[0] in wanted, f"{name} reads as {_brief(found[0])}"
        elif number == errno.ENOENT:
            assert None in key.shown(), f"{name} is there and was not found"
        else:
            assert is_faulty or number == errno.ESTALE, f"reading {name}: {errno.errorcode[number]}"

    def _list(self, name: str, *, is_faulty: bool) -> None:
        found: list[str] = []
        number = _attempt(lambda: found.extend(os.listdir(self._path("d/c").parent.parent)))
        self._say(f"list -> {sorted(found)}", number)
        if number:
            assert is_faulty, f"listing: {errno.errorcode[number]}"
            return
        for one in ("a", "b"):
            shown = self._keys[one].shown()
            assert one in found or None in shown, f"{one} is there and is not listed"
            assert one not in found or shown != {None}, f"{one} is not there and is listed"

    def _unlink(self, name: str, *, is_faulty: bool) -> None:
        number = _attempt(lambda: os.unlink(self._path(name)))
        self._say(f"unlink {name}", number)
        key = self._keys[name]
        if number == 0:
            key.removed()
        elif number == errno.ENOENT:
            assert None in key.shown(), f"{name} is there and was not found"
        else:
            assert is_faulty or number == errno.ESTALE, f"removing {name}: {errno.errorcode[number]}"
            key.perhaps_removed()

    def _rename(self, name: str, *, is_faulty: bool) -> None:
        target = self._random.choice([one for one in NAMES if one != name])
        number = _attempt(lambda: os.rename(self._path(name), self._path(target)))
        self._say(f"rename {name} to {target}", number)
        old, new = self._keys[name], self._keys[target]
        if number == 0:
            new.replaced_by(old)
            old.removed()
        elif number == errno.ENOENT:
            assert None in old.shown(), f"{name} is there and was not found"
        else:
            assert is_faulty or number == errno.ESTALE or old.unsent is not None, f"renaming: {number}"
            new.perhaps_replaced_by(old)

    def _strange(self, name: str, *, is_faulty: bool) -> None:
        body: Body = None if self._random.random() < 0.3 else self._fresh()
        key = f"{self._directory}/{name}"
        if body is None:
            self._bucket.delete(key)
        else:
            self._bucket.put(key, body)
        self._say(f"the stranger makes {name} {_brief(body)}", 0)
        self._keys[name].strangers(body)

    def _fresh(self) -> bytes:
        self._writes += 1
        size = self._random.choice(SIZES)
        return f"<{self._seed}.{self._writes}>".encode() + b"." * size

    def _path(self, name: str) -> Path:
        return self._mount.path / self._directory / name

    def _body(self, name: str) -> Body:
        key = f"{self._directory}/{name}"
        with suppress(self._bucket.client.exceptions.NoSuchKey):
            return self._bucket.get(key)
        return None

    def _say(self, what: str, number: int) -> None:
        self._log.append(f"{what}: {errno.errorcode.get(number, 'ok')}")


def spooled(mount: Mount) -> list[bytes]:
    """Return the bytes of all files that the journal of *mount* still has."""
    found = []
    for directory in mount.spool.iterdir():
        found += [(directory / record.file_name).read_bytes() for record in read_records(str(directory))]
    return found


def _attempt(action: Callable[[], object]) -> int:
    """Run *action*; return its errno, 0 for none."""
    try:
        action()
    except OSError as exc:
        return exc.errno or -1
    return 0


def _read_all(descriptor: int) -> bytes:
    pieces = []
    while piece := os.read(descriptor, 1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def _brief(body: Body) -> str:
    return "nothing" if body is None else f"{body[:24].decode(errors='replace').rstrip('.')}+{len(body)}"
