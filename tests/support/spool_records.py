"""Rows of the spool's journal for hypothesis: any that a mount may have written, and some it cannot have."""

from __future__ import annotations

from hypothesis import strategies as st

from s3mount.core.objects import (
    ByteRange,
    MultipartUpload,
    ObjectHeaders,
    ObjectStat,
    PartTag,
    WriteCondition,
)
from s3mount.core.spool_record import (
    UNKNOWN_KEY,
    Fingerprint,
    SpoolRecord,
    SpoolState,
    SpoolUpload,
)

BOOT = "8f1c0e3a-1111-4222-8333-444455556666"
OTHER_BOOT = "00000000-1111-4222-8333-444455556666"

_times = st.integers(0, (1 << 63) - 1)
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_etags = st.from_regex(r'"[0-9a-f]{32}(-[1-9][0-9]?)?"', fullmatch=True)
_crc32s = st.none() | st.sampled_from(["AAAAAA==", "i9aeUg=="])


def ranges(limit: int) -> st.SearchStrategy[tuple[ByteRange, ...]]:
    """Return sorted, disjoint ranges below *limit*."""
    cuts = st.lists(st.integers(0, limit), unique=True, max_size=8).map(sorted)
    return cuts.map(
        lambda at: tuple(ByteRange(start, stop) for start, stop in zip(at[::2], at[1::2], strict=False))
    )


def headers() -> st.SearchStrategy[ObjectHeaders]:
    """Return headers with and without each field."""
    maybe = st.none() | _texts
    names = st.text(st.characters(codec="ascii", categories=["Ll", "Nd"]), min_size=1, max_size=6)
    return st.builds(
        ObjectHeaders,
        content_type=maybe,
        cache_control=maybe,
        storage_class=maybe,
        metadata=st.dictionaries(names, _texts, max_size=3),
    )


def conditions() -> st.SearchStrategy[WriteCondition]:
    """Return each kind of condition."""
    return st.one_of(
        st.just(WriteCondition()),
        st.just(WriteCondition(if_none_match=True)),
        _etags.map(lambda etag: WriteCondition(if_match=etag)),
    )


def stats(size: st.SearchStrategy[int]) -> st.SearchStrategy[ObjectStat]:
    """Return objects of any *size*."""
    return st.builds(
        ObjectStat,
        key=_texts,
        size=size,
        etag=_etags,
        last_modified_ns=_times,
        headers=st.none() | headers(),
        storage_class=st.none() | _texts,
        crc32=_crc32s,
        has_tags=st.booleans(),
    )


def uploads() -> st.SearchStrategy[SpoolUpload]:
    """Return uploads that were asked for, and such that were begun, with parts in the order of numbers."""
    tags = st.builds(PartTag, st.integers(1, 10_000), _etags, st.integers(0, 5 << 30), _crc32s)
    in_order = st.lists(tags, unique_by=lambda tag: tag.number, max_size=4).map(
        lambda found: tuple(sorted(found, key=lambda tag: tag.number))
    )
    begun = st.builds(
        SpoolUpload,
        asked_ns=_times,
        part_size=st.integers(5 << 20, 5 << 30),
        upload=st.builds(MultipartUpload, _texts, _texts),
        parts=in_order,
    )
    return begun | st.builds(SpoolUpload, _times)


def spool_records() -> st.SearchStrategy[SpoolRecord]:
    """Return records with small sizes; which fields fit together is left to chance."""
    small = st.integers(0, 40)
    return st.builds(
        SpoolRecord,
        id=st.just(0),
        file_name=st.just("1.data"),
        key=st.just(UNKNOWN_KEY) | _texts,
        state=st.sampled_from(SpoolState),
        condition=conditions(),
        base=st.none() | stats(small),
        base_limit=small,
        size=small,
        present=ranges(40),
        headers=st.none() | headers(),
        changed_ns=_times,
        cause=_texts,
        attempts=st.integers(0, 1 << 40),
        is_synced=st.booleans(),
        boot_id=st.sampled_from([BOOT, OTHER_BOOT]),
        upload=st.none() | uploads(),
        unanswered=st.lists(st.builds(Fingerprint, st.integers(0, 1 << 45), _etags, _crc32s), max_size=3).map(
            tuple
        ),
    )
