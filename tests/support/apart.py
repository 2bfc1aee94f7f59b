"""A mount namespace of a test's own."""

from __future__ import annotations

#: Takes the mounts of other tests out of it, first of all: as long as a copy is there, a mount that is
#: unmounted outside does not end.
LET_GO = "umount --internal-only --lazy --all --types fuse.s3mount"

#: A launcher prefix: mounts of the command after it are seen by nobody else.
APART = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{LET_GO}; exec "$@"', "sh"]
