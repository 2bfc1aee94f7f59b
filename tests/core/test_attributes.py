"""POSIX attributes in an object's metadata, in the way s3fs, rclone, s3cmd and gsutil read and write them."""

from __future__ import annotations

import re
import stat
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3mount.core.attributes import (
    ID_MAX,
    MTIME_MAX_NS,
    MTIME_MIN_NS,
    Attributes,
    from_metadata,
    to_metadata,
    without_checksums,
)

PROPERTY = settings(max_examples=300, deadline=None, derandomize=False, print_blob=True, database=None)
S3CMD = "atime:15/ctime:16/gid:100/gname:users/md5:abc/mode:33204/mtime:1500000002/uid:1001/uname:joe"

ATTRIBUTES = st.builds(
    Attributes,
    mode=st.none() | st.integers(0, 0o777),
    uid=st.none() | st.integers(0, ID_MAX),
    gid=st.none() | st.integers(0, ID_MAX),
    mtime_ns=st.none() | st.integers(MTIME_MIN_NS, MTIME_MAX_NS),
)
# Metadata as others leave it: our names, foreign names, sense and nonsense.
VALUES = st.one_of(
    st.text(max_size=12),
    st.integers().map(str),
    st.floats().map(str),
    st.integers(0, 0o177777).map(lambda mode: f"{mode:o}"),
    st.sampled_from(
        [
            "",
            "-",
            ".",
            "1e99",
            "9" * 20,
            "1_0",
            "\N{FULLWIDTH DIGIT ONE}",
            "/",
            ":",
            S3CMD,
            " 1 ",
            "0x1f",
            "1/2",
        ]
    ),
)
NAMES = st.sampled_from(
    ["mode", "uid", "gid", "mtime", "s3cmd-attrs", "colour", "goog-reserved-posix-colour"]
    + [f"goog-reserved-posix-{fact}" for fact in ("mode", "uid", "gid", "mtime")]
)
METADATA = st.dictionaries(NAMES, VALUES)


def test_the_keys_are_those_of_s3fs() -> None:
    """Decimal numbers, the file type in the mode, and nine digits after the dot."""
    attributes = Attributes(mode=0o644, uid=1000, gid=100, mtime_ns=1_700_000_000_500_000_000)
    assert to_metadata({}, attributes, is_directory=False) == {
        "mode": "33188",
        "uid": "1000",
        "gid": "100",
        "mtime": "1700000000.500000000",
    }
    assert to_metadata({}, Attributes(mode=0o755), is_directory=True) == {"mode": "16877"}
    assert to_metadata({}, Attributes(is_symlink=True), is_directory=False) == {"mode": "41471"}
    assert to_metadata({}, Attributes(), is_directory=False) == {}


@PROPERTY
@given(attributes=ATTRIBUTES, metadata=METADATA, is_directory=st.booleans())
def test_what_is_written_is_read_again(
    attributes: Attributes, metadata: dict[str, str], is_directory: bool
) -> None:
    """Whatever the object carried before, its attributes are then exactly those written."""
    written = to_metadata(metadata, attributes, is_directory=is_directory)
    assert from_metadata(written) == attributes
    assert to_metadata(written, attributes, is_directory=is_directory) == written


@PROPERTY
@given(mtime_ns=st.integers(0, MTIME_MAX_NS))
def test_mtime_means_the_same_to_s3fs_and_to_rclone(mtime_ns: int) -> None:
    """s3fs takes the digits after the dot as nanoseconds, rclone the whole as a number: both are right."""
    text = to_metadata({}, Attributes(mtime_ns=mtime_ns), is_directory=False)["mtime"]
    match = re.fullmatch(r"(\d+)\.(\d{9})", text)
    assert match
    assert int(match[1]) * 10**9 + int(match[2]) == mtime_ns
    assert Decimal(text).scaleb(9) == mtime_ns


@PROPERTY
@given(metadata=METADATA)
def test_no_metadata_breaks_a_listing(metadata: dict[str, str]) -> None:
    """Any metadata gives attributes within their limits, never an exception."""
    attributes = from_metadata(metadata)
    assert attributes.mode is None or 0 <= attributes.mode <= 0o1777
    assert attributes.uid is None or 0 <= attributes.uid <= ID_MAX
    assert attributes.gid is None or 0 <= attributes.gid <= ID_MAX
    assert attributes.mtime_ns is None or MTIME_MIN_NS <= attributes.mtime_ns <= MTIME_MAX_NS


