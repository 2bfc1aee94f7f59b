"""What a spool directory has, counted by its files alone: nothing is opened."""

from __future__ import annotations

import os

from s3mount.core.spool_record import DATA_SUFFIX


def files_left_in(spool_dir: str) -> tuple[int, int]:
    """Return how many files with users' bytes are in *spool_dir*, and their sizes together."""
    count = size = 0
    for directory, _, names in os.walk(spool_dir):
        for name in names:
            if not name.endswith(DATA_SUFFIX):
                continue
            try:
                size += os.lstat(os.path.join(directory, name)).st_size
                count += 1
            except OSError:
                continue
    return count, size
