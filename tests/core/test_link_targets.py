"""A link that is permitted never leads out of the mount, whatever the links are that it meets."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3mount.core.link_targets import LinkRules, stays_inside

MOUNTPOINT = b"/srv/data"


@pytest.mark.parametrize(
    ("target", "depth"),
    [
        (b"file", 0),
        (b".", 0),
        (b"./a/./b/", 0),
        (b"...", 0),
        (b"..a/b..", 0),
        (b"..", 1),
        (b"../a/b", 1),
        (b".././../a", 2),
        (b"//srv/./data/a/b", 0),
        (b"/srv/data", 0),
        (b"/srv/data/", 5),
        (b"\xff\n", 0),
        (b"user@host.123:456", 0),
    ],
)
def test_what_stays_within_the_mount(target: bytes, depth: int) -> None:
    """Down from the link's directory, from one above it that is still in the mount, from the mountpoint."""
    assert stays_inside(target, depth, MOUNTPOINT)


@pytest.mark.parametrize(
    ("target", "depth"),
    [
        (b"..", 0),
        (b"../data/file", 0),
        (b"./..", 0),
        (b"../..", 1),
        (b".././/../a", 1),
        (b"/etc/shadow", 3),
        (b"/", 3),
        (b"/srv", 3),
        (b"/srv/database", 3),
        (b"/srv/data/..", 3),
        (b"/srv/data/a/../../../etc", 3),
        (b"/srv/../srv/data", 3),
        (b"/proc/self/root", 3),
        (b"", 3),
        (b"..\0name", 0),
        (b"a\0", 3),
    ],
)
def test_what_leads_out_or_is_no_target(target: bytes, depth: int) -> None:
    """Above the root, elsewhere, to a neighbour whose name begins alike; what the kernel reads otherwise."""
    assert not stays_inside(target, depth, MOUNTPOINT)


@pytest.mark.parametrize("target", [b"b/..", b"b/../c", b"../b/..", b"a/b/../.."])
def test_no_target_goes_up_after_a_name(target: bytes) -> None:
    """Taken as text these stay within; where the name is a link, nobody knows where `..` is."""
    assert not stays_inside(target, 3, MOUNTPOINT)


@pytest.mark.parametrize("target", [b"l//etc", b"l//", b"./l//etc", b"/srv/data/l//etc", b"..//l"])
def test_a_link_in_a_circle_leads_realpath_nowhere_else(target: bytes) -> None:
    """Python's realpath took what stood behind `l//` for an absolute path, where `l` led back to the link."""
    assert not stays_inside(target, 3, MOUNTPOINT)


def test_the_three_rules() -> None:
    """all takes everything, none nothing."""
    for target, inside in ((b"file", True), (b"/etc/shadow", False)):
        assert LinkRules("inside", MOUNTPOINT).permits(target, 0) is inside
        assert LinkRules("all", MOUNTPOINT).permits(target, 0)
        assert not LinkRules("none", MOUNTPOINT).permits(target, 0)


# On a real file system

DIRECTORIES = ("", "a", "a/b", "a/b/c", "d")
NAMES = ("a", "b", "c", "d", "k", "l", "m")
#: Links stand beside directories and under names that outside has too.
PLACES = [f"{directory}/{name}".lstrip("/") for directory in DIRECTORIES for name in ("k", "l", "m")]
BASES = [base for base in ("/dev/shm", tempfile.gettempdir()) if os.access(base, os.W_OK)]

_parts = st.lists(st.sampled_from((*NAMES, "..", "..", ".", "", "mnt", "secret")), min_size=1, max_size=6)
TEXTS = st.builds(
    lambda top, parts: top + "/".join(parts),
    st.sampled_from(("", "", "", "{mnt}/", "{mnt}/../", "/")),
    _parts,
)
TREES = st.dictionaries(st.sampled_from(PLACES), TEXTS, min_size=1, max_size=6)


class Place:
    """A directory that plays the mount, in one that has the same names and a secret."""

    def __init__(self, base: str) -> None:
        self._directory = tempfile.TemporaryDirectory(dir=base)
        self.outside = Path(os.path.realpath(self._directory.name))
        self.mnt = self.outside / "mnt"

    def __enter__(self) -> Place:
        for top in (self.outside, self.mnt):
            for name in filter(None, DIRECTORIES):
                (top / name).mkdir(parents=True, exist_ok=True)
        for name in ("secret", "k", "l", "m", "c"):
            (self.outside / name).write_text("secret")
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()

    def make(self, links: dict[str, str], *, judged: bool = True) -> list[Path]:
        """Make the *links* of which programs would be told where they lead, or all; return their paths."""
        made = []
        for place, text in links.items():
            target = text.replace("{mnt}", str(self.mnt))
            if not judged or stays_inside(target.encode(), place.count("/"), os.fsencode(self.mnt)):
                (self.mnt / place).symlink_to(target)
                made.append(self.mnt / place)
        return made

    def ends(self, links: list[Path]) -> Iterator[tuple[Path, str]]:
        """Yield each link with where it ends: by Python's account, and by the kernel's if it gets there."""
        for link in links:
            yield link, os.path.realpath(link)
            try:
                descriptor = os.open(link, os.O_PATH)
            except OSError:
                continue
            try:
                yield link, os.readlink(f"/proc/self/fd/{descriptor}")
            finally:
                os.close(descriptor)

    def escaped(self, links: list[Path]) -> list[tuple[str, str]]:
        """Return the links that end outside, with where that is."""
        return [
            (os.readlink(link), end)
            for link, end in self.ends(links)
            if end != str(self.mnt) and not end.startswith(f"{self.mnt}/")
        ]


@pytest.mark.parametrize("base", BASES)
@settings(max_examples=300, deadline=None)
@given(links=TREES)
def test_no_mixture_of_permitted_links_leads_out(base: str, links: dict[str, str]) -> None:
    """Links through links through links, loops and dead ends: the kernel and realpath end in the mount."""
    with Place(base) as place:
        assert place.escaped(place.make(links)) == []


@pytest.mark.parametrize(
    "links",
    [
        {"l": "/secret"},
        {"l": "../secret"},
        {"k": ".", "a/l": "../k/../secret"},
        {"a/b/k": "../..", "a/b/l": "k/../secret"},
        {"d/k": "{mnt}", "d/l": "k/../secret"},
        {"l": "{mnt}/../secret"},
        {"l": "l//secret"},
    ],
    ids=[
        "absolute",
        "up",
        "up from a link",
        "up from a link that goes up",
        "up from a link home",
        "up again",
        "behind a circle",
    ],
)
def test_the_same_links_unjudged_do_lead_out(links: dict[str, str]) -> None:
    """What the test above looks for is there to be found; the rule refuses a link of each of these."""
    with Place(BASES[0]) as place:
        made = place.make(links, judged=False)
        assert len(place.escaped(made)) >= 1
        assert len([place.mnt / name for name in links]) == len(made)
    with Place(BASES[0]) as place:
        assert len(place.make(links)) < len(links)


@given(
    start=st.sampled_from(DIRECTORIES),
    end=st.lists(st.sampled_from(NAMES), max_size=4).map("/".join),
    absolute=st.booleans(),
)
def test_the_short_way_to_any_place_in_the_mount_is_permitted(start: str, end: str, absolute: bool) -> None:
    """What `ln -s`, `ln -sr` and programs write to get from one place of the mount to another."""
    depth = len(start.split("/")) if start else 0
    target = f"/srv/data/{end}" if absolute else os.path.relpath(f"/srv/data/{end}", f"/srv/data/{start}")
    assert stays_inside(target.encode(), depth, MOUNTPOINT)