@PROPERTY
@given(
    metadata=st.dictionaries(st.sampled_from(["colour", "camera", "mode2", "atime", "ctime"]), st.text()),
    attributes=ATTRIBUTES,
)
def test_what_the_user_stored_is_kept(metadata: dict[str, str], attributes: Attributes) -> None:
    """Metadata that is not ours comes through a change of attributes untouched."""
    written = to_metadata(metadata, attributes, is_directory=False)
    assert {name: value for name, value in written.items() if name in metadata} == metadata


@pytest.mark.parametrize(
    ("text", "mtime_ns"),
    [
        ("1700000000", 1_700_000_000_000_000_000),
        ("1700000000.5", 1_700_000_000_500_000_000),
        ("1700000000.000000005", 1_700_000_000_000_000_005),
        ("1.7e9", 1_700_000_000_000_000_000),
        ("1.7000000005E+09", 1_700_000_000_500_000_000),
        ("5e-1", 500_000_000),
        ("0", 0),
        ("1.", 1_000_000_000),
        ("-5.25", -5_250_000_000),
        ("-0.0000000001", -1),
        ("1700000000.1234567891234", 1_700_000_000_123_456_789),
        ("9223372036.854775807", MTIME_MAX_NS),
        ("9223372036.854775808", None),
        ("-9223372036.854775808", MTIME_MIN_NS),
        ("1e99", None),
        ("1e999999999", None),
        ("nan", None),
        ("inf", None),
        ("", None),
        ("2024-01-01T00:00:00Z", None),
        ("1/2", None),
        ("1_000", None),
        ("\N{ARABIC-INDIC DIGIT ONE}", None),
        ("9" * 5000, None),
    ],
)
def test_mtime_is_read_as_a_number_of_seconds(text: str, mtime_ns: int | None) -> None:
    """Integers, fractions of any length, exponents and negative times are numbers; all else is ignored."""
    assert from_metadata({"mtime": text}).mtime_ns == mtime_ns


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("33188", 0o644),
        ("420", 0o644),
        ("0", 0),
        ("16877", 0o755),
        ("100644", 0o644),
        ("0100600", 0o600),
        ("40755", 0o755),
        ("0640", 0o640),
        (str(0o104755), 0o755),
        (str(0o102755), 0o755),
        (str(0o101755), 0o755),
        (str(stat.S_IFDIR | 0o1777), 0o1777),
        (str(stat.S_IFDIR | 0o6777), 0o777),
        (str(stat.S_IFIFO | 0o644), None),
        ("-1", None),
        ("65536", None),
        ("99999999999999999999", None),
        ("rw-r--r--", None),
        ("0x1ff", None),
        ("", None),
    ],
)
def test_modes_are_permission_bits_only(text: str, mode: int | None) -> None:
    """Set-uid and set-gid never come through, the sticky bit only for directories."""
    assert from_metadata({"mode": text}) == Attributes(mode=mode)


@pytest.mark.parametrize(
    "kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, 0o110000, 0o170000]
)
@pytest.mark.parametrize("spelling", ["d", "o"])
@pytest.mark.parametrize("name", ["mode", "goog-reserved-posix-mode", "s3cmd-attrs"])
def test_devices_never_come_through(kind: int, spelling: str, name: str) -> None:
    """No mode of a device, fifo, socket or unknown type is believed, in any spelling of any permissions."""
    for permissions in (*range(0, 0o10000, 97), 0o644, 0o4755, 0o7777):
        text = format(kind | permissions, spelling)
        attributes = from_metadata({name: f"mode:{text}" if name == "s3cmd-attrs" else text})
        if attributes.mode is not None:
            # The same digits are a regular file's or a directory's mode in the other base.
            other = {int(text, base) for base in (8, 10) if set(text) <= set("01234567") or base == 10}
            assert any(
                stat.S_IFMT(number) in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK) for number in other
            )
            assert attributes.mode <= 0o1777


def test_symlinks_are_told_by_their_mode() -> None:
    """The type bits of the mode make a symlink, whose permissions are always 0777."""
    for text in ("41471", str(stat.S_IFLNK | 0o644), "120777"):
        assert from_metadata({"mode": text}) == Attributes(mode=0o777, is_symlink=True)


