"""``python -m s3mount`` is the ``s3mount`` command."""

from __future__ import annotations

import sys

from s3mount.cli import main

if __name__ == "__main__":
    sys.exit(main())
