"""What --attributes=list|auto|exact ask for, and what they show."""

from __future__ import annotations

import pytest

from s3mount.core.objects import ObjectHeaders
from s3mount.errors import AccessDenied, StoreUnavailable
from s3mount.meta.inodes import FileNode, Node
from s3mount.meta.observations import stored_attributes
from tests.support.memory_store import Call, MemoryStore
from tests.support.names import TTL_S, Names, once, run

PLAIN = [f"{n:03}" for n in range(100)]
WITH_MODE = ObjectHeaders(metadata={"mode": "33152"})
DIRECTORY_MODE = ObjectHeaders(metadata={"mode": "16832"})


def mode(node: Node) -> int | None:
    """Return the stored mode that is known of *node*."""
    assert node.attributes is not None
    return node.attributes.mode


@pytest.mark.parametrize(("policy", "heads"), [("list", 0), ("auto", 3), ("exact", 100)])
def test_what_listing_plain_objects_asks(policy: str, heads: int) -> None:
    """list asks for none, auto for the first, the middle and the last, exact for each."""

    async def main() -> None:
        names = Names(*PLAIN, attributes=policy)
        await names.list()
        requests = names.requests()
        assert (requests["list_page"], requests["head"]) == (1, heads)
        await names.list()
        assert names.requests() == {"list_page": 1}

    run(main)


def test_one_that_carries_attributes_has_all_asked() -> None:
    """A directory that a tool like this one filled shows every mode, also with auto."""

    async def main() -> None:
        names = Names(*PLAIN, attributes="auto")
        for key in PLAIN:
            names.store.store(key, b"x", WITH_MODE)
        await names.list()
        assert names.requests()["head"] == 100
        assert {mode(node) for node in names.root.children.values()} == {0o600}

    run(main)


def test_one_found_later_has_those_assumed_plain_asked() -> None:
    """What the sample missed shows once a newer neighbour turns out to carry attributes."""

    async def main() -> None:
        names = Names(*PLAIN, attributes="auto")
        for key in PLAIN[10:20]:
            names.store.store(key, b"x", WITH_MODE)
        await names.list()
        assert names.requests()["head"] == 3
        assert mode(names.root.children[b"015"]) is None
        names.now += TTL_S + 1
        names.store.store("000", b"new", WITH_MODE)
        await names.list()
        # The two others of the first sample are known to be plain.
        assert names.requests()["head"] == 1 + 97
        assert mode(names.root.children[b"015"]) == 0o600

    run(main)


def test_files_and_directories_are_judged_apart() -> None:
    """Modes on files say nothing of markers, nor the other way round."""

    async def main() -> None:
        names = Names(*PLAIN, *(f"dir{n}/" for n in range(10)), attributes="auto")
        for n in range(10):
            names.store.store(f"dir{n}/", b"", DIRECTORY_MODE)
        await names.list()
        assert names.requests()["head"] == 3 + 10
        assert mode(names.root.children[b"dir7"]) == 0o700
        assert (names.root.ask_files, names.root.ask_directories) == (False, True)

    run(main)


def test_a_listing_that_shows_metadata_needs_no_head_for_files() -> None:
    """MinIO's LIST carries it; only the markers of sub-directories are not in there."""

    async def main() -> None:
        for policy in ("list", "auto", "exact"):
            names = Names(*PLAIN, store=MemoryStore(list_metadata=True), attributes=policy)
            names.store.store("050", b"x", WITH_MODE)
            await names.list()
            assert names.requests() == {"list_page": 1}
            assert mode(names.root.children[b"050"]) == 0o600

    run(main)


def test_a_directory_of_many_pages_is_sampled_once() -> None:
    """Three objects of the first page, not of each."""

    async def main() -> None:
        names = Names(*(f"{n:05}" for n in range(4500)), attributes="auto")
        await names.list()
        assert names.requests() == {"list_page": 5, "head": 3}

    run(main)


def test_what_may_not_be_asked_shows_as_plain() -> None:
    """A 403 to a HEAD takes no entry out of `ls`."""

    async def main() -> None:
        names = Names(*PLAIN, attributes="exact")

        async def refuse(call: Call) -> None:
            if call.method == "head":
                raise AccessDenied(call.key)

        names.store.before = refuse
        assert len(await names.list()) == 100
        assert mode(names.root.children[b"005"]) is None

    run(main)


def test_what_goes_while_it_is_asked_shows_still() -> None:
    """A 404 to a HEAD of what a LIST has just shown is no failure of the listing."""

    async def main() -> None:
        names = Names(*PLAIN, attributes="exact")
        names.store.before = once("head", "005", lambda: names.store.remove("005"))
        assert len(await names.list()) == 100

    run(main)


def test_a_failure_is_a_failure_and_the_page_is_kept() -> None:
    """Wrong modes are not shown for an answer that did not come; asking again gives the same page."""

    async def main() -> None:
        names = Names(*PLAIN, attributes="exact")

        def fail() -> None:
            raise StoreUnavailable("503")

        names.store.before = once("head", "005", fail)
        stream = names.namespace.stream(names.root)
        with pytest.raises(StoreUnavailable):
            await stream.next_page()
        page = await stream.next_page()
        assert page is not None
        assert len(page) == 100
        stream.close()
        assert all(node.attributes is not None for node in names.root.children.values())

    run(main)


def test_a_change_here_wins_over_an_answer_on_its_way() -> None:
    """chmod while the HEAD for `ls -l` is under way: the new mode stays."""

    async def main() -> None:
        names = Names("a", attributes="exact")

        def change_mode() -> None:
            node = names.root.children[b"a"]
            assert isinstance(node, FileNode)
            names.store.store("a", b"x", WITH_MODE)
            node.describe(names.store.stat("a"), None)
            assert node.stat is not None and node.stat.headers is not None
            node.attributes = stored_attributes(node.stat)

        names.store.after = once("head", "a", change_mode)
        await names.list()
        assert mode(names.root.children[b"a"]) == 0o600

    run(main)


def test_looking_one_name_up_asks_for_that_one() -> None:
    """One request for a name of an unsampled directory, its attributes included, beside the LIST."""

    async def main() -> None:
        names = Names(*PLAIN, attributes="auto", list_shows_attributes=False)
        names.store.store("050", b"x", WITH_MODE)
        assert mode(await names.find("050")) == 0o600
        assert names.requests() == {"list_page": 1, "head": 1}
        assert names.root.ask_files is True

    run(main)
