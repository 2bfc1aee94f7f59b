"""Pages of a LIST become the entries of a directory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from s3mount.core.keys import NAME_MAX, Location, file_path, resolve
from s3mount.core.listing import HIDDEN_KEPT, DirEntry, ListingReader
from s3mount.core.objects import ListPage, ObjectStat
from s3mount.errors import BadAnswer

PROPERTY = settings(max_examples=300, deadline=None, derandomize=False, print_blob=True, database=None)
ROOT = Location("")
BYTE_ORDER, OBJECTS_FIRST, PREFIXES_FIRST = (
    "byte order",
    "no slash, objects first",
    "no slash, prefixes first",
)
ORDERS = (BYTE_ORDER, OBJECTS_FIRST, PREFIXES_FIRST)


def stat_of(key: str, size: int = 1) -> ObjectStat:
    """Describe an object."""
    return ObjectStat(key, size, f'"{len(key)}"', 0)


def page_of(objects: Iterable[str] = (), prefixes: Iterable[str] = ()) -> ListPage:
    """Make a page of one-byte objects and of prefixes."""
    return ListPage(tuple(map(stat_of, objects)), tuple(prefixes), None, False)


def delimited_pages(
    sizes: dict[str, int], prefix: str, order: str = BYTE_ORDER, page_size: int = 1000
) -> Iterator[ListPage]:
    """Answer a LIST by slashes as servers do, over objects given as key -> size."""
    entries = set()
    for key in sizes:
        if key.startswith(prefix):
            head, slash, _ = key[len(prefix) :].partition("/")
            entries.add((prefix + head, slash))

    def rank(entry: tuple[str, str]) -> tuple[bytes, bool]:
        text, slash = entry
        if order == BYTE_ORDER:
            return (text + slash).encode(), False
        return text.encode(), (slash == "") == (order == PREFIXES_FIRST)

    ranked = sorted(entries, key=rank)
    for start in range(0, len(ranked), page_size):
        page = ranked[start : start + page_size]
        objects = tuple(stat_of(text, sizes[text]) for text, slash in page if not slash)
        yield ListPage(objects, tuple(text + slash for text, slash in page if slash), None, False)


def entries_of(reader: ListingReader, pages: Iterable[ListPage]) -> list[DirEntry]:
    """Read a whole listing."""
    return [entry for page in pages for entry in reader.feed(page)] + reader.finish()


def names_of(entries: Iterable[DirEntry]) -> list[str]:
    """Return names as text, directories with a slash."""
    return [entry.name.decode() + "/" * entry.is_directory for entry in entries]


class Tree(NamedTuple):
    """What a walk through all directories has found, by path."""

    files: dict[tuple[bytes, ...], ObjectStat]
    directories: dict[tuple[bytes, ...], Location]
    markers: dict[str, int]


def walk(sizes: dict[str, int], root: Location, order: str, page_size: int) -> Tree:
    """List the tree from *root*; check that each entry resolves to what it is and names are unique."""
    tree = Tree({}, {}, {})
    todo: list[tuple[tuple[bytes, ...], Location]] = [((), root)]
    while todo:
        path, location = todo.pop()
        reader = ListingReader(location)
        entries = entries_of(reader, delimited_pages(sizes, location.prefix, order, page_size))
        if reader.marker is not None:
            tree.markers[reader.marker.key] = reader.marker.size
        names = [entry.name for entry in entries]
        assert len(set(names)) == len(names)
        for entry in entries:
            assert 0 < len(entry.name) <= NAME_MAX
            target = resolve(location, entry.name)
            if entry.location is not None:
                assert target.directory == entry.location
                tree.directories[*path, entry.name] = entry.location
                todo.append(((*path, entry.name), entry.location))
            else:
                assert entry.stat is not None
                assert target.file_key == entry.stat.key
                tree.files[*path, entry.name] = entry.stat
    return tree


# Few and colliding fragments: what counts is what is a beginning of what, and what sorts around a slash.
FRAGMENTS = st.sampled_from(
    [
        "a",
        "b",
        "/",
        "/",
        "//",
        "-",
        ".",
        "..",
        "0",
        "!",
        "%s3=",
        "%s3",
        "=",
        "%s3=file",
        "%s3=more",
        "é",
        "\0",
    ]
    + ["x" * n for n in (240, 247, 248, 255)]
    + ["é" * 124, "😀" * 62]
)
KEYS = st.lists(FRAGMENTS, min_size=1, max_size=5).map("".join).filter(lambda key: len(key.encode()) <= 1024)
BUCKETS = st.dictionaries(KEYS, st.integers(0, 1), max_size=14)


@PROPERTY
@given(
    sizes=BUCKETS,
    order=st.sampled_from(ORDERS),
    page_size=st.integers(1, 5),
    prefix=st.sampled_from(["", "", "a/", "/"]),
)
@example(sizes={"x-": 1, "x/y": 1, "x-/y": 1}, order=OBJECTS_FIRST, page_size=2, prefix="")
@example(sizes={"a": 1, "a-": 1, "a-b": 1, "a/b": 1, "a-/b": 1}, order=BYTE_ORDER, page_size=1, prefix="")
@example(sizes={"x" * 250: 1, "x" * 250 + "/y": 1}, order=BYTE_ORDER, page_size=1, prefix="")
def test_every_key_is_found_once_and_nothing_else(
    sizes: dict[str, int], order: str, page_size: int, prefix: str
) -> None:
    """A walk over all directories finds each object once, whatever its key and the order.

    Markers are found as directories, and as files too where they hold bytes.
    """
    root = Location(prefix)
    tree = walk(sizes, root, order, page_size)
    inside = {key: size for key, size in sizes.items() if key.startswith(prefix)}
    markers = {key: size for key, size in inside.items() if key.endswith("/")}
    shown = {key: size for key, size in inside.items() if size or not key.endswith("/")}
    assert sorted(stat.key for stat in tree.files.values()) == sorted(shown)
    assert tree.markers == markers
    for path, stat in tree.files.items():
        beside_prefix = any(key.startswith(stat.key + "/") for key in sizes)
        assert path == file_path(root, stat.key, beside_prefix=beside_prefix)
    reached = {location.prefix for location in tree.directories.values() if not location.partial}
    expected = {
        key[: place + 1] for key in inside for place in range(len(prefix), len(key)) if key[place] == "/"
    }
    assert reached == expected


@PROPERTY
@given(
    sizes=BUCKETS, page_sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)), orders=st.permutations(ORDERS)
)
def test_paging_and_order_change_nothing(
    sizes: dict[str, int], page_sizes: tuple[int, int], orders: list[str]
) -> None:
    """The same bucket gives the same tree from every server and at every page size."""
    one, other = (walk(sizes, ROOT, order, size) for order, size in zip(orders, page_sizes, strict=False))
    assert one == other


def test_plain_objects_and_prefixes_come_in_order() -> None:
    """Files and directories of one page come out mixed, in the order of their names."""
    reader = ListingReader(Location("d/"))
    entries = entries_of(reader, [page_of(["d/a", "d/c", "d/e"], ["d/b/", "d/d/"])])
    assert names_of(entries) == ["a", "b/", "c", "d/", "e"]
    assert [entry.location for entry in entries if entry.is_directory] == [Location("d/b/"), Location("d/d/")]


def test_object_beside_a_prefix_gives_way() -> None:
    """Where ``a`` and ``a/`` exist the directory keeps the name, even many pages later."""
    reader = ListingReader(ROOT)
    first = reader.feed(page_of(["a", "a-0", "a-1"]))
    assert names_of(first) == ["a-0"], "a waits for a/, a-1 for what follows it"
    assert names_of(reader.feed(page_of(["a-2", "a-3"]))) == ["a-1", "a-2"]
    assert names_of(reader.feed(page_of(["b"], ["a/"]))) == ["a%s3=file", "a-3", "a/"]
    assert names_of(reader.finish()) == ["b"]


def test_object_after_its_prefix_gives_way_too() -> None:
    """SeaweedFS may give ``a/`` at the end of a page and ``a`` at the beginning of the next."""
    reader = ListingReader(ROOT)
    entries = entries_of(reader, [page_of([], ["a/"]), page_of(["a", "b"])])
    assert names_of(entries) == ["a/", "a%s3=file", "b"]


def test_repeated_prefix_is_one_entry() -> None:
    """A prefix that is repeated on the next page, as SeaweedFS may do, is one directory."""
    reader = ListingReader(ROOT)
    assert names_of(entries_of(reader, [page_of([], ["a/"]), page_of(["b"], ["a/"])])) == ["a/", "b"]


@pytest.mark.parametrize("order", ORDERS)
def test_entries_are_given_as_they_come(order: str) -> None:
    """Of ten thousand objects, with prefixes among them, only a handful ever waits for later pages."""
    sizes = {f"n{i:05d}{tail}": 1 for i in range(4000) for tail in ("", "-x", "/y")}
    reader = ListingReader(ROOT)
    fed = given_out = 0
    for page in delimited_pages(sizes, "", order, 100):
        fed += len(page.objects) + len(page.prefixes)
        given_out += len(reader.feed(page))
        assert fed - given_out <= 4
    assert given_out + len(reader.finish()) == fed == 12_000


def test_a_marker_is_the_directory_itself() -> None:
    """An empty marker is no entry; one that holds bytes is an entry, too."""
    for size, names in ((0, ["a"]), (7, ["%s3=empty", "a"])):
        reader = ListingReader(Location("d/"))
        page = ListPage((stat_of("d/", size), stat_of("d/a")), (), None, False)
        assert names_of(entries_of(reader, [page])) == names
        assert reader.marker == stat_of("d/", size)


def test_a_marker_alone_on_its_page_is_known_at_once() -> None:
    """Whether a directory is empty but for its marker can be told from the first page."""
    reader = ListingReader(Location("d/"))
    assert reader.feed(ListPage((stat_of("d/", 0),), (), None, False)) == []
    assert reader.marker == stat_of("d/", 0)
    assert reader.finish() == []


def test_an_empty_page_changes_nothing() -> None:
    """AWS may answer an empty page with a token for more."""
    reader = ListingReader(ROOT)
    assert reader.feed(page_of(["a"])) == []
    assert reader.feed(page_of()) == []
    assert names_of(reader.feed(page_of([], ["a/"]))) == ["a%s3=file", "a/"]


def test_over_long_components_share_a_pseudo_directory() -> None:
    """A thousand names that begin with the same 247 bytes show as one entry, on however many pages."""
    sizes = {"x" * 247 + f"{i:09d}": 1 for i in range(1000)}
    entries = entries_of(ListingReader(ROOT), delimited_pages(sizes, "", page_size=10))
    assert names_of(entries) == ["x" * 247 + "%s3=more/"]
    assert entries[0].location is not None
    inner = entries_of(ListingReader(entries[0].location), delimited_pages(sizes, "x" * 247, page_size=10))
    assert names_of(inner) == [f"{i:09d}" for i in range(1000)]
    pages = [page_of(["x" * 300, "x" * 301]), page_of(), page_of(["x" * 302])]
    assert names_of(entries_of(ListingReader(ROOT), pages)) == ["x" * 247 + "%s3=more/"]


def test_a_pseudo_directory_of_a_held_object_is_one_entry() -> None:
    """``ls`` showed its name twice where a page came between two long names of which one was held back."""
    sizes = {"/": 0, f"-{'x' * 255}": 0, f"-{'x' * 300}": 0}
    tree = walk(sizes, ROOT, BYTE_ORDER, 2)
    assert len([path for path in tree.directories if len(path) == 1]) == 2


def test_keys_that_are_not_utf8_are_counted_and_left_out() -> None:
    """A key with other bytes (surrogates here) breaks no listing; the first few are kept for the log."""
    bad = [f"d/caf\udce9{i}" for i in range(HIDDEN_KEPT + 5)]
    reader = ListingReader(Location("d/"))
    entries = entries_of(reader, [page_of(["d/a", *bad, "d/z"], ["d/\udcff/"])])
    assert names_of(entries) == ["a", "z"]
    assert reader.hidden_count == len(bad) + 1
    assert len(reader.hidden) == HIDDEN_KEPT


def test_an_answer_that_ignored_the_delimiter_is_not_believed() -> None:
    """A key with a further slash cannot be in a LIST by slashes."""
    for page in (page_of(["d/a/b", "d/c"]), page_of(["d/a"], ["d/b/c/"])):
        with pytest.raises(BadAnswer):
            entries_of(ListingReader(Location("d/")), [page])
