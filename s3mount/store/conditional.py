"""A store whose conditions hold on every server, as well as that server allows.

What the server honours is passed on to it. Elsewhere a HEAD just before asks, which leaves a window: the
change of another host between the two is lost.
"""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

import trio

from s3mount.core.answers import same_etag
from s3mount.core.objects import (
    Body,
    ByteRange,
    ListPage,
    MultipartUpload,
    ObjectHeaders,
    ObjectStat,
    PartTag,
    RangeAnswer,
    WriteAnswer,
)
from s3mount.core.server_facts import ServerFacts
from s3mount.errors import ConditionFailed, FsError, NotFound, WriteRace
from s3mount.store.base import ObjectStore

log = logging.getLogger(__name__)
T = TypeVar("T")

RACES: Final = 4
"""Tries of a write that meets another one under way."""
RACE_PAUSE_S: Final = 0.2
"""The longest pause after the first such try; it doubles with each."""
ABORT_GRACE_S: Final = 10.0


class ConditionalStore:
    """Wraps an :class:`~s3mount.store.base.ObjectStore`, and is one.

    A write without a condition goes through as it is. A condition that does not hold is ConditionFailed,
    whatever the server calls it, and nothing was written: also of If-Match where there is no object, which
    AWS and MinIO call not found.

    Args:
        inner: its answers are checked already; none is invented here.
        facts: what is False in them is asked for by HEAD.
    """

    def __init__(self, inner: ObjectStore, facts: ServerFacts) -> None:
        self._inner = inner
        self._facts = facts

    async def head(self, key: str, *, checksum: bool = False) -> ObjectStat:
        return await self._inner.head(key, checksum=checksum)

    async def list_page(
        self,
        prefix: str,
        *,
        delimiter: str = "/",
        token: str | None = None,
        start_after: str | None = None,
        max_keys: int = 1000,
    ) -> ListPage:
        return await self._inner.list_page(
            prefix, delimiter=delimiter, token=token, start_after=start_after, max_keys=max_keys
        )

    async def get_into(
        self,
        key: str,
        span: ByteRange,
        buffer: memoryview,
        *,
        if_match: str | None,
        is_whole: bool = False,
        background: bool = False,
    ) -> RangeAnswer:
        return await self._inner.get_into(
            key, span, buffer, if_match=if_match, is_whole=is_whole, background=background
        )

    async def put(
        self,
        key: str,
        body: Body,
        headers: ObjectHeaders,
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> WriteAnswer:
        if_match, if_none_match = await self._left_to_ask(
            key,
            if_match,
            if_none_match,
            honours_match=self._facts.put_if_match,
            honours_none_match=self._facts.put_if_none_match,
        )
        put = functools.partial(
            self._inner.put, key, body, headers, if_match=if_match, if_none_match=if_none_match
        )
        try:
            return await _decided(put)
        except NotFound as exc:
            if if_match is None:
                raise
            raise ConditionFailed(f"{key!r} is not there any more") from exc

    async def create_multipart(self, key: str, headers: ObjectHeaders) -> MultipartUpload:
        return await self._inner.create_multipart(key, headers)

    async def upload_part(self, upload: MultipartUpload, number: int, body: Body) -> PartTag:
        return await self._inner.upload_part(upload, number, body)

    async def copy_part(
        self, upload: MultipartUpload, number: int, source_key: str, span: ByteRange, *, if_match: str
    ) -> PartTag:
        if not self._facts.copy_part_source_if_match:
            await self._need_match(source_key, if_match, absent=NotFound)
        return await self._inner.copy_part(upload, number, source_key, span, if_match=if_match)

    async def complete_multipart(
        self,
        upload: MultipartUpload,
        parts: Sequence[PartTag],
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> WriteAnswer:
        if_match, if_none_match = await self._left_to_ask(
            upload.key,
            if_match,
            if_none_match,
            honours_match=self._facts.complete_if_match,
            honours_none_match=self._facts.complete_if_none_match,
        )
        complete = functools.partial(
            self._inner.complete_multipart, upload, parts, if_match=if_match, if_none_match=if_none_match
        )
        try:
            return await _decided(complete)
        except NotFound:
            if if_match is not None:
                # The object or the upload? An upload that is gone can be begun anew, so it matters.
                await self._need_match(upload.key, if_match)
            raise

    async def abort_multipart(self, upload: MultipartUpload) -> None:
        await self._inner.abort_multipart(upload)

    async def list_parts(self, upload: MultipartUpload) -> list[PartTag]:
        return await self._inner.list_parts(upload)

    async def list_multipart_uploads(self, prefix: str) -> list[MultipartUpload]:
        return await self._inner.list_multipart_uploads(prefix)

    async def copy(
        self,
        source_key: str,
        target_key: str,
        *,
        if_match: str | None,
        headers: ObjectHeaders | None,
        storage_class: str | None = None,
        if_none_match: bool = False,
    ) -> WriteAnswer:
        if if_none_match and not self._facts.copy_if_none_match:
            if self._facts.copy_creates_once:
                made = await self._create_from(source_key, target_key, if_match, headers, storage_class)
                if made is not None:
                    return made
            await self._need_absence(target_key)
            if_none_match = False
        if if_match is not None and not self._facts.copy_source_if_match:
            await self._need_match(source_key, if_match, absent=NotFound)
        copy = functools.partial(
            self._inner.copy,
            source_key,
            target_key,
            if_match=if_match,
            headers=headers,
            storage_class=storage_class,
            if_none_match=if_none_match,
        )
        return await _decided(copy)

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        if if_match is not None and not self._facts.delete_if_match:
            try:
                await self._need_match(key, if_match, absent=NotFound)
            except NotFound:
                return
            if_match = None
        await _decided(functools.partial(self._inner.delete, key, if_match=if_match))

    async def delete_many(self, keys: Sequence[str]) -> list[str]:
        return await self._inner.delete_many(keys)

    async def _left_to_ask(
        self,
        key: str,
        if_match: str | None,
        if_none_match: bool,
        *,
        honours_match: bool,
        honours_none_match: bool,
    ) -> tuple[str | None, bool]:
        """Ask by HEAD what the server does not honour; return the conditions that it does."""
        if if_match is not None and not honours_match:
            await self._need_match(key, if_match)
            if_match = None
        if if_none_match and not honours_none_match:
            await self._need_absence(key)
            if_none_match = False
        return if_match, if_none_match

    async def _need_match(
        self, key: str, if_match: str, *, absent: type[FsError] = ConditionFailed
    ) -> ObjectStat:
        try:
            found = await self._inner.head(key)
        except NotFound as exc:
            raise absent(f"{key!r} is not there any more") from exc
        if not same_etag(found.etag, if_match):
            raise ConditionFailed(f"{key!r} is {found.etag} by now, not {if_match}")
        return found

    async def _need_absence(self, key: str) -> None:
        try:
            found = await self._inner.head(key)
        except NotFound:
            return
        raise ConditionFailed(f"{key!r} is there already, as {found.etag}")

    async def _create_from(
        self,
        source_key: str,
        target_key: str,
        if_match: str | None,
        headers: ObjectHeaders | None,
        storage_class: str | None,
    ) -> WriteAnswer | None:
        """Copy so that the target is created: where CopyObject would replace it, Complete does not.

        Returns: None where the source has tags, which only CopyObject keeps.
        """
        source = await self._inner.head(source_key)
        if if_match is not None and not same_etag(source.etag, if_match):
            raise ConditionFailed(f"{source_key!r} is {source.etag} by now, not {if_match}")
        if source.has_tags:
            return None
        made = headers if headers is not None else source.headers or ObjectHeaders()
        made = replace(made, storage_class=storage_class or (headers.storage_class if headers else None))
        if not source.size:
            # UploadPartCopy cannot say "no bytes".
            return await self.put(target_key, b"", made, if_none_match=True)
        upload = await self._inner.create_multipart(target_key, made)
        try:
            span = ByteRange(0, source.size)
            part = await self.copy_part(upload, 1, source_key, span, if_match=source.etag)
            return await self.complete_multipart(upload, [part], if_none_match=True)
        except BaseException:
            with trio.move_on_after(ABORT_GRACE_S, shield=True):
                await self._abort_quietly(upload)
            raise

    async def _abort_quietly(self, upload: MultipartUpload) -> None:
        try:
            await self._inner.abort_multipart(upload)
        except FsError as exc:
            log.warning("upload %s of %r is left in the bucket: %s", upload.upload_id, upload.key, exc)


async def _decided(write: Callable[[], Awaitable[T]]) -> T:
    """Carry *write* out, again while it meets another one that has not ended.

    Raises: WriteRace where they do not end, what *write* raises.
    """
    pause_s = RACE_PAUSE_S
    for _ in range(RACES - 1):
        try:
            return await write()
        except WriteRace as exc:
            log.debug("once more: %s", exc)
        await trio.sleep(random.uniform(0, pause_s))
        pause_s *= 2
    return await write()
