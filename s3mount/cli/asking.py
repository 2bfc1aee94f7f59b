"""Ask a running mount: which one is meant, and how commands say what went wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3mount import runtime
from s3mount.cli.mount_table import FUSE_TYPE, MountEntry, entries, resolve_outside
from s3mount.control.client import ANSWER_S, NoMount, NotYours, ask
from s3mount.control.protocol import ControlError
from s3mount.core.exits import Exit
from s3mount.errors import StartupError


@dataclass(frozen=True, slots=True)
class Running:
    """A mount that may be asked.

    Args:
        socket: None where it has none.
    """

    mountpoint: str
    state: runtime.MountState
    socket: Path | None

    def ask(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, timeout_s: float = ANSWER_S
    ) -> dict[str, Any]:
        """Return the mount's answer.

        Raises: StartupError (it refuses, or does not answer).
        """
        if self.socket is None:
            raise failure(self.mountpoint, "it has no control socket", "its log says why")
        try:
            return ask(self.socket, command, arguments, timeout_s=timeout_s)
        except NotYours as error:
            raise failure(self.mountpoint, str(error), "ask as that user, or as root") from None
        except NoMount as error:
            log = f"see its log, {self.state.log_file}" if self.state.log_file else "see its log"
            raise failure(
                self.mountpoint, f"its process {self.state.pid} does not answer ({error})", log
            ) from None
        except ControlError as error:
            raise failure(self.mountpoint, str(error), "see `s3mount --help`", Exit.FAILURE) from None


def failure(mountpoint: str, cause: str, advice: str, code: Exit = Exit.MOUNTPOINT) -> StartupError:
    """Return the error of a command about the mount at *mountpoint*."""
    return StartupError(f"mountpoint {mountpoint}", cause, advice, code)


def mount_of(path: str | None) -> tuple[Running, str]:
    """Return the mount that *path* is in, and the path below its mountpoint, which begins with a slash.

    Without a path: the mount that this process stands in, else the only one there is. A mount that is
    draining, whose mountpoint is free again, is found by its mountpoint. Nothing looks into a mount.

    Raises: StartupError.
    """
    if path is None:
        return _the_mount(), "/"
    wanted = resolve_outside(os.path.expanduser(path))
    for entry in sorted(_ours(), key=lambda entry: len(entry.mountpoint), reverse=True):
        inner = _below(entry.mountpoint, wanted)
        if inner is not None:
            return _running(entry.mountpoint, os.geteuid() if entry.user_id is None else entry.user_id), inner
    found = runtime.find(wanted, os.geteuid())
    if found is not None and found[0].is_running():
        return _running(wanted, os.geteuid()), "/"
    raise failure(wanted, "no s3mount is mounted there", "see `s3mount list`")


def _the_mount() -> Running:
    mountpoints = {entry.mountpoint: entry for entry in _ours()}
    try:
        here = os.getcwd()
    except OSError:
        here = "/"
    inside = [point for point in mountpoints if _below(point, here) is not None]
    candidates = [max(inside, key=len)] if inside else list(mountpoints)
    if len(candidates) != 1:
        cause = "there is none" if not candidates else f"there are {len(candidates)}: name one of them"
        raise StartupError("mount", cause, "see `s3mount list`", Exit.USAGE)
    entry = mountpoints[candidates[0]]
    return _running(entry.mountpoint, os.geteuid() if entry.user_id is None else entry.user_id)


def _running(mountpoint: str, owner: int) -> Running:
    found = runtime.find(mountpoint, owner)
    if found is None:
        raise failure(
            mountpoint, "its process is not on record, or is another user's", "ask as that user, or as root"
        )
    state, directory = found
    if not state.is_running():
        raise failure(
            mountpoint, f"its process {state.pid} has ended", f"clean it up with: s3mount umount {mountpoint}"
        )
    return Running(mountpoint, state, runtime.control_socket(state, directory))


def _ours() -> list[MountEntry]:
    return [entry for entry in entries() if entry.fs_type == FUSE_TYPE]


def _below(mountpoint: str, path: str) -> str | None:
    """Return *path* as seen from *mountpoint*, None if it is elsewhere."""
    if path == mountpoint:
        return "/"
    start = mountpoint.rstrip("/") + "/"
    return "/" + path[len(start) :] if path.startswith(start) else None
