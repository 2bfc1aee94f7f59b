"""Serve one mount in this process, leaving word of it for ``s3mount umount``."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from s3mount import runtime
from s3mount.cli import privileges
from s3mount.config import MountConfig
from s3mount.config.machine import Worker, forbid_dumps, worker_for
from s3mount.core.exits import Exit

if TYPE_CHECKING:
    from s3mount.config.files import ConfigSource
    from s3mount.mount import Beside

log = logging.getLogger(__name__)


def serve_mount(
    config: MountConfig,
    *,
    log_file: str | None,
    on_ready: Callable[[], None],
    beside: Beside | None = None,
    source: ConfigSource | None = None,
) -> int:
    """Serve *config* until it is unmounted and drained, and return the exit code.

    A mount of root's that is to run as another user has become that user before anything else is begun.

    Args:
        on_ready: called once the mount answers.
        beside: what else watches the mount, to the end of its drain.
        source: where *config* is from, to be read again.

    Raises: StartupError before *on_ready*.
    """
    worker = worker_for(config.run_as)
    record = _Record(config, log_file)
    record.prepare(worker)
    mounter = privileges.mounter_for(config, worker, log_file, source)
    forbid_dumps()

    from s3mount.mount import serve  # also what it imports is no longer root's

    def ready() -> None:
        record.begin()
        on_ready()

    exit_code = int(Exit.FAILURE)
    try:
        exit_code = serve(
            config, mounter, on_ready=ready, control=record.control_socket(), beside=beside, source=source
        )
    finally:
        record.end(exit_code)
    return exit_code


class _Record:
    """The state file. Without one the mount works, and ``s3mount umount`` cannot wait for it."""

    def __init__(self, config: MountConfig, log_file: str | None) -> None:
        pid = os.getpid()
        self._state = runtime.MountState(
            pid=pid,
            started=runtime.process_started(pid) or 0,
            mountpoint=config.mountpoint,
            source=config.source,
            spool_dir=config.spool_dir,
            drain_timeout_s=config.drain_timeout_s,
            log_file=log_file,
            control=runtime.control_name(config.mountpoint, pid),
        )
        self._directory: Path | None = None
        self._is_written = False

    def prepare(self, worker: Worker | None) -> None:
        try:
            if worker is None:
                self._directory = runtime.usable_directory()
            else:
                self._directory = runtime.make_directory_for(worker.name, worker.uid, worker.gid)
        except (OSError, runtime.UnsafeDirectory) as error:
            self._do_without(error)

    def control_socket(self) -> Path | None:
        return None if self._directory is None else runtime.control_socket(self._state, self._directory)

    def begin(self) -> None:
        if self._directory is None:
            return
        runtime.sweep_sockets(self._state, self._directory)
        try:
            runtime.write(self._state, self._directory)
        except OSError as error:
            self._do_without(error)
        else:
            self._is_written = True

    def _do_without(self, error: Exception) -> None:
        log.warning("no state file, so umount cannot wait for this process: %s", error)

    def end(self, exit_code: int) -> None:
        if self._directory is not None and self._is_written:
            runtime.record_end(self._state, exit_code, self._directory)
