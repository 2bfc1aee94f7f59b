#!/usr/bin/env python3
"""Write docs/options.md from the table of options, so that it cannot say anything else than ``--help``.

Run it after a change of s3mount/config/options.py; a test compares.
"""

from __future__ import annotations

from pathlib import Path

from s3mount.cli.mount import EXIT_TEXTS
from s3mount.config.options import GROUPS, OPTIONS, Option

TARGET = Path(__file__).parent / "options.md"

HEAD = """\
# Options of `s3mount mount`

Made by [make_options.py](make_options.py) from the same table as `s3mount mount --help`.

Sizes are written `4096`, `64M` or `1GiB`, times `5s`, `1m` or `500ms`. Every option can also be given with
`-o`, without the dashes: `-o read_only,ttl=1m` is `--read-only --ttl 1m`, and in a
[configuration file](operations.md#configuration-files), which `--config NAME` names. A comma within a
value is written `\\,`. `-o` also knows `ro` and `rw`; it hands `noexec`, `noatime` and `nodiratime` on to
the kernel, and takes what mount(8) and systemd use (`_netdev`, `nofail`, `x-…`) without a word. `nosuid`
and `nodev` are always on.
"""


def render() -> str:
    """Return the page."""
    parts = [HEAD]
    for group in GROUPS:
        rows = [_row(option) for option in OPTIONS if option.group == group]
        parts.append(f"## {group}\n\n| option | default | |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    codes = "\n".join(f"| {code.value} | {text} |" for code, text in EXIT_TEXTS.items())
    parts.append(f"## Exit codes\n\n| code | |\n|---|---|\n{codes}\n")
    return "\n".join(parts)


def _row(option: Option) -> str:
    names = f"`-{option.short}`, `{option.written}`" if option.short else f"`{option.written}`"
    return f"| {names} | {option.describe_default() or 'off'} | {option.help.replace('|', '/')} |"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
