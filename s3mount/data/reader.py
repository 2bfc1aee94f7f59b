"""Reading one version of one object."""

from __future__ import annotations

from s3mount.core.objects import ByteRange, ObjectStat
from s3mount.core.readahead import Readahead
from s3mount.data.block_cache import BlockCache, Buffer


class ObjectReader:
    """Reads the version of an object that *stat* describes, never another one."""

    __slots__ = ("_cache", "stat")

    def __init__(self, cache: BlockCache, stat: ObjectStat) -> None:
        self._cache = cache
        self.stat = stat

    async def read(self, span: ByteRange, readahead: Readahead | None = None) -> Buffer:
        """Return the bytes of *span* that lie within the object, exactly.

        Args:
            readahead: the handle's; what it foresees is fetched in the background.

        Raises: StaleObject (another version is there now), what the store raises.
        """
        if readahead is not None:
            # Before the read itself, so that the two are fetched at once. Hints have at most half of
            # the memory and their own connections, so the read does not wait for them.
            self._cache.offer(self.stat, readahead.observe(span, self.stat.size))
        return await self._cache.read(self.stat, span)
