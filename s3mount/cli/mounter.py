"""``s3mount mounter``: the mount helper of units that are not root's; systemd starts one for each mount."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import socket
from pathlib import Path
from typing import Final

from s3mount.cli.checks import check_mountpoint
from s3mount.cli.mount_table import resolve
from s3mount.cli.parser import Commands, wrapped
from s3mount.cli.privileges import plan_of
from s3mount.config import MountConfig, files
from s3mount.config.machine import SYSTEM_USER, worker_for
from s3mount.config.mount_options import Chosen
from s3mount.control.address import peer_user
from s3mount.core.exits import Exit
from s3mount.errors import StartupError
from s3mount.mounter.kernel import KernelMount
from s3mount.mounter.server import MOST_BYTES, Server, outlive_signals

_DESCRIPTION = """\
Mount what /etc/s3mount/NAME.toml says for the process at the other end of standard input, hand it the open \
/dev/fuse, and unmount when that process is gone. s3mount-mounter.socket starts it as root, so that the \
process that talks to the server needs no privilege. It takes a name from there, no path and no option, and \
serves nobody but the user that the file's run-as names [s3mount].
"""

CONFIGURATIONS: Final = Path("/etc/s3mount")
_NAME: Final = re.compile(r"[A-Za-z0-9_@:.-]{1,200}")


def add_parser(commands: Commands) -> None:
    """Add the command to *commands*."""
    parser = commands.add_parser(
        "mounter",
        help="the mount helper of systemd's units; nothing to call by hand",
        usage="s3mount mounter (with a socket as standard input)",
        description=wrapped(_DESCRIPTION),
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve the one connection that is this process's standard input.

    Raises: StartupError (there is none).
    """
    logging.basicConfig(format="<4>%(name)s: %(message)s")
    outlive_signals()
    try:
        connection = socket.socket(fileno=os.dup(0))
        user = peer_user(connection)
        packet = connection.recv(MOST_BYTES)
    except OSError as error:
        raise StartupError(
            "standard input", f"it is no socket ({error.strerror})", "let systemd start it", Exit.USAGE
        ) from None
    try:
        request = json.loads(packet)
        wanted = str(request["mount"])
    except (ValueError, TypeError, KeyError):
        raise StartupError(
            "standard input", "what came from there is no request", "let systemd start it", Exit.USAGE
        ) from None
    try:
        config = _config(wanted, user)
        check_mountpoint(config)
    except StartupError as error:
        connection.send(json.dumps({"id": request.get("id"), "failed": error.fields}).encode())
        raise
    connection.send(json.dumps({"id": request.get("id"), "is": None}).encode())
    Server(connection, KernelMount(plan_of(config, worker_for(config.run_as)))).run()
    return int(Exit.OK)


def _config(name: str, user: int) -> MountConfig:
    """Return what root's file *name* says, if *user* may have it mounted. Raises: StartupError."""
    if not _NAME.fullmatch(name):
        raise StartupError(
            "mount helper", f"{name!r:.60} is no name of a mount", "use --config NAME", Exit.USAGE
        )
    file = files.load(CONFIGURATIONS / f"{name}{files.SUFFIX}")
    if file.source is None or file.mountpoint is None:
        raise StartupError(
            f"configuration {file.path}", "it lacks bucket or mountpoint", "write both", Exit.CONFIG
        )
    config = files.configure(file, Chosen(), file.source, resolve(file.mountpoint))
    worker = worker_for(config.run_as)
    if worker is None or user != worker.uid:
        whom = "root alone" if worker is None else f"user {worker.name}"
        raise StartupError(
            f"configuration {file.path}",
            f"it is for {whom}, and user {user} asks",
            f'say run-as there, and User= in a drop-in of the unit (by default both are "{SYSTEM_USER}")',
            Exit.CONFIG,
        )
    return config
