#!/usr/bin/env python3
"""Write docs/status.svg, docs/top.svg and docs/doctor.svg: what they show, of a mount that is made up.

The text is made by the code of the commands, so it is what they would say.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console, RenderableType
from rich.text import Text

from s3mount.cli import findings, status_screen, top
from s3mount.core.prices import AWS
from s3mount.core.status import (
    VERSION,
    CacheStatus,
    ErrorRecord,
    MemoryStatus,
    MountStatus,
    NamesStatus,
    ProcessRequests,
    RenameStatus,
    RequestCount,
    RequestStatus,
    ServerStatus,
    SpoolStatus,
    UploadsStatus,
    UploadStatus,
)

FOLDER = Path(__file__).parent
WIDTH = 110
MIB, GIB = 1024**2, 1024**3


def count(operation: str, made: int, *, failed: int = 0, sent: int = 0, received: int = 0) -> RequestCount:
    """Return a count of requests."""
    return RequestCount(operation, made, failed, 0, 0, made * 0.004, sent, received)


PROCESSES = [
    ProcessRequests("updatedb", [count("ListObjectsV2", 4120), count("HeadObject", 310)]),
    ProcessRequests("python3", [count("GetObject", 930, received=7 * GIB), count("ListObjectsV2", 41)]),
    ProcessRequests(
        "rsync",
        [count("PutObject", 812, sent=1300 * MIB, failed=3), count("HeadObject", 640)],
    ),
    ProcessRequests("(s3mount)", [count("UploadPart", 88, sent=1408 * MIB), count("HeadBucket", 2)]),
]

STATUS = MountStatus(
    version=VERSION,
    program="0.1.0",
    state="serving",
    pid=2204,
    mountpoint="/srv/photos",
    source="s3://photos/2024/",
    endpoint_url="https://s3.example.com",
    uptime_s=273_600,
    is_read_only=False,
    write_back_s=5.0,
    server=ServerStatus(True, "MinIO", {}, []),
    requests=RequestStatus(9, 28, 28, [one for process in PROCESSES for one in process.counts]),
    cache=CacheStatus(48_120, 2_310, 0.9542, 7 * GIB, 930, 610, 0, 40),
    memory=MemoryStatus(402 * MIB, 512 * MIB, 96 * MIB, 32 * MIB, 0, 274 * MIB, 0),
    spool=SpoolStatus("/var/lib/s3mount/spool", 3200 * MIB, 20 * GIB, 81 * GIB, 512 * MIB, 0, []),
    uploads=UploadsStatus(
        3,
        2620 * MIB,
        1408 * MIB,
        1,
        [
            UploadStatus("/raw/dsc_0412.tif", "", "uploading", 2048 * MIB, 1408 * MIB, False, None, 0, None),
            UploadStatus("/raw/index.db", "", "failed", 60 * MIB, 0, False, 14.0, 2, "HTTP 503 SlowDown"),
            UploadStatus("/video/cut.mov", "", "dirty", 512 * MIB, 0, True, None, 0, None),
        ],
    ),
    renames=[RenameStatus("2024/inbox/", "2024/june/", "copying", 1840, 3000, 1_767_182_000.0, "")],
    names=NamesStatus(18_204, 200_000, 5, 7),
    errors=[
        ErrorRecord(
            1_767_182_400.0, 2, "upload", "/raw/index.db", "EIO", "PutObject: HTTP 503 SlowDown", "wait"
        )
    ],
)

FINDINGS = [
    findings.good("kernel", "6.12.48"),
    findings.good("FUSE", "you may mount"),
    findings.note("read-ahead", "128 KiB for each request of the kernel's", "mount as root for large files"),
    findings.good("descriptors", "524,288"),
    findings.good("memory", "512 MiB for a mount, unless --memory says more"),
    findings.note(
        "updatedb",
        "will list the whole of every mount",
        "add fuse.s3mount to PRUNEFS in /etc/updatedb.conf",
    ),
    findings.good("server", "https://s3.example.com (MinIO)"),
    findings.good("permission to write", "yes"),
    findings.bad("permission to delete", "no: HTTP 403 AccessDenied", "allow s3:DeleteObject"),
    findings.good("conditional writes", "honoured: no other host's change is overwritten unsaid"),
    findings.good("round trip", "4.1 ms (median of 10 HEADs, the longest 9.8 ms)"),
    findings.good("sending", "112.4 MiB/s, 4 objects of 8 MiB at once"),
]


def screens() -> dict[str, str]:
    """Return the pictures by the names of their files."""
    return {
        "status.svg": _picture("s3mount status /srv/photos", [status_screen.screen(STATUS.as_json())]),
        "top.svg": _picture("s3mount top /srv/photos", map(Text, top.lines(PROCESSES, AWS, STATUS.uptime_s))),
        "doctor.svg": _picture("s3mount doctor photos", map(Text, findings.lines(FINDINGS))),
    }


def _picture(title: str, parts: Iterable[RenderableType]) -> str:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    for part in parts:
        console.print(part)
    return console.export_svg(title=title, unique_id=title.split()[1])


if __name__ == "__main__":
    for name, text in screens().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
