"""What a bucket permits and how fast its server is, tried out in scratch objects that go again."""

from __future__ import annotations

import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import trio

from s3mount.cli.findings import Finding, bad, good, note
from s3mount.config import MountConfig
from s3mount.config.units import format_size_short
from s3mount.core.objects import ByteRange, ObjectHeaders, WriteAnswer
from s3mount.core.server_facts import WINDOWS, ServerFacts
from s3mount.errors import AccessDenied, FsError, NotFound, StartupError, collapsed
from s3mount.mount import OpenedStore, opened_store
from s3mount.store.base import ObjectStore

LOOKS: Final = 10
"""HEADs of which the median is taken."""
PIECE_BYTES: Final = 8 * 1024**2
PIECES: Final = 4
"""Objects that are sent, and fetched, at once: what a mount does with large files."""
SKEW_S: Final = 5.0
"""Of a clock: the server's own is told in whole seconds."""
SLOW_S: Final = 0.1
_CLEANUP_S: Final = 15.0
_PLAIN: Final = ObjectHeaders()


async def store_findings(config: MountConfig) -> list[Finding]:
    """Return what can be found out about the bucket of *config*.

    What keeps it from being opened is one finding, and the last.
    """
    with tempfile.TemporaryDirectory(prefix="s3mount-doctor-") as directory:
        # Nothing that an earlier mount remembers: the server may have changed.
        fresh = replace(config, cache_dir=directory, probe=True)
        try:
            async with opened_store(fresh) as opened:
                return await _look(opened, fresh)
        except StartupError as error:
            return [bad(error.thing, error.cause, error.advice)]


async def _look(opened: OpenedStore, config: MountConfig) -> list[Finding]:
    software = f" ({opened.facts.server})" if opened.facts.server else ""
    found = [good("server", f"{opened.endpoint_url}{software}")]
    found.append(good("permission to list", "yes"))
    scratch = _Trial(opened.store, config.prefix)
    try:
        found += await scratch.run()
    finally:
        with trio.move_on_after(_CLEANUP_S, shield=True):
            await scratch.clean()
    if scratch.may_write and not config.read_only:
        found += _conditions(opened.facts)
    return found


def _conditions(facts: ServerFacts) -> list[Finding]:
    if not facts.windows():
        return [good("conditional writes", "honoured: no other host's change is overwritten unsaid")]
    missing = [words for question, words in WINDOWS.items() if not getattr(facts, question)]
    return [
        note(
            "conditional writes",
            f"not honoured when {', '.join(missing or facts.windows())}",
            "let one host alone write the same files, or use another server; see docs/semantics.md",
        )
    ]


class _Trial:
    """Tries one thing after the other."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._stem = f"{prefix}.s3mount-probe-{secrets.token_hex(8)}-doctor"
        self._keys: list[str] = []
        self.may_write = False

    async def run(self) -> list[Finding]:
        """Return what was found out."""
        answer, finding = await self._permitted("write", "s3:PutObject", self._put_small)
        found = [finding]
        self.may_write = answer is not None
        if answer is None:
            return [*found, await self._latency(self._key("absent"))]
        found.append((await self._permitted("read", "s3:GetObject", self._get_small))[1])
        found.append((await self._permitted("send in parts", "s3:AbortMultipartUpload", self._parts))[1])
        found.append((await self._permitted("delete", "s3:DeleteObject", self._delete_small))[1])
        found.append(_clock(answer))
        found.append(await self._latency(self._key("absent")))
        found += await self._throughput()
        return found

    async def clean(self) -> None:
        """Take everything away."""
        with suppress(FsError):
            await self._store.delete_many(self._keys)

    def _key(self, name: str) -> str:
        key = f"{self._stem}-{name}"
        if key not in self._keys:
            self._keys.append(key)
        return key

    async def _permitted(
        self, what: str, action: str, work: Callable[[], Awaitable[WriteAnswer | None]]
    ) -> tuple[WriteAnswer | None, Finding]:
        thing = f"permission to {what}"
        try:
            return await work(), good(thing, "yes")
        except AccessDenied as exc:
            advice = f"allow {action}, or mount with --read-only" if what == "write" else f"allow {action}"
            return None, (note if what == "write" else bad)(thing, f"no: {exc}", advice)
        except FsError as exc:
            return None, bad(thing, f"it failed: {exc}", "see the server's log")

    async def _put_small(self) -> WriteAnswer:
        return await self._store.put(self._key("small"), b"s3mount", _PLAIN)

    async def _get_small(self) -> None:
        buffer = bytearray(7)
        await self._store.get_into(self._key("small"), ByteRange(0, 7), memoryview(buffer), if_match=None)
        if bytes(buffer) != b"s3mount":
            raise FsError("the object has other bytes than were written")

    async def _parts(self) -> None:
        upload = await self._store.create_multipart(self._key("parts"), _PLAIN)
        await self._store.abort_multipart(upload)

    async def _delete_small(self) -> None:
        await self._store.delete(self._key("small"))

    async def _latency(self, key: str) -> Finding:
        times = []
        for _ in range(LOOKS):
            began = time.perf_counter()
            try:
                await self._store.head(key)
            except NotFound:
                pass
            except FsError as exc:
                return bad("round trip", f"a HEAD failed: {exc}", "see the server's log")
            times.append(time.perf_counter() - began)
        median = statistics.median(times)
        text = f"{1000 * median:.1f} ms (median of {LOOKS} HEADs, the longest {1000 * max(times):.1f} ms)"
        if median < SLOW_S:
            return good("round trip", text)
        return note("round trip", text, "a longer --ttl asks less, --write-back lets no close wait")

    async def _throughput(self) -> list[Finding]:
        body = secrets.token_bytes(PIECE_BYTES)
        keys = [self._key(f"piece-{number}") for number in range(PIECES)]
        etags: dict[str, str | None] = {}

        async def put(key: str) -> None:
            etags[key] = (await self._store.put(key, body, _PLAIN)).etag

        async def get(key: str) -> None:
            span, buffer = ByteRange(0, PIECE_BYTES), memoryview(bytearray(PIECE_BYTES))
            await self._store.get_into(key, span, buffer, if_match=etags[key])

        found: list[Finding] = []
        for thing, work in (("sending", put), ("fetching", get)):
            began = time.perf_counter()
            try:
                await _at_once(work, keys)
            except FsError as exc:
                return [*found, bad(thing, f"it failed: {exc}", "see the server's log")]
            rate = int(PIECE_BYTES * PIECES / (time.perf_counter() - began))
            found.append(good(thing, f"{format_size_short(rate)}/s, {PIECES} objects of 8 MiB at once"))
        return found


async def _at_once(work: Callable[[str], Awaitable[None]], keys: Sequence[str]) -> None:
    with collapsed():
        async with trio.open_nursery() as nursery:
            for key in keys:
                nursery.start_soon(work, key)


def _clock(answer: WriteAnswer) -> Finding:
    if answer.server_time_ns is None:
        return note("clock", "the server does not tell its time", "nothing: it is not needed")
    skew_s = abs(time.time_ns() - answer.server_time_ns) / 1e9
    if skew_s <= SKEW_S:
        return good("clock", "as the server's")
    return note(
        "clock", f"{skew_s:.0f} s away from the server's", "set this machine's: timedatectl set-ntp true"
    )
