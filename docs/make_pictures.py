#!/usr/bin/env python3
"""Write docs/read-path.svg and docs/write-path.svg; the steps are the tables below."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent

WIDTH = 900
BOX_X, BOX_W = 24, 470
SIDE_X, SIDE_W = 560, 316
STEP_H, GAP, TOP = 62, 26, 70

#: Fill and line of a box, by the layer that it belongs to.
COLOURS = {
    "program": ("#ffffff", "#555555"),
    "kernel": ("#eceff1", "#607d8b"),
    "fuse": ("#fff3e0", "#ef8a00"),
    "fs": ("#fffde7", "#c9a400"),
    "data": ("#e8f5e9", "#388e3c"),
    "core": ("#f3e5f5", "#7b3fa0"),
    "store": ("#e3f2fd", "#1976d2"),
    "bucket": ("#ffebee", "#c62828"),
}


@dataclass(frozen=True)
class Step:
    """A box: its layer, what it is called in the code, what happens there, and a remark beside it."""

    layer: str
    name: str
    text: str
    remark: tuple[str, ...] = ()


READ = (
    Step("program", "read(2)", "a program asks for bytes"),
    Step(
        "kernel",
        "page cache",
        "has them, or asks for up to 1 MiB at a time, out of order",
        ("Pages stay over close and open", "while the ETag is the same."),
    ),
    Step(
        "fuse",
        "fuse/operations.py  Operations.read",
        "unpacks; boundary.py gives the deadline and the log line",
    ),
    Step("fs", "fs/files.py  Files.read", "finds the handle by its number"),
    Step(
        "fs",
        "fs/open_file.py  OpenFile.read",
        "is there a spool? then its bytes; else the handle's reader",
        (
            "A file that is being changed is read",
            "from data/spool_bytes.py, which fetches",
            "what was not written over.",
        ),
    ),
    Step(
        "data",
        "data/reader.py  ObjectReader.read",
        "one version of one object",
        (
            "core/readahead.py says which blocks",
            "will be wanted; the cache fetches them",
            "in the background, or drops the hint.",
        ),
    ),
    Step(
        "data",
        "data/block_cache.py  BlockCache.read",
        "here, on its way, or one GET for all who wait",
        (
            "Memory is exact: a run is reserved",
            "before it is fetched. Without room the",
            "reader queues, holding nothing.",
        ),
    ),
    Step(
        "store",
        "store/checked.py  CheckedStore.get_into",
        "is this the range, the size, the ETag that was asked for?",
    ),
    Step(
        "store",
        "store/s3.py  S3Store.get_into",
        "GET with Range and If-Match, in a thread, into the buffer",
        ("412: ESTALE. Retries, timeouts and", "threads are known here alone."),
    ),
    Step("bucket", "the bucket", ""),
)

WRITE = (
    Step("program", "write(2) … close(2)", "a program changes a file"),
    Step(
        "kernel",
        "page cache",
        "passes each write on at once, and the close as FLUSH",
        ("mmap's pages come at close.",),
    ),
    Step("fuse", "fuse/operations.py  Operations.write, flush", "unpacks"),
    Step(
        "fs",
        "fs/files.py  Files.write, flush",
        "finds the handle; puts off the flush of a file still empty",
        ("mounter/openers.py: has the opener another", "descriptor? Then its close will come."),
    ),
    Step(
        "fs",
        "fs/open_file.py  OpenFile.write, upload",
        "under the file's lock: CLEAN, DIRTY, UPLOADING, FAILED",
        ("One for all opens of a file on this host.", "core/filestate.py is the table."),
    ),
    Step(
        "data",
        "data/spool_bytes.py  SpoolBytes.write",
        "write: bytes to the local disk, ranges to core/ranges.py",
        ("write(2) returns here.",),
    ),
    Step(
        "data",
        "data/spool_bytes.py  SpoolBytes.fill",
        "close: fetch what is missing of the old object",
    ),
    Step(
        "data",
        "data/uploader.py  Uploader.upload",
        "one PUT, or parts at once; aborted on any failure",
        ("core/parts.py decides, within S3's limits.",),
    ),
    Step(
        "store",
        "store/checked.py, store/s3.py",
        "PUT, or create, parts, complete; with CRC32",
        ("Never abandoned half-way.",),
    ),
    Step(
        "bucket",
        "the bucket",
        "",
        (
            "The answer's ETag becomes what the name,",
            "the handles and the kernel's pages know.",
            "close(2) returns now.",
        ),
    ),
)


def draw(title: str, steps: tuple[Step, ...]) -> str:
    """Return the picture as SVG."""
    height = TOP + len(steps) * (STEP_H + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="sans-serif" font-size="14">',
        f"<title>{escape(title)}</title>",
        '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L10 5L0 10z" fill="#555"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{BOX_X}" y="40" font-size="22" font-weight="bold" fill="#222">{escape(title)}</text>',
    ]
    for number, step in enumerate(steps):
        y = TOP + number * (STEP_H + GAP)
        parts += _box(step, y)
        if number + 1 < len(steps):
            x = BOX_X + BOX_W // 2
            parts.append(
                f'<line x1="{x}" y1="{y + STEP_H}" x2="{x}" y2="{y + STEP_H + GAP - 2}" stroke="#555" '
                'stroke-width="1.5" marker-end="url(#arrow)"/>'
            )
    return "\n".join([*parts, "</svg>", ""])


def _box(step: Step, y: int) -> list[str]:
    fill, line = COLOURS[step.layer]
    middle = y + STEP_H // 2
    parts = [
        f'<rect x="{BOX_X}" y="{y}" width="{BOX_W}" height="{STEP_H}" rx="6" fill="{fill}" stroke="{line}" '
        'stroke-width="1.5"/>',
        f'<text x="{BOX_X + 14}" y="{middle - 6 if step.text else middle + 5}" font-weight="bold" '
        f'fill="#222">{escape(step.name)}</text>',
    ]
    if step.text:
        parts.append(f'<text x="{BOX_X + 14}" y="{middle + 17}" fill="#333">{escape(step.text)}</text>')
    if step.remark:
        parts.append(
            f'<line x1="{BOX_X + BOX_W}" y1="{middle}" x2="{SIDE_X - 8}" y2="{middle}" stroke="{line}" '
            'stroke-dasharray="4 3"/>'
        )
        first = middle + 5 - 9 * (len(step.remark) - 1)
        parts += [
            f'<text x="{SIDE_X}" y="{first + 18 * row}" fill="#444">{escape(text)}</text>'
            for row, text in enumerate(step.remark)
        ]
    return parts


def pictures() -> dict[str, str]:
    """Return the pictures by file name."""
    return {
        "read-path.svg": draw("The way of a read", READ),
        "write-path.svg": draw("The way of a write, and of the close after it", WRITE),
    }


if __name__ == "__main__":
    for name, text in pictures().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
