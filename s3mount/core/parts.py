"""How an object of a known size is sent or copied within S3's limits.

The limits (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html): parts of 5 MiB to
5 GiB, the last may be smaller; at most 10,000 of them; one PUT or one CopyObject of at most 5 GiB.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from s3mount.core.objects import ByteRange, MultipartUpload
from s3mount.errors import FileTooLarge

MIB = 1 << 20
GIB = 1 << 30
MIN_PART_BYTES = 5 * MIB
MAX_PART_BYTES = 5 * GIB
MAX_PARTS = 10_000
MAX_SINGLE_BYTES = 5 * GIB
MAX_OBJECT_BYTES = MAX_PARTS * MAX_PART_BYTES  # 48.8 TiB


@dataclass(frozen=True, slots=True)
class SinglePut:
    """One PUT sends all *size* bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class SingleCopy:
    """One CopyObject copies all *size* bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class Multipart:
    """Parts of *part_size* bytes each; the last holds what is left of *size*."""

    size: int
    part_size: int

    def __len__(self) -> int:
        return (self.size + self.part_size - 1) // self.part_size

    def __iter__(self) -> Iterator[ByteRange]:
        """Go over the parts in order; part number 1 comes first."""
        for start in range(0, self.size, self.part_size):
            yield ByteRange(start, min(start + self.part_size, self.size))


def plan(size: int, *, part_size: int, single_put_max: int) -> SinglePut | Multipart:
    """Decide how to send *size* bytes.

    Args:
        part_size: the part size wished for; raised where S3 would refuse it.
        single_put_max: up to this size one PUT, never above what S3 takes in one.

    Raises: FileTooLarge.
    """
    if size <= min(single_put_max, MAX_SINGLE_BYTES):
        return SinglePut(size)
    return _multipart(size, part_size)


def copy_plan(
    size: int, *, part_size: int, single_copy_max: int = MAX_SINGLE_BYTES
) -> SingleCopy | Multipart:
    """Decide how to copy *size* bytes inside the server; the arguments are those of :func:`plan`.

    Raises: FileTooLarge.
    """
    if size <= min(single_copy_max, MAX_SINGLE_BYTES):
        return SingleCopy(size)
    return _multipart(size, part_size)


def _multipart(size: int, wished: int) -> Multipart:
    if size > MAX_OBJECT_BYTES:
        raise FileTooLarge(f"{size} bytes; S3 stores at most {MAX_OBJECT_BYTES}")
    smallest = -(-size // MAX_PARTS)
    part_size = max(min(wished, MAX_PART_BYTES), MIN_PART_BYTES, smallest)
    return Multipart(size, -(-part_size // MIB) * MIB)


STRAY_GRAIN_NS = 1_000_000_000
"""Some servers tell the time of an upload in whole seconds."""

STRAY_WINDOW_NS = 15 * 60 * 1_000_000_000
"""A request that may have begun an upload has done it after this long, retries included, or never."""


def strays(
    listed: Sequence[MultipartUpload],
    own: MultipartUpload,
    *,
    elapsed_ns: int,
    known: Collection[str],
) -> list[MultipartUpload]:
    """Return the uploads that may have been begun by a request whose answer was lost.

    Only the server's clock counts: *own* was begun just now, the request *elapsed_ns* before it.

    Args:
        listed: what the server has of the key, *own* among it.
        known: ids of uploads of this key that somebody here goes on with.
    """
    now_ns = next((one.begun_ns for one in listed if one == own), None)
    if now_ns is None:
        return []
    first = now_ns - elapsed_ns - STRAY_GRAIN_NS
    last = now_ns - elapsed_ns + STRAY_WINDOW_NS + STRAY_GRAIN_NS
    return [
        one
        for one in listed
        if one.key == own.key
        and one != own
        and one.upload_id not in known
        and one.begun_ns is not None
        and first <= one.begun_ns <= last
    ]
