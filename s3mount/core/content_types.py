"""Content-Type of a new object, by its key's extension.

A table of our own: the standard library's ``mimetypes`` reads what the machine has in
/etc/mime.types, and its own table differs between versions of Python. A compressed file is named for
its compression (``a.tar.gz`` is application/gzip): a Content-Encoding would make clients unpack what
they download.
"""

from __future__ import annotations

DEFAULT = "application/octet-stream"

DIRECTORY = "application/x-directory"
"""Of directory markers, as s3fs and others have it."""

_EXTENSIONS = {
    "application/atom+xml": "atom",
    "application/epub+zip": "epub",
    "application/geo+json": "geojson",
    "application/gzip": "gz tgz",
    "application/java-archive": "jar war",
    "application/json": "json",
    "application/jsonl": "jsonl ndjson",
    "application/ld+json": "jsonld",
    "application/manifest+json": "webmanifest",
    "application/msword": "doc dot",
    "application/n-quads": "nq",
    "application/n-triples": "nt",
    "application/pdf": "pdf",
    "application/pgp-signature": "sig",
    "application/postscript": "ai eps ps",
    "application/rss+xml": "rss",
    "application/rtf": "rtf",
    "application/sql": "sql",
    "application/toml": "toml",
    "application/trig": "trig",
    "application/vnd.android.package-archive": "apk",
    "application/vnd.apache.arrow.file": "arrow feather",
    "application/vnd.apache.arrow.stream": "arrows",
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.apple.mpegurl": "m3u m3u8",
    "application/vnd.debian.binary-package": "deb",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "pot pps ppt",
    "application/vnd.oasis.opendocument.presentation": "odp",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.rar": "rar",
    "application/vnd.sqlite3": "sqlite sqlite3",
    "application/wasm": "wasm",
    "application/x-7z-compressed": "7z",
    "application/x-bzip2": "bz2 tbz2",
    "application/x-compress": "z",
    "application/x-cpio": "cpio",
    "application/x-hdf5": "h5 hdf5",
    "application/x-ipynb+json": "ipynb",
    "application/x-iso9660-image": "iso",
    "application/x-lz4": "lz4",
    "application/x-netcdf": "cdf nc",
    "application/x-pkcs12": "p12 pfx",
    "application/x-rpm": "rpm",
    "application/x-sh": "sh",
    "application/x-tar": "tar",
    "application/x-tex": "tex",
    "application/x-xz": "txz xz",
    "application/xhtml+xml": "xhtml",
    "application/xml": "xml xsd xsl",
    "application/yaml": "yaml yml",
    "application/zip": "whl zip",
    "application/zstd": "zst",
    "audio/aac": "aac",
    "audio/basic": "au snd",
    "audio/flac": "flac",
    "audio/midi": "mid midi",
    "audio/mp4": "m4a",
    "audio/mpeg": "mp2 mp3",
    "audio/ogg": "oga ogg",
    "audio/opus": "opus",
    "audio/wav": "wav",
    "audio/webm": "weba",
    "audio/x-aiff": "aif aiff",
    "font/otf": "otf",
    "font/ttf": "ttf",
    "font/woff": "woff",
    "font/woff2": "woff2",
    "image/apng": "apng",
    "image/avif": "avif",
    "image/bmp": "bmp",
    "image/gif": "gif",
    "image/heic": "heic",
    "image/heif": "heif",
    "image/jpeg": "jpe jpeg jpg",
    "image/jxl": "jxl",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/tiff": "tif tiff",
    "image/vnd.microsoft.icon": "ico",
    "image/webp": "webp",
    "image/x-portable-bitmap": "pbm",
    "image/x-portable-graymap": "pgm",
    "image/x-portable-pixmap": "ppm",
    "message/rfc822": "eml mht mhtml",
    "text/calendar": "ics",
    "text/css": "css",
    "text/csv": "csv",
    "text/html": "htm html",
    "text/javascript": "js mjs",
    "text/markdown": "markdown md",
    "text/plain": "c conf cpp diff go h ini java log patch pl rs srt text txt",
    "text/tab-separated-values": "tsv",
    "text/turtle": "ttl",
    "text/vcard": "vcf",
    "text/vtt": "vtt",
    "text/x-python": "py",
    "video/3gpp": "3gp",
    "video/mp2t": "ts",
    "video/mp4": "m4v mp4",
    "video/mpeg": "mpeg mpg",
    "video/ogg": "ogv",
    "video/quicktime": "mov qt",
    "video/webm": "webm",
    "video/x-matroska": "mkv",
    "video/x-msvideo": "avi",
}

_TYPES = {extension: kind for kind, extensions in _EXTENSIONS.items() for extension in extensions.split()}


def for_key(key: str) -> str:
    """Return the Content-Type for the object *key*, by what follows the last dot of its last component."""
    name = key[key.rfind("/") + 1 :]
    if not name:
        return DIRECTORY
    # A dot at the beginning hides a file and begins no extension.
    stem, _, extension = name.lstrip(".").rpartition(".")
    return _TYPES.get(extension.lower(), DEFAULT) if stem else DEFAULT
