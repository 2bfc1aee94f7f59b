"""Play one death again: ``python -m tests.crash.replay kill|cut WORK KIND NUMBER``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.crash.chain import Chain, Point
from tests.support.servers import minio


def main() -> None:
    """Do as the arguments say."""
    how, *words = sys.argv[1:]
    point = Point.parse(*words)
    with tempfile.TemporaryDirectory(prefix="s3mount-replay-") as place, minio() as server:
        base = Path(place)
        assert how == "kill"
        with Chain(server, point.work, base) as chain:
            died = chain.die(point.kind, point.number) is None
            chain.finish()
    print(f"{point}: {'survived' if died else 'the work was done before'}")


if __name__ == "__main__":
    main()
