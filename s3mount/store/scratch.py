"""Objects to try things out with, which are taken away again whatever happens."""

from __future__ import annotations

import functools
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from s3mount.core.objects import MultipartUpload, ObjectHeaders, PartTag
from s3mount.errors import FsError, NotFound, StoreError
from s3mount.store.base import ObjectStore

log = logging.getLogger(__name__)

NAME: Final = ".s3mount-probe-"
CLEANUP_S: Final = 10.0
"""How long taking the scratch keys away may go on after the probe has ended, or was cancelled."""
CLEANUPS: Final = 3
"""A request of the cleaning may fail in passing, as any may."""

_PLAIN: Final = ObjectHeaders()


class Scratch:
    """Keys that nobody else uses, remembered from before they are written until they are gone."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self.store = store
        self.stem = f"{prefix}{NAME}{secrets.token_hex(8)}"
        self.list_has_metadata: bool | None = None
        self._keys: set[str] = set()
        self._uploads: set[MultipartUpload] = set()
        self._in_doubt: set[str] = set()

    def key(self, name: str) -> str:
        """Return a scratch key."""
        key = f"{self.stem}-{name}"
        self._keys.add(key)
        # SeaweedFS goes on listing a directory whose last key was deleted, until its marker is deleted.
        self._keys.update(key[: place + 1] for place in range(len(self.stem), len(key)) if key[place] == "/")
        return key

    async def put(self, key: str, body: bytes) -> str:
        """Store a scratch object; return its ETag."""
        return (await self.store.put(key, body, _PLAIN)).etag or ""

    async def begin(self, key: str) -> tuple[MultipartUpload, list[PartTag]]:
        """Begin an upload of one part."""
        upload = await self.begin_empty(key)
        return upload, [await self.store.upload_part(upload, 1, b"part")]

    async def begin_empty(self, key: str) -> MultipartUpload:
        """Begin an upload without a part."""
        self._in_doubt.add(key)
        upload = await self.store.create_multipart(key, _PLAIN)
        self._uploads.add(upload)
        self._in_doubt.discard(key)
        return upload

    async def complete(
        self,
        upload: MultipartUpload,
        parts: list[PartTag],
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> str:
        """Publish; return the object's ETag."""
        answer = await self.store.complete_multipart(
            upload, parts, if_match=if_match, if_none_match=if_none_match
        )
        self._uploads.discard(upload)
        return answer.etag or ""

    async def is_intact(self, key: str, etag: str) -> bool:
        """Return whether the object is still the one with *etag*."""
        return (await self.store.head(key)).etag == etag

    async def is_absent(self, key: str) -> bool:
        """Return whether there is no such object."""
        try:
            await self.store.head(key)
        except NotFound:
            return True
        return False

    async def clean(self) -> None:
        """Take away every key and upload, whatever has become of the probe; log what stays."""
        failures: list[FsError] = []
        with trio.move_on_after(CLEANUP_S, shield=True) as patience:
            for _ in range(CLEANUPS):
                if not (failures := await self._clean_once()):
                    return
        said = "no answer in time" if patience.cancelled_caught else failures[0]
        log.warning("scratch objects under %s may be left in the bucket: %s", self.stem, said)

    async def _clean_once(self) -> list[FsError]:
        """Try every step, whatever becomes of the others; return what failed."""
        failures = []
        steps: list[Callable[[], Awaitable[None]]] = [
            functools.partial(self._find_uploads, key) for key in sorted(self._in_doubt)
        ]
        for step in (*steps, self._abort_uploads, self._delete_objects):
            try:
                await step()
            except FsError as exc:
                failures.append(exc)
        return failures

    async def _find_uploads(self, key: str) -> None:
        self._uploads.update(await self.store.list_multipart_uploads(key))
        self._in_doubt.discard(key)

    async def _abort_uploads(self) -> None:
        failure: FsError | None = None
        for upload in sorted(self._uploads, key=lambda one: one.key):
            try:
                await self.store.abort_multipart(upload)
                self._uploads.discard(upload)
            except FsError as exc:
                failure = exc
        if failure is not None:
            raise failure

    async def _delete_objects(self) -> None:
        if not self._keys:
            return
        left = await self.store.delete_many(sorted(self._keys, reverse=True))
        if left or (await self.store.list_page(self.stem, delimiter="")).objects:
            raise StoreError(f"{len(left) or 'some'} of them could not be deleted")
        self._keys.clear()
