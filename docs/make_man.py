#!/usr/bin/env python3
"""Write man/ and completion/ from the command line's parser, so that they say what ``--help`` says.

Run it after a change of a command or an option; a test compares. argparse-manpage and shtab do the work;
fish is not among the shells that shtab knows.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

from s3mount import __version__
from s3mount.cli.parser import build

ROOT = Path(__file__).parents[1]

HELPER_PAGE = f"""\
.TH MOUNT.S3MOUNT "8" "" "s3mount {__version__}" "System administration"
.SH NAME
mount.s3mount, umount.s3mount \\- helpers of mount(8) and umount(8) for s3mount
.SH SYNOPSIS
.B mount \\-t s3mount
.RI [s3://] BUCKET [/ PREFIX ]
.I DIR
.RB [ \\-o
.IR OPTIONS ]
.SH DESCRIPTION
mount(8) calls this program for file systems of the type
.B s3mount
and
.BR fuse.s3mount ,
also for the lines of fstab(5) that have one of them. It is
.B s3mount mount
under another name: every option of that command can stand behind
.BR \\-o ,
its dashes written as underscores, beside those that mount(8) has for all file systems.
.SH EXAMPLE
.nf
my-bucket/photos /srv/photos s3mount _netdev,nofail,allow_other,profile=work 0 0
.fi
.SH EXIT STATUS
0 when it is mounted and answers, 1 for a wrong option, 32 for everything else.
What was wrong is one line on standard error.
.SH SEE ALSO
.BR s3mount (1),
.BR mount (8),
.BR fstab (5)
"""


def render() -> dict[Path, str]:
    """Return every file's text."""
    parser, _ = build()
    return {
        ROOT / "man/s3mount.1": man_page(parser),
        ROOT / "man/mount.s3mount.8": HELPER_PAGE,
        ROOT / "completion/s3mount.bash": _stripped(shtab.complete(parser, shell="bash")),
        ROOT / "completion/_s3mount": _stripped(shtab.complete(parser, shell="zsh")),
        ROOT / "completion/s3mount.fish": fish(parser),
    }


def man_page(parser: argparse.ArgumentParser) -> str:
    """Return the page of all commands."""
    data = {"prog": "s3mount", "manual_title": "s3mount", "version": __version__, "project_name": "s3mount"}
    parser.man_short_description = "show an S3 or MinIO bucket as a directory"  # type: ignore[attr-defined]
    lines = str(Manpage(parser, _data=data)).splitlines()
    # No request or macro of the page has a slash in its name; an argument's help may begin so.
    lines = [re.sub(r"^([.'])(?=\S*/)", r"\\&\1", line) for line in lines]
    return "\n".join(_verbatim(line.rstrip() for line in lines)) + "\n"


def _verbatim(lines: Iterator[str]) -> Iterator[str]:
    """Yield *lines*, those that are indented, as examples and tables are, left as they are by troff."""
    is_open = False
    for line in lines:
        if line.startswith(" ") != is_open:
            yield ".fi" if is_open else ".nf"
            is_open = not is_open
        yield line
    if is_open:
        yield ".fi"


def fish(parser: argparse.ArgumentParser) -> str:
    """Return completions for fish: commands, then each command's options; files where nothing else fits."""
    lines = ["# s3mount's completions for fish, made from its command line."]
    lines.extend(_fish_of(parser, []))
    return "\n".join(lines) + "\n"


def _fish_of(parser: argparse.ArgumentParser, path: list[str]) -> Iterator[str]:
    below = _commands(parser)
    seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in path) or "__fish_use_subcommand"
    if below and path:
        seen += f"; and not __fish_seen_subcommand_from {' '.join(below)}"
    for name, (_, help) in below.items():
        yield f"complete -c s3mount -f -n {_quoted(seen)} -a {name} -d {_quoted(help)}"
    for action in parser._actions:
        names = [f"-s {one[1]}" if len(one) == 2 else f"-l {one[2:]}" for one in action.option_strings]
        if names:
            takes = " -r" if action.nargs is None else ""
            text = (action.help or "").replace("%%", "%")
            help = _quoted(re.split(r"(?<=\.) | \[", text)[0])
            yield f"complete -c s3mount -n {_quoted(seen)} {' '.join(names)}{takes} -d {help}"
    for name, (command, _) in below.items():
        yield from _fish_of(command, [*path, name])


def _commands(parser: argparse.ArgumentParser) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return {name: (command, helps.get(name, "")) for name, command in action.choices.items()}
    return {}


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines()).rstrip() + "\n"


if __name__ == "__main__":
    for path, text in render().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
