"""Names and keys: one reversible mapping, used only where it is needed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from s3mount.core.keys import (
    KEY_MAX,
    NAME_MAX,
    Location,
    Shown,
    Target,
    directory_path,
    file_path,
    mount_prefix,
    plain_name,
    resolve,
    shown_name,
)
from s3mount.errors import IllegalName, InvalidArgument, NameTooLong, NotFound

PROPERTY = settings(max_examples=300, deadline=None, derandomize=False, print_blob=True, database=None)
ROOT = Location("")
DOCUMENT = Path(__file__).parents[2] / "docs" / "names.md"

# What makes trouble: beginnings and ends of the mark, dots, NUL, characters of one to four bytes, and
# runs that end near the limit of a name.
FRAGMENTS = st.sampled_from(
    ["a", "b", "-", ".", "..", "%", "%s3", "%s3=", "=", "25", "2E", "00", "file", "more", "empty"]
    + ["%s3=file", "%s3=more", "%s3=empty", "%s3=2E", "\0", "\n", "é", "€", "😀", "�", ".s3mount"]
    + ["x" * n for n in (100, 238, 239, 240, 245, 246, 247, 248, 254, 255, 256)]
    + ["é" * 120, "😀" * 60, "\0" * 40, "%s3=" * 27]
)
COMPONENTS = st.one_of(
    st.lists(FRAGMENTS, max_size=6).map("".join),
    st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), max_size=20),
).filter(lambda text: len(text.encode()) <= KEY_MAX - 4)


def walk(root: Location, path: tuple[bytes, ...]) -> Target:
    """Resolve *path* name by name, as the kernel does, and return its last name's target."""
    location = root
    for name in path[:-1]:
        directory = resolve(location, name).directory
        assert directory is not None
        location = directory
    return resolve(location, path[-1])


def assert_linux_takes(name: bytes) -> None:
    """Fail unless *name* can stand in a Linux directory."""
    assert 0 < len(name) <= NAME_MAX
    assert name not in (b".", b"..")
    assert b"/" not in name
    assert b"\0" not in name
    name.decode()


@PROPERTY
@given(component=COMPONENTS, beside_prefix=st.booleans(), prefix=st.sampled_from(["", "d/", "d//é/"]))
@example(component="x" * 255, beside_prefix=False, prefix="")
@example(component="x" * 247, beside_prefix=True, prefix="")
@example(component="x" * 248, beside_prefix=True, prefix="")
@example(component="x" * 238 + "%s3=" + "x" * 300, beside_prefix=False, prefix="")
@example(component="x" * 247 + ".", beside_prefix=True, prefix="")
@example(component="x" * 247 + "..", beside_prefix=True, prefix="")
def test_a_component_is_found_again_by_its_names(component: str, beside_prefix: bool, prefix: str) -> None:
    """Walking the names that spell a component gives the component's key back, and only legal names."""
    root, key = Location(prefix), prefix + component
    # S3's longest; its directory's key has a slash more.
    assume(key and len(f"{key}/".encode()) <= 1024)
    path = file_path(root, key, beside_prefix=beside_prefix)
    for name in path:
        assert_linux_takes(name)
    target = walk(root, path)
    assert target.file_key == key
    assert target.beside_prefix is beside_prefix
    assert target.is_marker is (component == "")
    assert target.directory == (None if beside_prefix else Location(key + "/"))


@PROPERTY
@given(component=COMPONENTS, beside_prefix=st.booleans())
def test_a_component_shows_step_by_step_as_its_path(component: str, beside_prefix: bool) -> None:
    """What a directory shows of a component, pseudo-directory after pseudo-directory, is its path."""
    location: Location | None = Location("d/")
    names = []
    while location is not None:
        shown = shown_name(location, component, beside_prefix=beside_prefix)
        assert shown is not None
        names.append(shown.name)
        if shown.more is not None:
            assert resolve(location, shown.name).directory == shown.more
        location = shown.more
    assert tuple(names) == file_path(Location("d/"), "d/" + component, beside_prefix=beside_prefix)


