"""What the operations on files work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from s3mount.core.readahead import Readahead
from s3mount.data.block_cache import BlockCache
from s3mount.data.spool import SpoolDir
from s3mount.data.uploader import Uploader
from s3mount.fs.upload_queue import UploadQueue
from s3mount.meta.namespace import Namespace
from s3mount.store.base import ObjectStore


@dataclass(frozen=True)
class FileServices:
    """What open files work with."""

    store: ObjectStore
    namespace: Namespace
    cache: BlockCache
    spool_dir: SpoolDir
    uploader: Uploader
    queue: UploadQueue
    new_readahead: Callable[[], Readahead]
    on_conflict: Literal["fail", "overwrite", "keep-both"] = "fail"
    write_back_s: float | None = None
    """How long after a close its upload begins; None: the close waits for it."""
