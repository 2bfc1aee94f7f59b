"""A page of a listing comes out whole and exact, or not at all."""

from __future__ import annotations

from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3mount.core.objects import ListPage, ObjectHeaders, ObjectStat
from s3mount.errors import BadAnswer
from s3mount.store.listing_xml import parse_list_page, unquote_key

NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
SECOND_NS = 1_700_000_000 * 1_000_000_000


def contents(key: str, more: str = "", *, size: int = 5, etag: str = '"e"') -> str:
    """One key as servers write it."""
    return (
        f"<Contents><Key>{key}</Key><LastModified>2023-11-14T22:13:20.678Z</LastModified>"
        f"<ETag>{escape(etag)}</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass>{more}</Contents>"
    )


def document(inside: str, *, truncated: str = "false", encoded: bool = True) -> bytes:
    """A page around *inside*."""
    encoding = "<EncodingType>url</EncodingType>" if encoded else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult {NAMESPACE}><Name>b</Name>'
        f"<Prefix>d%2F</Prefix><KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys><Delimiter>%2F</Delimiter>"
        f"<IsTruncated>{truncated}</IsTruncated>{inside}{encoding}</ListBucketResult>"
    ).encode()


def test_a_plain_key() -> None:
    """Its time is cut to whole seconds; STANDARD is no storage class; headers are not known."""
    page = parse_list_page(document(contents("d%2Fx")))
    assert page == ListPage(
        objects=(ObjectStat("d/x", 5, '"e"', SECOND_NS, None, None),),
        prefixes=(),
        next_token=None,
        truncated=False,
        echoed_prefix="d/",
        key_count=1,
        bucket="b",
    )


def test_common_prefixes_and_a_token() -> None:
    """The token is passed on as it is, prefixes are decoded."""
    inside = (
        "<CommonPrefixes><Prefix>d%2Fa+b%2F</Prefix></CommonPrefixes>"
        "<CommonPrefixes><Prefix>d%2Fc%2F</Prefix></CommonPrefixes>"
        "<NextContinuationToken>a%2Fb+c==</NextContinuationToken>"
    )
    page = parse_list_page(document(inside, truncated="true"))
    assert page.prefixes == ("d/a b/", "d/c/")
    assert (page.next_token, page.truncated) == ("a%2Fb+c==", True)


def test_metadata_of_minio() -> None:
    """Names lose their prefix and case, other headers go where they belong, tags are left out."""
    inside = contents(
        "x",
        "<UserMetadata><content-type>text/x</content-type><X-Amz-Meta-Mode>33188</X-Amz-Meta-Mode>"
        "<X-Amz-Meta-With-Dash>a &#34;b&#34;</X-Amz-Meta-With-Dash><cache-control>no-store</cache-control>"
        "<content-disposition>inline</content-disposition><content-encoding>br</content-encoding>"
        "<content-language>de</content-language><expires>never</expires></UserMetadata>"
        "<UserTags>a=b</UserTags><Internal><K>1</K><M>0</M></Internal>",
    )
    (found,) = parse_list_page(document(inside)).objects
    assert found.headers == ObjectHeaders(
        content_type="text/x",
        cache_control="no-store",
        content_disposition="inline",
        content_encoding="br",
        content_language="de",
        metadata={"mode": "33188", "with-dash": 'a "b"'},
    )


def test_headers_are_none_only_where_there_is_no_metadata_element() -> None:
    """An empty element is knowledge: there is none. The next key does not inherit it."""
    page = parse_list_page(document(contents("x", "<UserMetadata></UserMetadata>") + contents("y")))
    assert [one.headers for one in page.objects] == [ObjectHeaders(), None]


def test_an_owner_is_ignored() -> None:
    """Its parts are no fields of the key."""
    owner = "<Owner><ID>1</ID><DisplayName>Key</DisplayName></Owner>"
    (found,) = parse_list_page(document(contents("x", owner))).objects
    assert found.key == "x"


def test_keys_that_are_not_encoded_are_left_alone() -> None:
    """A server that does not echo the encoding did not encode."""
    page = parse_list_page(document(contents("a%2Fb+c"), encoded=False))
    assert page.objects[0].key == "a%2Fb+c"


@given(st.binary(min_size=1, max_size=60))
def test_every_byte_of_a_key_comes_back(key: bytes) -> None:
    """Also bytes that are not UTF-8: they are never replaced."""
    (found,) = parse_list_page(document(contents(quote_plus(key)))).objects
    assert found.key.encode(errors="surrogateescape") == key


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_encoded_text_comes_back(text: str) -> None:
    """Whatever characters a key has."""
    assert unquote_key(quote_plus(text)) == text


BAD = {
    "nothing": b"",
    "a web page": b"<!DOCTYPE html><html><body>Log in</body></html>",
    "a web page that is XML": b"<html/>",
    "another answer of S3": b"<ListAllMyBucketsResult/>",
    "an error": b"<Error><Code>InternalError</Code></Error>",
    "JSON": b'{"keys": []}',
    "an empty listing without IsTruncated": b"<ListBucketResult/>",
    "no size": document("<Contents><Key>x</Key><LastModified>2023-11-14T22:13:20Z</LastModified></Contents>"),
    "a size that is no number": document(contents("x").replace("<Size>5<", "<Size>big<")),
    "no date": document(contents("x").replace("LastModified", "Other")),
    "a date that is none": document(contents("x").replace("2023-11-14", "2023-13-14")),
    "no key": document(contents("x").replace("Key>", "Other>")),
    "neither true nor false": document("", truncated="maybe"),
    "not UTF-8": document(contents("x")).replace(b"<Key>x", b"<Key>\xff"),
    "two documents": document("") + document(""),
    "a document type": b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + document("").split(b"\n", 1)[1],
}


@pytest.mark.parametrize("body", list(BAD.values()), ids=list(BAD))
def test_what_is_no_listing_is_no_page(body: bytes) -> None:
    """Never an empty page."""
    with pytest.raises(BadAnswer):
        parse_list_page(body)


@given(st.data())
def test_a_cut_off_listing_is_no_page(data: st.DataObject) -> None:
    """Wherever it is cut."""
    whole = document(contents("x") + contents("y"))
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(BadAnswer):
        parse_list_page(whole[:cut])


@given(st.binary(max_size=300))
def test_garbage_is_no_page(body: bytes) -> None:
    """It raises BadAnswer and nothing else."""
    with pytest.raises(BadAnswer):
        parse_list_page(body)


def test_an_entity_bomb_is_refused_at_its_declaration() -> None:
    """A document type is never read."""
    bomb = b'<!DOCTYPE a [<!ENTITY b "' + b"x" * 1000 + b'"><!ENTITY c "' + b"&b;" * 1000 + b'">]>'
    with pytest.raises(BadAnswer, match="document type"):
        parse_list_page(bomb + b"<ListBucketResult>&c;</ListBucketResult>")


def test_a_directory_that_seaweedfs_keeps_is_no_object() -> None:
    """A key ending in a slash without bytes and ETag is what is left of a deleted tree, and not counted."""
    page = parse_list_page(
        document(contents("d%2F", size=0, etag="") + contents("d%2Fx")).replace(b"nt>1<", b"nt>2<")
    )
    assert [stat.key for stat in page.objects] == ["d/x"]
    assert page.key_count == 1
