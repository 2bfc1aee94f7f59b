"""``s3mount spool``: what is not in the bucket: look at it, send it, copy it, throw it away."""

from __future__ import annotations

import argparse

from s3mount.cli.mount import add_options
from s3mount.cli.parser import Commands, Parser, wrapped
from s3mount.config.options import SPEED, STORE
from s3mount.core.exits import Exit

_DESCRIPTION = """\
What was written into a mount stays in its spool directory until the bucket has it. These commands show what \
is there and work on it, beside a running mount and without one.

Without --of and --spool-dir all spool directories are meant that are found: those below \
~/.local/state/s3mount/spool (for root /var/lib/s3mount/spool) and those of your mounts.
"""

_LIST = """\
Show what is in the spool: number, state, size, since when, key, and what is the matter. Changes nothing.

States: writing (a program has not closed it yet), queued (the mount sends it, now or when it is mounted \
again), uploading, conflict (the bucket has another writer's object there), parked (it cannot be finished by \
itself: the cause says why). The last two wait for you.

Renames of directories that are under way are shown as well: number (r1), copying, deleting (the new name \
has everything) or undoing (the old name has), and how many objects are done.
"""

_PUSH = """\
Send files to the bucket, and take them from the spool once the bucket has been seen to have them. Nothing \
that somebody else has stored meanwhile is replaced, unless --overwrite says so. Parts that have been sent \
are not sent again.

A file that a mount is working on is left to it. Server and bucket are those of the mount that wrote the \
files; the options below say otherwise.
"""

_EXPORT = """\
Write a file's bytes to TARGET, a new file on this machine. The file stays in the spool. Bytes that were \
never changed and are not here are fetched from the very version of the object that they belong to.
"""

_DISCARD = """\
Delete files from the spool. What they hold is in no other place: you are asked first.

A rename of a directory (r1) is given up, for a bucket or server that is gone for good. No server is asked \
and nothing in the bucket changes: it keeps some objects under both names, and you are told which name has \
everything. A mount goes on with its renames: unmount first.
"""

EXIT_TEXTS = {
    Exit.OK: "everything that was asked for is done",
    Exit.USAGE: "the command line, or no such file in the spool",
    Exit.CACHE_DIR: "the spool directory: in use by another command, not yours, damaged disk",
    Exit.NOT_DRAINED: "something is left that the bucket does not have, or was not done",
}


def add_parser(commands: Commands) -> None:
    """Add the command to *commands*."""
    parser = commands.add_parser(
        "spool",
        help="what is not in the bucket yet",
        usage="s3mount spool list|push|export|discard …",
        description=wrapped(_DESCRIPTION),
    )
    actions = parser.add_subparsers(
        prog="s3mount spool", parser_class=Parser, metavar="ACTION", dest="action", title="actions"
    )
    parser.set_defaults(run=_missing(parser))
    _add_list(actions)
    _add_push(actions)
    _add_export(actions)
    _add_discard(actions)


def _add_list(actions: Commands) -> None:
    parser = _action(actions, "list", "show what is there", "list [WHERE] [options]", _LIST)
    parser.set_defaults(run=_list)
    parser.add_argument(
        "where", metavar="WHERE", nargs="?", help="a mountpoint, a bucket or a spool directory [all]"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, for programs")
    _add_place(parser, of=False)


def _add_push(actions: Commands) -> None:
    parser = _action(actions, "push", "send files to the bucket", "push ID... | --all [options]", _PUSH)
    parser.set_defaults(run=_push, chosen=None)
    parser.add_argument("ids", metavar="ID", nargs="*", help="numbers, as `s3mount spool list` shows them")
    parser.add_argument(
        "--all",
        action="store_true",
        help="every file that is known to be whole; what was interrupted while being written must be named, "
        "and conflicts need --overwrite",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace whatever the bucket has there")
    parser.add_argument("--as", dest="other_key", metavar="KEY", help="send one file to another key")
    parser.add_argument(
        "--bucket", metavar="BUCKET[/PREFIX]", help="the bucket, where the spool does not say which it is"
    )
    parser.add_argument(
        "--elsewhere",
        action="store_true",
        help="let --bucket or --endpoint-url be other than those of the mount",
    )
    _add_place(parser)
    for title in (STORE, SPEED):
        add_options(parser, title)


def _add_export(actions: Commands) -> None:
    parser = _action(actions, "export", "copy a file out", "export ID TARGET [options]", _EXPORT)
    parser.set_defaults(run=_export, chosen=None)
    parser.add_argument("id", metavar="ID", help="its number, or the name of a file in the spool directory")
    parser.add_argument("target", metavar="TARGET", help="a file that does not exist yet")
    parser.add_argument(
        "--partial",
        action="store_true",
        help="write zeros for bytes that cannot be had, and say which they are",
    )
    _add_place(parser)
    for title in (STORE, SPEED):
        add_options(parser, title)


def _add_discard(actions: Commands) -> None:
    parser = _action(actions, "discard", "delete files, give up renames", "discard ID... [options]", _DISCARD)
    parser.set_defaults(run=_discard)
    parser.add_argument(
        "ids",
        metavar="ID",
        nargs="+",
        help="numbers of files (3) and renames (r1), as `s3mount spool list` shows",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    _add_place(parser)


def _action(actions: Commands, name: str, text: str, usage: str, description: str) -> Parser:
    codes = "\n".join(f"  {code.value:>2}  {text}" for code, text in EXIT_TEXTS.items())
    return actions.add_parser(
        name,
        help=text,
        usage=f"s3mount spool {usage}",
        description=wrapped(description),
        epilog=f"exit codes:\n{codes}\n  others are those of `s3mount mount`",
    )


def _add_place(parser: Parser, *, of: bool = True) -> None:
    if of:
        parser.add_argument(
            "--of", dest="where", metavar="WHERE", help="a mountpoint, a bucket or a spool directory [all]"
        )
    parser.add_argument(
        "--spool-dir", metavar="DIR", help="what --spool-dir of the mount was, or one mount's folder in it"
    )


def _missing(parser: Parser) -> object:
    return lambda arguments: parser.error("the action is missing")


def _list(arguments: argparse.Namespace) -> int:
    from s3mount.cli.spool_list import run

    return run(arguments)


def _push(arguments: argparse.Namespace) -> int:
    from s3mount.cli.spool_push import run

    return run(arguments)


def _export(arguments: argparse.Namespace) -> int:
    from s3mount.cli.spool_export import run

    return run(arguments)


def _discard(arguments: argparse.Namespace) -> int:
    from s3mount.cli.spool_discard import run

    return run(arguments)
