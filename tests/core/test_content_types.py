"""Content-Type by extension, the same on every machine."""

from __future__ import annotations

import builtins
import mimetypes
from collections import Counter

import pytest

from s3mount.core import content_types
from s3mount.core.content_types import for_key

# Where the table differs from the standard library on purpose: newer registrations (RFC 9239, RFC 6350,
# RFC 7303) and what the extension mostly is.
DELIBERATE = {".js", ".mjs", ".vcf", ".wav", ".xml", ".xsl", ".3gp", ".rtf"}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a.txt", "text/plain"),
        ("photos/2024/SEA.JPG", "image/jpeg"),
        ("table.parquet", "application/vnd.apache.parquet"),
        ("README.md", "text/markdown"),
        ("conf.d/a.yaml", "application/yaml"),
        ("pyproject.toml", "application/toml"),
        ("a.webp", "image/webp"),
        ("a.avif", "image/avif"),
        ("a.wasm", "application/wasm"),
        ("a.jsonl", "application/jsonl"),
        ("a.csv.zst", "application/zstd"),
        ("a.woff2", "font/woff2"),
        ("backup.tar.gz", "application/gzip"),
        ("a.tgz", "application/gzip"),
        ("noextension", "application/octet-stream"),
        ("v1.2/noextension", "application/octet-stream"),
        ("a.unheard-of", "application/octet-stream"),
        (".txt", "application/octet-stream"),
        ("..txt", "application/octet-stream"),
        (".config.json", "application/json"),
        ("trailing.", "application/octet-stream"),
        ("a.jpg/", "application/x-directory"),
        ("", "application/x-directory"),
        ("caf\udce9.txt", "text/plain"),
    ],
)
def test_type_follows_the_extension(key: str, expected: str) -> None:
    """The last extension of the last component decides, in either case of letters."""
    assert for_key(key) == expected


def test_each_extension_has_one_type() -> None:
    """No extension stands in the table twice, and all are lower case without a dot."""
    extensions = Counter(" ".join(content_types._EXTENSIONS.values()).split())
    assert [extension for extension, count in extensions.items() if count > 1] == []
    assert all(extension == extension.lower().strip(".") for extension in extensions)


def test_types_agree_with_the_standard_library() -> None:
    """Where Python's own table knows an extension, too, it says the same, save where we differ on purpose."""
    standard = mimetypes.MimeTypes(filenames=()).types_map[True]
    ours = {f".{extension}": kind for extension, kind in content_types._TYPES.items()}
    shared = ours.keys() & standard.keys() - DELIBERATE
    assert len(shared) > 50
    assert {ext: ours[ext] for ext in shared} == {ext: standard[ext] for ext in shared}


def test_nothing_is_read_from_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file such as /etc/mime.types is opened, so the machine has no say."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"opened {args}")

    monkeypatch.setattr(builtins, "open", refuse)
    assert for_key("a.js") == "text/javascript"
