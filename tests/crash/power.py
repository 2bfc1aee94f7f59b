"""A crash of the whole machine: the disk under the spool forgets what was not synced, and it boots anew."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.crash.chain import Chain
from tests.crash.loop_disk import LoopDisk, loop_disk
from tests.crash.syscalls import Call, Kind
from tests.support.servers import Server

BOOT_ID = "/proc/sys/kernel/random/boot_id"


class PowerCuts(Chain):
    """A chain in which each death is one of the machine: nothing that was not synced is there afterwards.

    A chosen sync is carried out before the power goes; any other chosen call is not.
    """

    is_power_cut = True
    counted = "power cuts"
    # A removal has reached the disk, and its row in the journal has not.
    expected = (*Chain.expected, "the spool's journal has a row of")

    def __init__(self, server: Server, work: str, base: Path, *, options: tuple[str, ...] = ()) -> None:
        super().__init__(server, work, base, options=options)
        self._stack = ExitStack()
        self._boots = 0

    def __enter__(self) -> Chain:
        with ExitStack() as stack:
            stack.enter_context(shared_directory(self.base))
            self._disk: LoopDisk = stack.enter_context(loop_disk(self.base))
            self._stack = stack.pop_all()
        self.spool = self._disk.path / "spool"
        try:
            return super().__enter__()
        except BaseException:
            self._stack.close()
            raise

    def __exit__(self, *failure: object) -> None:
        try:
            super().__exit__(*failure)  # type: ignore[arg-type]
        finally:
            self._stack.close()

    def finish(self) -> None:
        """Besides, the disk's own file system must be sound. Raises: AssertionError."""
        super().finish()
        self._disk.check()

    def _prefix(self) -> tuple[str, ...]:
        return (*another_boot(self.base / f"boot-{self._boots}"), *super()._prefix())

    def _act(self, call: Call) -> None:
        if call.kind is Kind.SYNC:
            descriptor = os.open(f"/proc/{call.pid}/fd/{call.fd}", os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        self._disk.cut_power()

    def _died(self) -> None:
        self._disk.power_on()
        self._boots += 1


@contextmanager
def shared_directory(path: Path) -> Iterator[Path]:
    """Make *path* a place where mounts made in another mount namespace show up, and go, here as well."""
    for options in (
        ("--bind", str(path), str(path)),
        ("--make-private", str(path)),
        ("--make-shared", str(path)),
    ):
        subprocess.run(["mount", *options], check=True, capture_output=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-R", "-l", str(path)], capture_output=True)


def another_boot(file: Path) -> list[str]:
    """Return the beginning of a command line for whom the machine has booted again.

    It gets a mount namespace of its own, in which *file*, made if need be, is the boot id.
    """
    if not file.exists():
        file.write_text(f"{uuid.uuid4()}\n")
    script = f'mount --make-private /proc && mount --bind "$0" {BOOT_ID} && exec "$@"'
    return ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", script, str(file)]
