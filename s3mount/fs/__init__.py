"""POSIX meaning: what open, write, close, rename do to objects. No FUSE types, no boto3.

May import: ``s3mount.errors``, ``core``, ``store.base``, ``data``, ``meta``, trio.
"""
