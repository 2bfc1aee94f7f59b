"""Keys: what may be in them, and which are others."""

from __future__ import annotations

from s3mount.core.objects import (
    ByteRange,
)
from s3mount.errors import (
    IllegalName,
    NameTooLong,
)
from tests.store.contract.subject import (
    CHECKS,
    PLAIN,
    RICH,
    Subject,
    check,
    raises,
)


def check_key(name: str, key: str) -> None:
    """Add a check that *key* can be stored, found, listed, copied, assembled of parts and deleted."""

    async def store_find_list_copy_and_delete(subject: Subject) -> None:
        etag = await subject.put(key, b"body", RICH)
        assert (await subject.store.head(key)).etag == etag
        assert await subject.get(key, ByteRange(0, 4), if_match=etag) == b"body"
        assert (await subject.names())[0] == [key]
        await subject.store.copy(key, "copy", if_match=etag, headers=None)
        assert await subject.get("copy") == b"body"
        await subject.store.copy("copy", key, if_match=None, headers=PLAIN)
        upload = await subject.store.create_multipart(key, PLAIN)
        part = await subject.store.upload_part(upload, 1, b"of a part")
        await subject.store.complete_multipart(upload, [part])
        assert await subject.get(key) == b"of a part"
        assert await subject.store.delete_many(["copy"]) == []
        await subject.store.delete(key)
        await subject.put(key, b"again")
        assert await subject.store.delete_many([key]) == []
        assert await subject.names() == ([], [])

    CHECKS[f"key_{name}"] = store_find_list_copy_and_delete


check_key("with_xml_and_url_marks", "a b+c%41&d=e?f#g<h>\"i'j;k:l@m$n,o~!*()[]{}|^`")

check_key("with_unicode", "é/\u65e5\u672c/\U0001f600")

check_key("of_decomposed_unicode", "e\u0301")

check_key("with_a_backslash", "a\\b")

check_key("with_a_newline_and_a_tab", "a\nb\tc")

check_key("with_a_carriage_return", "a\rb")

check_key("with_control_characters", "a\x01\x1b\x7fb")

check_key("with_spaces_at_its_ends", " a / b ")

check_key("with_a_leading_slash", "/a")

check_key("with_two_slashes", "a//b")

check_key("ending_in_two_slashes", "a//")

check_key("that_is_a_slash", "/")

check_key("with_a_dot_component", "a/./b")

check_key("with_a_dot_dot_component", "a/../b")

check_key("that_is_dot_dot", "..")

check_key("with_a_component_over_255_bytes", "a/" + "x" * 256)

check_key("of_1024_bytes", "/".join(["x" * 200] * 5) + "y" * 20)

check_key("that_looks_encoded", "a%2Fb%20c%")

check_key("with_a_noncharacter", "a\uffffb")


@check
async def keys_that_differ_in_case_or_form_are_two(subject: Subject) -> None:
    """S3 compares bytes."""
    keys = ["A", "a", "e\u0301", "é"]
    for key in keys:
        await subject.put(key, key.encode())
    assert (await subject.names())[0] == keys
    assert [await subject.get(key) for key in keys] == [key.encode() for key in keys]


@check
async def a_key_and_keys_below_it_live_together(subject: Subject) -> None:
    """``a`` beside ``a/b``, whichever comes first, both found and both listed."""
    await subject.put("a", b"file")
    await subject.put("a/b", b"below")
    await subject.put("c/d", b"below")
    await subject.put("c", b"file")
    assert [await subject.get(key) for key in ("a", "a/b", "c", "c/d")] == [
        b"file",
        b"below",
        b"file",
        b"below",
    ]
    assert await subject.names("", delimiter="/") == (["a", "c"], ["a/", "c/"])


@check
async def a_key_over_1024_bytes_is_too_long(subject: Subject) -> None:
    """It is refused as such."""
    await raises(NameTooLong, subject.put("/".join(["x" * 200] * 5) + "y" * 21))


@check
async def a_key_that_is_not_utf8_is_illegal(subject: Subject) -> None:
    """It cannot be asked for, and must not be taken for another."""
    key = b"a\xff".decode(errors="surrogateescape")
    await raises(IllegalName, subject.store.head(key))
    await raises(IllegalName, subject.put(key))
    await raises(IllegalName, subject.store.delete(key))
    await raises(IllegalName, subject.store.list_page(key))