@PROPERTY
@given(components=st.lists(COMPONENTS, min_size=1, max_size=4), in_prefix=st.booleans())
def test_a_key_is_found_again_by_its_path(components: list[str], in_prefix: bool) -> None:
    """Every key is reached by the path that spells it, as a file and as a directory."""
    key = "/".join(components)
    assume(key and len(key.encode()) < KEY_MAX - 8)
    root = Location("photos/" if in_prefix else "")
    assert walk(root, file_path(root, root.prefix + key)).file_key == root.prefix + key
    directory = Location(root.prefix + key + "/")
    assert walk(root, directory_path(root, directory.prefix)).directory == directory


@PROPERTY
@given(one=COMPONENTS, other=COMPONENTS, beside=st.tuples(st.booleans(), st.booleans()))
def test_two_components_never_share_a_path(one: str, other: str, beside: tuple[bool, bool]) -> None:
    """Distinct components have distinct paths, and none is a way through another."""
    assume(one != other)
    paths = [
        file_path(ROOT, "d/" + key, beside_prefix=flag)
        for key, flag in zip((one, other), beside, strict=True)
    ]
    assert paths[0] != paths[1]
    assert paths[0] != paths[1][: len(paths[0])]


@PROPERTY
@given(name=st.one_of(FRAGMENTS, COMPONENTS), partial=st.sampled_from(["", "x" * 247, "é" * 123]))
def test_a_name_that_resolves_is_the_only_spelling_of_its_key(name: str, partial: str) -> None:
    """Whatever name is tried, either it is refused or it is the very name that its key is shown by."""
    location = Location("d/" + partial, partial=True) if partial else Location("d/")
    try:
        target = resolve(location, name.encode())
    except (NotFound, NameTooLong):
        return
    assert target.name == name.encode()
    if target.file_key is not None:
        component = target.file_key.removeprefix("d/")
        shown = shown_name(location, component, beside_prefix=target.beside_prefix)
        assert shown == Shown(name.encode(), None)
    else:
        more = target.directory
        assert more is not None
        assert more.partial
        assert shown_name(location, more.begun + "\0" + "x" * NAME_MAX) == (name.encode(), more)


@PROPERTY
@given(
    text=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60)
)
def test_names_without_need_are_their_own_components(text: str) -> None:
    """A name without the mark that Linux takes as it is stands for the key of the same text."""
    assume("%s3=" not in text and text not in (".", "..", ".s3mount"))
    assert plain_name(text) == text.encode()
    assert resolve(Location("d/"), text.encode()).file_key == "d/" + text


@pytest.mark.parametrize(
    "name",
    [
        *("%s3=41", "x%s3=zz", "%s3=", "x%s3=2E", "%s3=2e", "%s3=25", "%s3=more", "x%s3=more", "%s3=file"),
        *("x%s3=empty", "%s3=empty%s3=empty", "%s3=emptyx", "%s3=file%s3=file", "x" * 240 + "%s3=more"),
        *("%s3=2E%s3=2E", "%s3=filex", "x%s3=morex", "%s3=FF", ".s3mount", ".", "..", "", "a\0", "a/b"),
    ],
)
def test_other_spellings_are_not_found(name: str) -> None:
    """A name with the mark that is not the spelling of anything stands for nothing."""
    with pytest.raises(NotFound):
        resolve(Location("d/"), name.encode())


def test_pseudo_directories_take_only_what_belongs_there() -> None:
    """A short rest in a pseudo-directory would be a second path to a key that has one."""
    more = Location("d/" + "x" * 247, partial=True)
    assert resolve(more, b"x" * 9).file_key == "d/" + "x" * 256
    with pytest.raises(NotFound):
        resolve(more, b"x" * 8)
    assert resolve(more, b"x" * 8 + b"%s3=file").file_key == "d/" + "x" * 255
    assert shown_name(more, "y" * 300) is None
    assert shown_name(more, "x" * 255) is None


def test_names_over_255_bytes_are_too_long() -> None:
    """The limit counts bytes of UTF-8, and ends at 255."""
    assert resolve(ROOT, b"x" * 255).file_key == "x" * 255
    with pytest.raises(NameTooLong):
        resolve(ROOT, b"x" * 256)
    with pytest.raises(NameTooLong):
        resolve(ROOT, "é".encode() * 128)


