"""The status as people see it: in a pipe, and on a terminal."""

from __future__ import annotations

import io
import json
import runpy
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from s3mount.cli import status_screen, status_text
from s3mount.cli.words import duration, plural, printable, table
from s3mount.core.status import (
    ErrorRecord,
    HeldFile,
    MountStatus,
    RenameStatus,
    ServerStatus,
    UploadsStatus,
    UploadStatus,
)
from tests.cli.command import ROOT

MIB = 1024**2
#: The one of the pictures.
SAMPLE: MountStatus = runpy.run_path(str(ROOT / "docs" / "make_screens.py"))["STATUS"]
UPLOAD = UploadStatus("/big", "big", "uploading", 100 * MIB, 43 * MIB, True, None, 0, None)
QUIET = replace(SAMPLE, uploads=UploadsStatus(0, 0, 0, 0, []), renames=[], errors=[])
BUSY = replace(
    QUIET,
    server=ServerStatus(False, None, {}, ["creating a file"]),
    uploads=UploadsStatus(
        30, 130 * MIB, 43 * MIB, 1, [UPLOAD, *[replace(UPLOAD, path=f"/f{n}") for n in range(29)]]
    ),
    spool=replace(
        QUIET.spool, held=1, held_files=[HeldFile(4, "lost", "conflict", 5, "somebody else's object")]
    ),
    renames=[RenameStatus("a/", "b/", "copying", 1200, 5000, 1.0, "HTTP 503")],
    errors=[ErrorRecord(0.0, 2, "flush", "/f\x1b[2J", "EACCES", "no", "ask")],
)


def text_of(status: MountStatus) -> str:
    """Return the plain text, by the way that a status takes: JSON."""
    return "\n".join(status_text.lines(json.loads(json.dumps(status.as_json()))))


def test_a_quiet_mount_fits_few_lines() -> None:
    """Nothing is said of what is not."""
    assert text_of(QUIET).splitlines() == [
        "s3://photos/2024/ at /srv/photos",
        "serving for 3 d 4 h; read and write, write-back after 5.0 s; process 2204, s3mount 0.1.0",
        "",
        "server    https://s3.example.com (MinIO) answers",
        "requests  6,943 so far, 3 failed; 9 at this moment",
        "cache     95.4 % of 50,430 blocks were there",
        "memory    402.0 MiB of 512.0 MiB (78 %)",
        "spool     3.1 GiB of 20.0 GiB (15 %); 81.0 GiB free on its disk",
        "names     18,204 of 200,000 known; 7 open files",
    ]


def test_what_is_amiss_is_said() -> None:
    """Each in a line of its own; a terminal obeys nothing in a name."""
    text = text_of(BUSY)
    assert "DOES NOT ANSWER" in text
    assert "to upload: 30 files, 87.0 MiB" in text
    assert "/big  100.0 MiB  43 %  uploading" in text
    assert "  and 10 more\n" in text
    assert "a/ -> b/: copying 1,200 of 5,000; HTTP 503, tried again" in text
    assert "1 file in the spool waiting for you" in text
    assert "\x1b" not in text
    assert "flush /f\\x1b[2J: EACCES: no (2 times)" in text


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("status", [QUIET, BUSY], ids=["quiet", "busy"])
def test_the_screen_says_the_same_in_any_width(status: MountStatus, width: int) -> None:
    """No line is wider than the terminal, and nothing in a name is taken for markup."""
    status = replace(status, source="s3://bucket/[red]x[/red]/")
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=False, highlight=False)
    status_screen.show([status.as_json()], live=False, console=console)
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert "[red]x[/red]" in text
    if status.errors:
        assert "DOES NOT ANSWER" in text
        assert "43 %" in text or width < 80
        assert "waiting for you" in text


def test_a_live_screen_takes_each_status_in_turn() -> None:
    """The last one stays."""
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=True, highlight=False, color_system=None)
    statuses: list[dict[str, Any]] = [replace(QUIET, pid=pid).as_json() for pid in (7, 8)]
    status_screen.show(statuses, live=True, console=console)
    assert "process 8" in file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.2 s"), (12, "12 s"), (302, "5 min 2 s"), (3600, "1 h 0 min"), (273_600, "3 d 4 h")],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    """More is of no use."""
    assert duration(seconds) == text


def test_words() -> None:
    """Tables are aligned, counts have their plural, bytes that are no text show."""
    assert table([["a", "bb"], ["ccc", "d"]], right=frozenset({1})) == ["a    bb", "ccc   d"]
    assert table([]) == []
    assert (plural(1, "file"), plural(2000, "file")) == ("1 file", "2,000 files")
    assert printable("a\n\udcff\x1bé") == "a\\n\\udcff\\x1bé"
