"""Can a store's answer be true? One predicate for each kind of answer.

Each returns None for an answer that can be believed, else what is wrong with it, as the end of a
sentence that begins with the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from s3mount.core.objects import ByteRange, ListPage, ObjectStat, PartTag, RangeAnswer
from s3mount.core.parts import MAX_OBJECT_BYTES, MAX_PART_BYTES, MAX_PARTS

ALIASES: Final = ("-s3alias", "--ol-s3")
"""How the aliases of S3's access points end."""


def doubt_stat(stat: ObjectStat, key: str) -> str | None:
    """Judge the answer to a HEAD of *key*."""
    if stat.key != key:
        return f"describes {stat.key!r}"
    return _doubt_object(stat)


def doubt_page(
    page: ListPage, *, prefix: str, delimiter: str, token: str | None, max_keys: int
) -> str | None:
    """Judge one page of a listing of *prefix*, asked for with these arguments."""
    if page.echoed_prefix is not None and page.echoed_prefix != prefix:
        return f"lists prefix {page.echoed_prefix!r}"
    count = len(page.objects) + len(page.prefixes)
    if page.key_count is not None and page.key_count != count:
        return f"has {count} entries and says {page.key_count}"
    if count > max_keys:
        return f"has {count} entries where at most {max_keys} were asked for"
    if page.truncated and page.next_token is None:
        return "is cut off without a token to go on with"
    if page.truncated and page.next_token == token:
        return "goes on with the token it was asked with, for ever"
    return _doubt_objects(page.objects, prefix) or _doubt_prefixes(page.prefixes, prefix, delimiter)


def doubt_bucket(page: ListPage, bucket: str) -> str | None:
    """Judge of which bucket a page is; one that says that there is nothing has to say where."""
    if page.bucket is None:
        return None if page.objects or page.prefixes else "is empty and does not say of which bucket"
    # Another name for a bucket is answered with the bucket's own.
    if page.bucket != bucket and not bucket.endswith(ALIASES):
        return f"lists bucket {page.bucket!r} instead of {bucket!r}"
    return None


def doubt_range(answer: RangeAnswer, *, span: ByteRange, if_match: str | None) -> str | None:
    """Judge the answer to a GET of *span*."""
    if answer.etag is None:
        return "has no ETag"
    if if_match is not None and not same_etag(answer.etag, if_match):
        return f"has ETag {answer.etag} instead of {if_match}"
    if answer.span != span:
        return f"is of {_words(answer.span)} instead of {_words(span)}"
    if answer.received != span.size:
        return f"brought {answer.received} of {span.size} bytes"
    if answer.total_size is not None and answer.total_size < span.stop:
        return f"is of an object of {answer.total_size} bytes and yet reaches {span.stop}"
    return None


def doubt_write(etag: str | None) -> str | None:
    """Judge the answer to a PUT, a copy or a finished upload."""
    return None if etag and etag.strip('"') else "has no ETag"


def doubt_part(part: PartTag, *, number: int, size: int) -> str | None:
    """Judge the answer to a part that was sent or copied."""
    if part.number != number or part.size != size:
        return f"is of part {part.number} with {part.size} bytes"
    return doubt_write(part.etag)


def doubt_parts(parts: Sequence[PartTag]) -> str | None:
    """Judge the list of an upload's parts."""
    last = 0
    for part in parts:
        if not last < part.number <= MAX_PARTS:
            return f"has part {part.number} after part {last}"
        if not 0 <= part.size <= MAX_PART_BYTES:
            return f"gives part {part.number} {part.size} bytes"
        if doubt_write(part.etag) is not None:
            return f"gives part {part.number} no ETag"
        last = part.number
    return None


def doubt_deletion(left: Sequence[str], keys: Sequence[str]) -> str | None:
    """Judge which of *keys* are said to be left."""
    strangers = set(left).difference(keys)
    return f"speaks of {min(strangers)!r}, which was not asked for" if strangers else None


def same_etag(one: str, other: str) -> bool:
    """Compare as servers do: quotes do not count, and nor does the weak mark that proxies add."""
    return one.removeprefix("W/").strip('"') == other.removeprefix("W/").strip('"')


def _doubt_object(stat: ObjectStat) -> str | None:
    if not 0 <= stat.size <= MAX_OBJECT_BYTES:
        return f"gives {stat.key!r} {stat.size} bytes"
    if not stat.etag.strip('"'):
        return f"gives {stat.key!r} no ETag"
    return None


def _doubt_objects(objects: Sequence[ObjectStat], prefix: str) -> str | None:
    for stat in objects:
        if not stat.key.startswith(prefix) or not stat.key:
            return f"has {stat.key!r}, which does not begin with {prefix!r}"
        if (doubt := _doubt_object(stat)) is not None:
            return doubt
    return None


def _doubt_prefixes(prefixes: Sequence[str], prefix: str, delimiter: str) -> str | None:
    for one in prefixes:
        if not one.startswith(prefix) or len(one) <= len(prefix):
            return f"has common prefix {one!r}, which is not below {prefix!r}"
        if not delimiter or not one.endswith(delimiter):
            return f"has common prefix {one!r}, which does not end in the delimiter {delimiter!r}"
    return None


def _words(span: ByteRange | None) -> str:
    return "no range" if span is None else f"bytes {span.start} up to {span.stop}"