def test_keys_over_1024_bytes_are_too_long() -> None:
    """A file's key may have 1,024 bytes; a directory's marker counts its slash."""
    location = Location("p" * 1000 + "/")
    fits = resolve(location, b"x" * 22)
    assert fits.new_directory() == Location(location.prefix + "x" * 22 + "/")
    only_file = resolve(location, b"x" * 23)
    assert only_file.new_file_key() == location.prefix + "x" * 23
    with pytest.raises(NameTooLong):
        only_file.new_directory()
    for name in ("x" * 24, "é" * 12, "€" * 8, "😀" * 6):
        with pytest.raises(NameTooLong):
            resolve(location, name.encode())
    deep = Location("€" * 300 + "/")
    assert resolve(deep, "€".encode() * 41).new_file_key()
    with pytest.raises(NameTooLong):
        resolve(deep, "€".encode() * 42)
    with pytest.raises(NameTooLong):
        resolve(location, b"x" * 247 + b"%s3=more")


def test_names_that_are_not_utf8_are_illegal() -> None:
    """S3 keys are UTF-8, so other bytes, lone surrogates among them, cannot be stored."""
    for name in (b"caf\xe9", b"\xff", b"\xed\xa0\x80"):
        with pytest.raises(IllegalName):
            resolve(ROOT, name)


def test_reserved_spellings_cannot_be_created_as_what_they_are_not() -> None:
    """A ``%s3=file`` name never becomes a directory, a ``%s3=more`` name neither file nor directory."""
    beside = resolve(ROOT, b"a%s3=file")
    assert beside.new_file_key() == "a"
    more = resolve(ROOT, b"x" * 247 + b"%s3=more")
    for attempt in (beside.new_directory, more.new_directory, more.new_file_key):
        with pytest.raises(InvalidArgument):
            attempt()


def test_the_bucket_itself_has_no_marker() -> None:
    """The root of a whole bucket has no marker and no file for one; a prefix has both."""
    assert ROOT.marker_key is None
    root_marker = resolve(ROOT, b"%s3=empty")
    assert root_marker.file_key is None
    assert root_marker.directory == Location("/")
    assert Location("photos/").marker_key == "photos/"
    assert Location("photos/xxx", partial=True).marker_key is None
    marker = resolve(Location("photos/"), b"%s3=empty")
    assert (marker.file_key, marker.is_marker) == ("photos/", True)


def test_mount_prefixes_end_in_a_slash() -> None:
    """BUCKET/photos and BUCKET/photos/ are the same mount; other slashes are the keys' own."""
    assert mount_prefix("") == ""
    assert mount_prefix("photos/2024") == "photos/2024/"
    assert mount_prefix("photos/2024/") == "photos/2024/"
    assert mount_prefix("/x") == "/x/"
    with pytest.raises(IllegalName):
        mount_prefix("caf\udce9")
    with pytest.raises(NameTooLong):
        mount_prefix("x" * 1024)


def test_keys_outside_the_mount_have_no_path() -> None:
    """A key that does not begin with the mount's prefix is a mistake of the caller."""
    with pytest.raises(ValueError, match="not below"):
        file_path(Location("photos/"), "videos/a")
    assert directory_path(Location("photos/"), "photos/") == ()


def documented_examples() -> list[tuple[str, str, bool]]:
    """Return (key, path, beside) for each row of the tables of docs/names.md."""
    rows = []
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 3:
            key, path = (expand(cell.strip("`")) for cell in cells[:2])
            rows.append((key, path, "exists too" in cells[2]))
    return rows


def expand(text: str) -> str:
    r"""Return *text* with ``\n``, ``\0`` and ``x*300`` written out."""
    text = re.sub(r"(.)[*](\d+)", lambda match: match[1] * int(match[2]), text)
    return str(ast.literal_eval(f"'{text}'")) if "\\" in text else text


def test_documented_examples_are_true() -> None:
    """Each example of docs/names.md holds, in both directions."""
    examples = documented_examples()
    assert len(examples) >= 12
    for key, path, beside_prefix in examples:
        names = tuple(name.encode() for name in path.rstrip("/").split("/"))
        if path.endswith("/"):
            assert directory_path(ROOT, key) == names
            directory = walk(ROOT, names).directory
            assert directory is not None
            assert directory.prefix == key
        else:
            assert file_path(ROOT, key, beside_prefix=beside_prefix) == names
            assert walk(ROOT, names).file_key == key
