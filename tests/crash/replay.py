"""Play deaths again: ``python -m tests.crash.replay crashes|power-cuts WORK KIND NUMBER [KIND NUMBER]``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.crash.chain import Chain, Point
from tests.crash.power import PowerCuts
from tests.crash.syscalls import Kind
from tests.support.servers import minio

CHAINS = {kind.counted: kind for kind in (Chain, PowerCuts)}


def main() -> None:
    """Do as the arguments say."""
    counted, work, *words = sys.argv[1:]
    pairs = zip(words[::2], words[1::2], strict=True)
    first, *more = [Point(Kind(kind), int(number)) for kind, number in pairs]
    kind = CHAINS[counted.replace("-", " ")]
    with (
        tempfile.TemporaryDirectory(prefix="s3mount-replay-") as place,
        minio() as server,
        kind(server, work, Path(place)) as chain,
    ):
        died = [chain.die(first) is None, *(chain.die_again(point) for point in more)]
        chain.finish()
    print("survived" if all(died) else "the work was done before")


if __name__ == "__main__":
    main()
