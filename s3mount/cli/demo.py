"""``s3mount demo``: a server, a bucket with files, and a mount, all gone again on Ctrl-C."""

from __future__ import annotations

import argparse
import os

from s3mount.cli.parser import Commands, wrapped

_DESCRIPTION = """\
Start an S3 server on this machine (SeaweedFS, on 127.0.0.1 only), fill its bucket `demo` with a few files, \
mount it at DIR, and wait. Ctrl-C uploads what is pending, unmounts and stops the server.

The server's data and its generated keys stay in ~/.local/share/s3mount/demo; the next start takes them up.
"""


def add_parser(commands: Commands) -> None:
    """Add the command to *commands*."""
    parser = commands.add_parser(
        "demo",
        help="try it without having a server",
        usage="s3mount demo [DIR] [options]",
        description=wrapped(_DESCRIPTION),
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", default="demo-bucket", help="where to mount [./demo-bucket]"
    )
    parser.add_argument("--check", action="store_true", help="end as soon as everything has been shown")


def run(arguments: argparse.Namespace) -> int:
    """Run the demo until a signal ends it.

    Raises: StartupError.
    """
    from s3mount.cli.demo_session import run_demo
    from s3mount.cli.mount_table import resolve
    from s3mount.config.machine import data_dir

    directory = resolve(os.path.expanduser(arguments.directory))
    return run_demo(directory, data_dir() / "demo", check=arguments.check)
