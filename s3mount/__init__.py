"""s3mount mounts an S3 or MinIO bucket as a directory that ordinary programs can work on.

Layers, each importing only from those to its left (tests/test_architecture.py enforces it)::

    errors <- core <- store.base <- {data | meta} <- fs <- fuse <- mount <- cli
"""

__version__ = "0.1.0"
