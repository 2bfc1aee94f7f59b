"""What was found out about a server is remembered for that server, for a while, and by its owner alone."""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from s3mount.core.server_facts import QUESTIONS, ServerFacts
from s3mount.errors import AccessDenied
from s3mount.store.checked import CheckedStore
from s3mount.store.facts import MAX_AGE_S, FactFile, find_out
from tests.support.memory_store import Call, MemoryStore

KNOWN = ServerFacts(server="MinIO", list_has_metadata=True)
FACTS = replace(KNOWN, put_if_match=True, delete_if_match=True)
NOW_S = 1_700_000_000.0


@pytest.fixture
def file(tmp_path: Path) -> FactFile:
    """A file that is not there yet, in a directory that is not either."""
    return FactFile(tmp_path / "state" / "facts", "http://127.0.0.1:9000", "bucket")


def test_what_was_saved_comes_back(file: FactFile) -> None:
    """With what this mount has seen itself: LIST may be of another prefix."""
    assert file.load(KNOWN, NOW_S) is None
    file.save(FACTS, NOW_S)
    assert file.load(KNOWN, NOW_S) == FACTS
    assert file.load(replace(KNOWN, list_has_metadata=None), NOW_S + MAX_AGE_S) == replace(
        FACTS, list_has_metadata=None
    )


def test_only_the_owner_reads_it(file: FactFile) -> None:
    """It names a bucket and an endpoint; and nothing else is left in the directory."""
    file.save(FACTS, NOW_S)
    file.save(FACTS, NOW_S)
    assert file.path.stat().st_mode & 0o7777 == 0o600
    assert file.directory.stat().st_mode & 0o7777 == 0o700
    assert os.listdir(file.directory) == [file.path.name]


def test_it_is_about_one_bucket_at_one_endpoint(file: FactFile) -> None:
    """Others have files of their own."""
    file.save(FACTS, NOW_S)
    assert replace(file, bucket="other").load(KNOWN, NOW_S) is None
    assert replace(file, endpoint_url="https://127.0.0.1:9000").load(KNOWN, NOW_S) is None


@pytest.mark.parametrize("age_s", [-1.0, MAX_AGE_S + 1.0])
def test_it_is_not_believed_for_ever(file: FactFile, age_s: float) -> None:
    """Nor when the clock says that it comes from the future."""
    file.save(FACTS, NOW_S)
    assert file.load(KNOWN, NOW_S + age_s) is None


@pytest.mark.parametrize("server", ["MinIO/2", None])
def test_another_server_makes_it_void(file: FactFile, server: str | None) -> None:
    """The Server header tells."""
    file.save(FACTS, NOW_S)
    assert file.load(replace(KNOWN, server=server), NOW_S) is None


SPOILERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another version": lambda found: {**found, "version": 0},
    "no time": lambda found: {**found, "probed_at": None},
    "no facts": lambda found: {**found, "facts": []},
    "a fact is missing": lambda found: {**found, "facts": {"put_if_match": True}},
    "a fact too many": lambda found: {**found, "facts": {**found["facts"], "can_fly": True}},
    "no truth value": lambda found: {**found, "facts": dict.fromkeys(QUESTIONS, "yes")},
    "a list": lambda found: [found],
    "a number": lambda found: 7,
}


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS)
def test_a_spoiled_file_is_none(file: FactFile, spoil: Callable[[dict[str, Any]], Any]) -> None:
    """Written by another version, by hand, or by nobody knows whom."""
    file.save(FACTS, NOW_S)
    file.path.write_text(json.dumps(spoil(json.loads(file.path.read_text()))))
    assert file.load(KNOWN, NOW_S) is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_torn_file_is_none(file: FactFile, content: bytes) -> None:
    """And can be replaced."""
    file.save(FACTS, NOW_S)
    file.path.write_bytes(content)
    assert file.load(KNOWN, NOW_S) is None
    file.save(FACTS, NOW_S)
    assert file.load(KNOWN, NOW_S) == FACTS


def test_a_file_that_others_could_have_written_is_none(file: FactFile, tmp_path: Path) -> None:
    """Nor is one behind a symbolic link, or of another user."""
    file.save(FACTS, NOW_S)
    file.path.chmod(0o620)
    assert file.load(KNOWN, NOW_S) is None
    file.path.chmod(0o600)
    os.rename(file.path, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", file.path)
    assert file.load(KNOWN, NOW_S) is None
    file.save(FACTS, NOW_S)
    assert not file.path.is_symlink()
    if os.geteuid() == 0:
        os.chown(file.path, 12345, -1)
        assert file.load(KNOWN, NOW_S) is None


# Finding out


def learn(store: MemoryStore, file: FactFile, known: ServerFacts = KNOWN, **patience: float) -> ServerFacts:
    """Find out, as a mount does."""
    return trio.run(functools.partial(find_out, CheckedStore(store), "p/", known, file, **patience))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged for people to see."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_second_mount_asks_nothing(file: FactFile, caplog: pytest.LogCaptureFixture) -> None:
    """A good server is no news, either."""
    store = MemoryStore()
    facts = learn(store, file)
    store.calls.clear()
    assert learn(store, file) == facts
    assert store.calls == []
    assert warnings(caplog) == []


def test_a_window_is_named_at_every_mount(file: FactFile, caplog: pytest.LogCaptureFixture) -> None:
    """In the user's words, once each."""
    store = MemoryStore(ignores={"put_if_match", "copy_if_none_match", "complete_if_none_match"})
    for _ in range(2):
        caplog.clear()
        learn(store, file)
        (line,) = warnings(caplog)
        assert line.endswith("when changing a file, creating a file in parts, renaming without replacing")


def test_a_probe_that_fails_keeps_nothing_from_mounting(
    file: FactFile, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is assumed, nothing remembered, and one line says what that means."""

    async def deny(call: Call) -> None:
        await trio.lowlevel.checkpoint()
        raise AccessDenied("HTTP 403")

    assert learn(MemoryStore(before=deny), file) == KNOWN
    (line,) = warnings(caplog)
    assert line.startswith("what this server honours is not known")
    assert "HTTP 403" in line
    assert not file.path.exists()


def test_a_probe_that_does_not_end_is_given_up(file: FactFile, caplog: pytest.LogCaptureFixture) -> None:
    """The mount comes up within its own time."""
    store = MemoryStore()

    async def hang(call: Call) -> None:
        await trio.lowlevel.checkpoint()
        if call.method == "copy":
            await trio.sleep_forever()

    store.before = hang
    assert learn(store, file, patience_s=0.1) == KNOWN
    (line,) = warnings(caplog)
    assert "no answers within 0.1 s" in line
    assert store.keys() == []


def test_what_one_failure_left_open_is_asked_again(file: FactFile, caplog: pytest.LogCaptureFixture) -> None:
    """The rest counts at once, but is not remembered without it."""

    async def deny(call: Call) -> None:
        await trio.lowlevel.checkpoint()
        if call.method == "list_parts":
            raise AccessDenied("HTTP 403")

    facts = learn(MemoryStore(before=deny), file)
    assert facts.put_if_match
    assert not facts.part_checksums
    (line,) = warnings(caplog)
    assert line == "whether this server honours part_checksums could not be found out: HTTP 403"
    assert not file.path.exists()


def test_a_full_disk_is_no_reason_not_to_mount(file: FactFile, caplog: pytest.LogCaptureFixture) -> None:
    """The facts are found out again next time."""
    file.directory.parent.mkdir()
    file.directory.write_text("a file where the directory should be")
    assert learn(MemoryStore(), file).put_if_match
    assert warnings(caplog) == []
