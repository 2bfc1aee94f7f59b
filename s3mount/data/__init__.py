"""Bytes: blocks that were read, spools that were written, uploads.

May import: ``s3mount.errors``, ``s3mount.core``, ``s3mount.store.base``, trio, cachetools. Never ``meta``.
"""
