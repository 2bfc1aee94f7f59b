"""Run one cell again: ``python -m tests.sweeps.replay PROGRAM FAULT once|sticky K``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.support.servers import minio
from tests.sweeps.faults import Cell
from tests.sweeps.runner import Runner


def main() -> None:
    """See the module."""
    cell = Cell.parse(" ".join(sys.argv[1:]))
    with tempfile.TemporaryDirectory(prefix="s3mount-replay-") as place, minio() as server:
        runner = Runner(server, Path(place) / "sweep")
        try:
            (outcome,) = runner.run([cell])
            print(f"{cell}: {outcome.requests} requests, injected {outcome.injected}")
            for request in outcome.passed:
                print(f"  {request.operation} {request.key} {request.query} {request.status}")
            print("\n".join(outcome.complaints) or "nothing to complain of")
        finally:
            print("\n".join(runner.close()))
            for log in sorted(Path(place).glob("sweep/lane*/mount*/s3mount.log")):
                print(log.read_text()[-6000:])


if __name__ == "__main__":
    main()
