"""The command line, made from the table of options."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from s3mount import __version__
from s3mount.config.options import OPTIONS, did_you_mean, unknown_option
from s3mount.config.units import parse_seconds
from s3mount.core.exits import Exit
from s3mount.errors import StartupError

_OVERVIEW = """\
s3mount shows an S3 or MinIO bucket as a directory that ordinary programs can work on.

  s3mount mount BUCKET[/PREFIX] DIR   mount; `s3mount mount --help` has all options
  s3mount umount DIR                  finish pending uploads and unmount
  s3mount status [DIR]                how it is, and what the bucket does not have yet
  s3mount demo [DIR]                  try it: a local server, a bucket with files, mounted at DIR
"""


if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["Parser"]
else:
    Commands = argparse._SubParsersAction


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """argparse's, which would show the value of ``--option[=VALUE]`` as a word of its own."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if action.nargs == argparse.OPTIONAL and action.option_strings:
            return f"{action.option_strings[-1]}[={action.metavar}]"
        return super()._format_action_invocation(action)


class Parser(argparse.ArgumentParser):
    """argparse, saying what is wrong in one line."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", HelpFormatter)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found wrong.

        Raises: StartupError.
        """
        raise StartupError("usage", message.rstrip("."), f"see `{self.prog} --help`", Exit.USAGE)


def build() -> tuple[Parser, Commands]:
    """Return the parser of the whole command line, and its commands' parsers."""
    from s3mount.cli import (
        caches,
        config,
        demo,
        doctor,
        explain,
        install,
        mount,
        mounter,
        mounts,
        settings,
        spool,
        status,
        top,
        umount,
        wait,
        warm,
    )

    parser = Parser(prog="s3mount", description=_OVERVIEW, usage="s3mount COMMAND …", add_help=True)
    parser.add_argument("--version", action="version", version=f"s3mount {__version__}")
    commands = parser.add_subparsers(
        prog="s3mount", parser_class=Parser, metavar="COMMAND", dest="command", title="commands"
    )
    for command in (mount, umount, mounts, status, settings, top):
        command.add_parser(commands)
    wait.add_parsers(commands)
    for command in (explain, spool):
        command.add_parser(commands)
    warm.add_parser(commands)
    caches.add_parsers(commands)
    for command in (config, doctor, install, mounter, demo):
        command.add_parser(commands)
    return parser, commands


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments; ``run`` among them is the command's function.

    Raises: StartupError, and SystemExit after ``--help`` and ``--version``.
    """
    parser, commands = build()
    if not argv:
        parser.error("the command is missing")
    if not argv[0].startswith("-") and argv[0] not in commands.choices:
        near = did_you_mean(argv[0], commands.choices)
        raise StartupError(
            f"command {argv[0]}", f"there is no such command{near}", "see `s3mount --help`", Exit.USAGE
        )
    arguments, left_over = parser.parse_known_args(list(_with_values(argv)))
    if arguments.command == "mount" and not any(word.startswith("-") for word in left_over):
        # argparse ends a list of words at the first option.
        arguments.places.extend(left_over)
        left_over = []
    _refuse_left_over(left_over, commands.choices.get(arguments.command or ""))
    if arguments.command is None:
        parser.error("the command is missing")
    return arguments


def _with_values(argv: Sequence[str]) -> Iterator[str]:
    """Yield *argv*, giving options that can do without a value theirs: argparse would take the next word."""
    bare = {f"--{option.name}": option.bare for option in OPTIONS if option.bare is not None}
    are_over = False
    for word in argv:
        are_over = are_over or word == "--"
        yield f"{word}={bare[word]}" if word in bare and not are_over else word


def seconds(text: str) -> float:
    """Return the duration in *text*, for an option's type."""
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def wrapped(text: str) -> str:
    """Return *text* in lines of 78 columns, its paragraphs kept apart."""
    return "\n\n".join(textwrap.fill(" ".join(part.split()), 78) for part in text.split("\n\n"))


def _refuse_left_over(left_over: Sequence[str], command: argparse.ArgumentParser | None) -> None:
    """Refuse arguments that no parser wanted, naming the option most like the first of them.

    Raises: StartupError.
    """
    if not left_over:
        return
    options = [word for word in left_over if word.startswith("-")]
    if not options:
        raise StartupError(
            f"argument {left_over[0]}", "this is one too many", "see `s3mount --help`", Exit.USAGE
        )
    # The value behind "=" may be a secret; it is not repeated.
    written = options[0].partition("=")[0]
    known = list(command._option_string_actions) if command is not None else []
    raise unknown_option(written, known)
