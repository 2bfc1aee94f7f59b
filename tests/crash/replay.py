"""Play one death again: ``python -m tests.crash.replay crashes|power-cuts WORK KIND NUMBER``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.crash.chain import Chain, Point
from tests.crash.power import PowerCuts
from tests.support.servers import minio

CHAINS = {kind.counted: kind for kind in (Chain, PowerCuts)}


def main() -> None:
    """Do as the arguments say."""
    counted, *words = sys.argv[1:]
    point = Point.parse(*words)
    kind = CHAINS[counted.replace("-", " ")]
    with (
        tempfile.TemporaryDirectory(prefix="s3mount-replay-") as place,
        minio() as server,
        kind(server, point.work, Path(place)) as chain,
    ):
        died = chain.die(point.kind, point.number) is None
        chain.finish()
    print(f"{point}: {'survived' if died else 'the work was done before'}")


if __name__ == "__main__":
    main()
