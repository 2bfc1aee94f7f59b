"""One object of a rename: its copy shows what the object showed."""

from __future__ import annotations

from dataclasses import replace

from s3mount.core.attributes import Attributes, from_metadata, to_metadata
from s3mount.core.content_types import for_key
from s3mount.core.objects import ObjectStat
from s3mount.core.rename_job import is_marker, wanted_attributes
from s3mount.data.uploader import Uploader
from s3mount.fs.publishing import stat_of
from s3mount.store.base import ObjectStore


class Copier:
    """Copies objects inside the server under new names."""

    def __init__(self, store: ObjectStore, uploader: Uploader) -> None:
        self._store = store
        self._uploader = uploader

    async def described(self, stat: ObjectStat) -> ObjectStat:
        """Return *stat* with its headers, asked for if need be: then it may be another version.

        Raises: NotFound, what the store raises.
        """
        return stat if stat.headers is not None else await self._store.head(stat.key)

    async def copy(
        self, old: ObjectStat, new_key: str, mtime_ns: int, *, if_none_match: bool = False
    ) -> tuple[ObjectStat, Attributes]:
        """Copy *old*, which has headers; return the copy's stat, and the attributes stored with it.

        Args:
            mtime_ns: the time that the object shows where none is stored: the copy's own is now.
            if_none_match: there must be nothing at *new_key*.

        Cancel: a request that runs is finished first; a copy in parts is aborted.
        Raises: NotFound, ConditionFailed (the source is another object by now, or there is a target), what
            the store raises.
        """
        headers = old.headers
        assert headers is not None
        stored = from_metadata(headers.metadata)
        wanted = wanted_attributes(stored, mtime_ns)
        if wanted != stored:
            is_directory = old.key.endswith("/")
            metadata = to_metadata(headers.metadata, wanted, is_directory=is_directory)
            headers = replace(headers, metadata=metadata)
        if headers.content_type in (None, for_key(old.key)):
            # Given by the old name's extension, as of a program's temporary file: the new name knows better.
            headers = replace(headers, content_type=for_key(new_key))
        if is_marker(old.key, old.size):
            # SeaweedFS lists a directory's marker and says of its copy that there is none.
            answer = await self._store.put(new_key, b"", headers)
        else:
            answer = await self._uploader.copy(old, new_key, headers, if_none_match=if_none_match)
        return stat_of(new_key, old.size, answer, headers), wanted
