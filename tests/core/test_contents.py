"""An object is taken for what was written only by its checksums."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3mount.core.contents import Content, content_of, etag_of_parts, holds, is_made_of
from s3mount.core.objects import ObjectStat, PartTag

HELLO = content_of([b"hel", b"", b"lo"])
PARTS = (
    PartTag(1, '"f5be4f5181c92ec36ee0a582f05ef374"', 5, "GhOAeA=="),
    PartTag(2, '"7f021a1415b86f2d013b2618fb31ae53"', 3, "APwzsQ=="),
)


def stat(size: int, etag: str, crc32: str | None = None) -> ObjectStat:
    """An object as a HEAD with checksums shows it."""
    return ObjectStat("k", size, etag, 0, crc32=crc32)


def test_what_servers_say_of_hello() -> None:
    """The values are those that MinIO, SeaweedFS and moto give."""
    assert Content(5, "NhCmhg==", "5d41402abc4b2a76b9719d911017c592") == HELLO


@given(st.lists(st.binary()))
def test_pieces_do_not_matter(pieces: list[bytes]) -> None:
    """Only the bytes do."""
    assert content_of(pieces) == content_of([b"".join(pieces)])


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (stat(5, '"5d41402abc4b2a76b9719d911017c592"'), True),
        (stat(5, 'W/"5d41402abc4b2a76b9719d911017c592"'), True),
        (stat(5, '"kms"', "NhCmhg=="), True),
        (stat(5, '"kms"', "AAAAAA=="), False),
        (stat(5, '"00000000000000000000000000000000"', "AAAAAA=="), False),
        (stat(4, '"5d41402abc4b2a76b9719d911017c592"', "NhCmhg=="), False),
        (stat(5, '"kms"'), None),
        (stat(5, '"3eaf2c9512f76a55da265ad51ac21393-1"', "AAAAAA==-1"), None),
    ],
    ids=repr,
)
def test_an_object_holds_what_its_checksums_say(found: ObjectStat, expected: bool | None) -> None:
    """Size and one checksum for yes; another size or a whole other CRC32 for no; else nobody knows."""
    assert holds(found, HELLO) is expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (stat(8, '"b20b6fcfee13ff857d788a88d3ac7472-2"'), True),
        (stat(8, '"kms-2"', "/a6nkQ==-2"), True),
        (stat(8, '"kms-2"', "/a6nkQ=="), True),
        (stat(9, '"b20b6fcfee13ff857d788a88d3ac7472-2"'), False),
        (stat(8, '"b20b6fcfee13ff857d788a88d3ac7472-3"'), False),
        (stat(8, '"kms-2"', "AAAAAA==-2"), False),
        (stat(8, '"kms-2"'), False),
    ],
    ids=repr,
)
def test_an_object_is_made_of_the_parts_that_its_etag_or_checksum_names(
    found: ObjectStat, expected: bool
) -> None:
    """The values are MinIO's, of parts with these tags."""
    assert is_made_of(found, PARTS) is expected


def test_parts_without_checksums_are_told_by_etags_alone() -> None:
    """And where those are no MD5s, not at all."""
    bare = [PartTag(one.number, one.etag, one.size) for one in PARTS]
    assert is_made_of(stat(8, '"b20b6fcfee13ff857d788a88d3ac7472-2"', "AAAAAA=="), bare)
    assert not is_made_of(stat(0, '"kms-1"'), [PartTag(1, '"kms"', 0)])
    assert etag_of_parts([PartTag(1, '"kms"', 0)]) is None


@given(st.lists(st.binary(), min_size=1))
def test_the_etag_of_parts_is_the_md5_of_their_md5s(bodies: list[bytes]) -> None:
    """With their number behind it."""
    digests = [hashlib.md5(body, usedforsecurity=False) for body in bodies]
    parts = [
        PartTag(n, f'"{one.hexdigest()}"', len(body))
        for n, (one, body) in enumerate(zip(digests, bodies, strict=True), 1)
    ]
    whole = hashlib.md5(b"".join(one.digest() for one in digests), usedforsecurity=False)
    assert etag_of_parts(parts) == f"{whole.hexdigest()}-{len(bodies)}"