@pytest.mark.parametrize(
    "text", ["-1", "4294967295", "18446744073709551616", "1.5", "root", "", "1 000", "+1"]
)
def test_absurd_owners_are_ignored(text: str) -> None:
    """An owner that is no number of a user leaves the mount's default, and the other values count."""
    assert from_metadata({"uid": text, "gid": "100", "mode": "33152"}) == Attributes(mode=0o600, gid=100)


def test_s3cmd_is_read() -> None:
    """What s3cmd stored counts where our own names are not there or make no sense."""
    full = Attributes(mode=0o664, uid=1001, gid=100, mtime_ns=1_500_000_002_000_000_000)
    assert from_metadata({"s3cmd-attrs": S3CMD}) == full
    mixed = from_metadata({"s3cmd-attrs": S3CMD, "uid": "0", "mode": "nonsense"})
    assert mixed == Attributes(mode=0o664, uid=0, gid=100, mtime_ns=full.mtime_ns)


def test_gsutil_is_read() -> None:
    """gsutil's names count last, and its mode is octal."""
    goog = {"mode": "644", "uid": "1001", "gid": "100", "mtime": "1500000002"}
    metadata = {f"goog-reserved-posix-{name}": value for name, value in goog.items()}
    assert from_metadata(metadata) == Attributes(0o644, 1001, 100, 1_500_000_002_000_000_000)
    assert from_metadata({**metadata, "s3cmd-attrs": "uid:5"}).uid == 5


def test_foreign_copies_do_not_outlive_a_change() -> None:
    """Another tool's copy of a fact would contradict ours; what else it keeps there stays."""
    metadata = {"s3cmd-attrs": S3CMD, "goog-reserved-posix-mode": "600", "colour": "blue", "mtime": "7"}
    assert to_metadata(metadata, Attributes(mode=0o600), is_directory=False) == {
        "s3cmd-attrs": "atime:15/ctime:16/gname:users/md5:abc/uname:joe",
        "colour": "blue",
        "mode": "33152",
    }
    for gone in ({"s3cmd-attrs": "mode:33188/uid:0/"}, {"goog-reserved-posix-mode": "4755"}):
        assert to_metadata(gone, Attributes(), is_directory=False) == {}


def test_values_that_are_no_attributes_are_the_users_own() -> None:
    """A ``mode`` of ``dark`` is not ours to drop when only the time changes."""
    assert to_metadata({"mode": "dark"}, Attributes(mtime_ns=0), is_directory=False) == {
        "mode": "dark",
        "mtime": "0.000000000",
    }
    assert to_metadata({"mode": "dark"}, Attributes(mode=0o600), is_directory=False) == {"mode": "33152"}


def test_only_directories_keep_the_sticky_bit() -> None:
    """Set-uid bits are not written either, and a file has no sticky bit."""
    assert to_metadata({}, Attributes(mode=0o7777), is_directory=False) == {"mode": str(stat.S_IFREG | 0o777)}
    sticky = to_metadata({}, Attributes(mode=0o7777), is_directory=True)
    assert sticky == {"mode": str(stat.S_IFDIR | 0o1777)}
    assert from_metadata(sticky) == Attributes(mode=0o1777)


def test_times_beyond_64_bits_are_clamped() -> None:
    """As Linux file systems do with a time that they cannot store."""
    for mtime_ns, nearest in ((2**70, MTIME_MAX_NS), (-(2**70), MTIME_MIN_NS)):
        written = to_metadata({}, Attributes(mtime_ns=mtime_ns), is_directory=False)
        assert from_metadata(written).mtime_ns == nearest


def test_plain_means_that_nothing_is_stored() -> None:
    """Objects of programs that know nothing of POSIX are plain, whatever else they carry."""
    assert from_metadata({}).is_plain
    assert from_metadata({"colour": "blue", "mode": "dark"}).is_plain
    assert not Attributes(uid=0).is_plain


def test_checksums_of_old_bytes_go_with_them() -> None:
    """rclone's and s3cmd's MD5 would make the new bytes look damaged; the rest stays."""
    assert without_checksums({"md5chksum": "x", "s3cmd-attrs": "md5:a/uid:5", "colour": "blue"}) == {
        "s3cmd-attrs": "uid:5",
        "colour": "blue",
    }
    assert without_checksums({"s3cmd-attrs": "md5:a"}) == {}
