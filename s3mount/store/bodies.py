"""Bytes on their way: a stretch of a file as the body of a request, an answer's body into a buffer."""

from __future__ import annotations

import http.client
import io
import os
import re
from dataclasses import dataclass
from typing import Any, Final

from urllib3.exceptions import HTTPError

from s3mount.core.objects import Body, ByteRange, FileSlice
from s3mount.errors import BadAnswer

# Larger pieces gain nothing measurable.
PIECE_BYTES: Final = 1024 * 1024
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class SliceReader(io.RawIOBase):
    """A seekable file that is a :class:`FileSlice`; reads with pread, so slices of one file do not meet."""

    def __init__(self, source: FileSlice) -> None:
        super().__init__()
        self._source = source
        self._position = 0

    def __len__(self) -> int:
        return self._source.span.size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self)}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, len(self) - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        data = os.pread(self._source.fd, wanted, self._source.span.start + self._position)
        if len(data) < wanted and not data:
            raise OSError(f"file ended {left} bytes before the slice did")
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


def request_body(body: Body) -> bytes | SliceReader:
    """Return *body* in a form that botocore sends, and can send again when it retries."""
    return body if isinstance(body, bytes) else SliceReader(body)


@dataclass(frozen=True, slots=True)
class Received:
    """How much of a body came, and what ended it early; None where it ended by itself."""

    size: int
    failure: Exception | None


def read_body(raw: Any, buffer: memoryview) -> Received:
    """Read the body of urllib3 response *raw* into *buffer*, which is as long as the body should be.

    The connection goes back to the pool after exactly that many bytes, and is closed otherwise.

    Raises: BadAnswer (more bytes than that).
    """
    # urllib3's own readinto reads into a temporary and copies; the response under it does not.
    source = getattr(raw, "_fp", None)
    if not isinstance(source, http.client.HTTPResponse):
        source = raw
    received = 0
    try:
        while received < len(buffer):
            count = source.readinto(buffer[received : received + PIECE_BYTES])
            if not count:
                break
            received += count
        whole = received == len(buffer)
        if whole and source.read(1):
            raise BadAnswer(f"GET answered with more than the {len(buffer)} bytes asked for")
        if whole:
            raw.release_conn()
    except (OSError, http.client.HTTPException, HTTPError) as exc:
        return Received(received, exc)
    finally:
        raw.close()
    return Received(received, None)


def parse_content_range(text: str | None) -> tuple[ByteRange, int | None] | None:
    """Return the span and total size that a Content-Range header claims; None where it claims none."""
    matched = _CONTENT_RANGE.fullmatch((text or "").strip())
    if matched is None:
        return None
    first, last, total = matched.groups()
    if int(last) < int(first):
        return None
    return ByteRange(int(first), int(last) + 1), None if total == "*" else int(total)
