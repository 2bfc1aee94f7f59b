"""Names: inodes, what is known of each directory and for how long, attributes.

May import: ``s3mount.errors``, ``s3mount.core``, ``s3mount.store.base``, trio, cachetools. Never ``data``.
"""
