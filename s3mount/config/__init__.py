"""What a user can choose about a mount. Seen only by ``mount`` and ``cli``; imports errors and core.

``options`` is the one table, ``mount_options`` reads ``-o``, ``model`` checks the whole, ``units`` and
``machine`` know how values are written and what defaults depend on.
"""

from __future__ import annotations

from s3mount.config.model import MountConfig, make_config

__all__ = ["MountConfig", "make_config"]
