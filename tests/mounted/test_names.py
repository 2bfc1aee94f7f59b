"""A bucket with every key that S3 allows and Linux does not, mounted: nothing in it breaks anything.

moto takes what AWS takes; the real servers refuse some of the keys (docs/names.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from errno import EILSEQ, EINVAL, ENAMETOOLONG, ENOENT, ENOTEMPTY
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from s3mount.core.keys import Location, directory_path, file_path
from tests.conftest import ServerPool
from tests.mounted.conftest import MakeMount
from tests.support.bucket import Bucket
from tests.support.mounting import Mount, Tools

LONG = "x" * 600

#: Keys of objects. Those that end in a slash are markers; with a body they show as files as well.
HOSTILE = [
    "plain.txt",
    "a",
    "a/b",
    "a-b",
    "a//b",
    "//",
    "/etc/hosts",
    "dots/.",
    "dots/..",
    "dots/../up",
    "dots/./here",
    "...",
    ".hidden",
    "marker/",
    "marker-with-body/",
    "marker-with-body/inside",
    "new\nline",
    "tab\tand\rreturn\x01\x7f",
    "back\\slash",
    " spaces ",
    "-rf",
    "~",
    "*?[x]",
    "%s3=2E",
    "%s3=file",
    "%s3=empty",
    "a%s3=file",
    "100%",
    "+&=;:@,$",
    "q?uery#hash",
    "ümläut",
    "cafe\u0301",
    "caf\u00e9",
    "😀",
    "\u202egnp.exe",
    "Case",
    "case",
    "x" * 255,
    "y" * 256,
    LONG,
    f"{LONG}/below",
    "folder_$folder$",
    "z" * 1000,
    "nul\0byte",
]
#: moto's router knows no path with a line feed.
REFUSED_BY_MOTO = {"new\nline"}
#: MinIO stores it and does not list it while there is ``a``.
UNSEEN_BY_MINIO = {"a/b"}


@dataclass
class Hostile:
    """The mount, and what the server took."""

    mount: Mount
    bucket: Bucket
    bodies: dict[str, bytes]

    def path(self, key: str) -> Path:
        """Return where *key* shows as a file."""
        beside = any(other != key and other.startswith(f"{key}/") for other in self.bodies)
        names = file_path(Location(""), key, beside_prefix=beside)
        return self.mount.path.joinpath(*map(os.fsdecode, names))

    @property
    def files(self) -> dict[str, bytes]:
        """The objects that show as files."""
        return {key: body for key, body in self.bodies.items() if not key.endswith("/") or body}


@pytest.fixture(params=["moto", "seaweedfs", "minio"])
def hostile(
    request: pytest.FixtureRequest, server_pool: ServerPool, make_mount: MakeMount
) -> Iterator[Hostile]:
    """The hostile bucket on each server, as far as it stores and lists it."""
    server = server_pool.get(request.param)
    bucket = Bucket(server, server.fresh_bucket())
    for number, key in enumerate(HOSTILE):
        if server.name == "minio" and key in UNSEEN_BY_MINIO:
            continue
        body = b"" if key == "marker/" else f"{number}: the bytes of {key[:40]!r}".encode()
        try:
            bucket.put(key, body)
        except ClientError:
            assert server.name != "moto" or key in REFUSED_BY_MOTO, f"{key!r} was refused"
    keys = bucket.keys()
    assert server.name != "moto" or set(keys) == set(HOSTILE) - REFUSED_BY_MOTO
    bodies = {key: bucket.get(key) for key in keys}
    yield Hostile(make_mount(server, bucket.name), bucket, bodies)


def test_every_key_shows_under_its_name_and_gives_its_bytes(hostile: Hostile) -> None:
    """Walking the mount finds one file for each object, and nothing else."""
    found = {Path(directory) / name for directory, _, names in os.walk(hostile.mount.path) for name in names}
    assert found == {hostile.path(key) for key in hostile.files}
    for key, body in hostile.files.items():
        assert hostile.path(key).read_bytes() == body, key
        assert hostile.path(key).stat().st_size == len(body), key


def test_programs_that_walk_trees_take_every_name(hostile: Hostile, tmp_path: Path) -> None:
    """find, ls -lR, tar and cp -r end well and miss no entry."""
    tools, count = Tools(hostile.mount), len(hostile.files)
    assert tools.run("find", ".", "-type", "f", "-printf", "x").count("x") == count
    tools.run("ls", "-lR")
    assert tools.shell("tar cf - . | tar xf - --to-command='echo x; cat > /dev/null' | wc -l") == f"{count}\n"
    tools.run("cp", "-r", ".", str(tmp_path / "copy"))
    copied = [Path(directory) / name for directory, _, names in os.walk(tmp_path / "copy") for name in names]
    assert sorted(path.read_bytes() for path in copied) == sorted(hostile.files.values())


def test_each_file_can_be_overwritten_and_deleted_under_its_name(hostile: Hostile) -> None:
    """What changes is the object with the right key, and no other."""
    paths = {key: hostile.path(key) for key in hostile.files}
    for number, (key, path) in enumerate(paths.items()):
        path.write_bytes(f"new {number}".encode())
        assert hostile.bucket.get(key) == f"new {number}".encode(), key
    assert set(hostile.bucket.keys()) == set(hostile.bodies)
    for key, path in paths.items():
        path.unlink()
        assert not path.exists(), key
    left = hostile.bucket.keys()
    assert all(key.endswith("/") and hostile.bucket.get(key) == b"" for key in left), left


def test_a_directory_whose_marker_holds_bytes_is_not_empty(
    server_pool: ServerPool, make_mount: MakeMount
) -> None:
    """rmdir would take the bytes along: ENOTEMPTY until they are unlinked under their own name."""
    mount = make_mount(server_pool.get("minio"))
    bucket = Bucket(mount.server, mount.bucket)
    bucket.put("notes/", b"bytes of the marker")
    with pytest.raises(OSError) as caught:
        (mount.path / "notes").rmdir()
    assert caught.value.errno == ENOTEMPTY
    assert bucket.get("notes/") == b"bytes of the marker"
    (mount.path / "notes" / "%s3=empty").unlink()
    (mount.path / "notes").rmdir()
    assert bucket.keys() == []


def test_changing_a_directorys_mode_keeps_what_its_marker_holds(
    server_pool: ServerPool, make_mount: MakeMount
) -> None:
    """chmod stores into the marker: its bytes and its other attributes stay, however they came there."""
    mount = make_mount(server_pool.get("minio"), None, "--attributes=list")
    bucket = Bucket(mount.server, mount.bucket)
    bucket.put("notes/", b"bytes", Metadata={"uid": "4242", "other": "value"})
    (mount.path / "notes").chmod(0o700)
    assert bucket.get("notes/") == b"bytes"
    assert bucket.metadata("notes/") == {"uid": "4242", "other": "value", "mode": str(0o040700)}
    (mount.path / "made").mkdir()
    (mount.path / "made" / "%s3=empty").write_bytes(b"written here")
    (mount.path / "made").chmod(0o750)
    assert bucket.get("made/") == b"written here"
    assert (mount.path / "made").stat().st_mode & 0o7777 == 0o750


def test_a_directory_stays_when_its_last_name_was_too_long_for_linux(
    server_pool: ServerPool, make_mount: MakeMount
) -> None:
    """The pseudo-directories of the long name go with it, the directory they stood in is empty now."""
    mount = make_mount(server_pool.get("moto"))
    bucket = Bucket(mount.server, mount.bucket)
    bucket.put(f"kept/{LONG}", b"x")
    mount.path.joinpath(*map(os.fsdecode, file_path(Location(""), f"kept/{LONG}"))).unlink()
    assert bucket.keys() == ["kept/"]
    assert (mount.path / "kept").is_dir()


def test_the_whole_bucket_can_be_removed(hostile: Hostile) -> None:
    """`rm -r` of everything leaves no key."""
    Tools(hostile.mount).run("find", ".", "-mindepth", "1", "-delete")
    assert os.listdir(hostile.mount.path) == []
    assert hostile.bucket.keys() == []


def test_odd_files_can_be_renamed(hostile: Hostile) -> None:
    """A file leaves an odd name for a plain one, and its bytes come along."""
    (hostile.mount.path / "renamed").mkdir()
    paths = {key: hostile.path(key) for key in hostile.files}
    for number, (key, path) in enumerate(paths.items()):
        path.rename(hostile.mount.path / "renamed" / str(number))
        assert hostile.bucket.get(f"renamed/{number}") == hostile.files[key], key


@pytest.fixture(params=["moto", "seaweedfs", "minio"])
def empty(request: pytest.FixtureRequest, server_pool: ServerPool, make_mount: MakeMount) -> Mount:
    """A mount of an empty bucket."""
    return make_mount(server_pool.get(request.param))


def test_names_and_keys_have_their_limits(empty: Mount) -> None:
    """A name of 255 bytes is fine, 256 are ENAMETOOLONG, and so is a key over 1,024."""
    (empty.path / ("n" * 255)).write_text("fits")
    for call in (Path.touch, Path.mkdir, Path.stat, lambda path: path.symlink_to("x")):
        with pytest.raises(OSError) as caught:
            call(empty.path / ("n" * 256))
        assert caught.value.errno == ENAMETOOLONG
    with pytest.raises(OSError) as caught:
        (empty.path / ("n" * 255)).rename(empty.path / ("m" * 256))
    assert caught.value.errno == ENAMETOOLONG
    assert os.listdir(empty.path) == ["n" * 255]
    deep = empty.path
    if empty.server.name == "seaweedfs":
        return  # it refuses keys from about 900 bytes on by itself
    for _ in range(4):
        deep = deep / ("d" * 200)
        deep.mkdir()
    # 4 x 201 bytes are gone.
    longest = deep / ("e" * 220)
    longest.write_text("fits")
    for call in (Path.touch, Path.stat, Path.mkdir):
        with pytest.raises(OSError) as caught:
            call(deep / ("e" * 221))
        assert caught.value.errno == ENAMETOOLONG
    assert longest.read_text() == "fits"
    with pytest.raises(OSError) as caught:
        (deep / ("f" * 220)).mkdir()  # its marker's slash is one byte too many
    assert caught.value.errno == ENAMETOOLONG


def test_names_that_are_not_utf8_are_refused(empty: Mount) -> None:
    """EILSEQ, since no key can hold them; the directory goes on working."""
    bad = os.fsencode(empty.path) + b"/bad\xff"
    for call in (os.mkdir, os.stat, lambda path: os.open(path, os.O_CREAT | os.O_WRONLY)):
        with pytest.raises(OSError) as caught:
            call(bad)
        assert caught.value.errno == EILSEQ
    (empty.path / "good").write_text("x")
    with pytest.raises(OSError) as caught:
        os.rename(os.fsencode(empty.path / "good"), bad)
    assert caught.value.errno == EILSEQ
    assert os.listdir(empty.path) == ["good"]


def test_reserved_spellings_that_mean_nothing_are_refused(empty: Mount) -> None:
    """A second path to a key is not found (ENOENT) and cannot be made (EINVAL)."""
    for name in ("%s3=41", "%s3=2e", "a%s3=", "%s3=more", "x%s3=more"):
        path = empty.path / name
        with pytest.raises(OSError) as caught:
            path.stat()
        assert caught.value.errno == ENOENT, name
        for make in (Path.touch, Path.mkdir):
            with pytest.raises(OSError) as caught:
                make(path)
            assert caught.value.errno == EINVAL, name
    assert os.listdir(empty.path) == []


def test_odd_keys_can_be_made_by_their_names(server_pool: ServerPool, make_mount: MakeMount) -> None:
    """Writing under a reserved spelling makes the key that it stands for."""
    server = server_pool.get("moto")
    mount = make_mount(server)
    bucket = Bucket(server, mount.bucket)
    for key in (".", "..", "%s3=2E", "literal%s3=file", "nul\0", "a//b", "c/../d", "e/f//"):
        *parents, _ = names = [os.fsdecode(name) for name in file_path(Location(""), key)]
        mount.path.joinpath(*parents).mkdir(parents=True, exist_ok=True)
        mount.path.joinpath(*names).write_text(f"bytes of {key!r}")
        assert bucket.get(key) == f"bytes of {key!r}".encode()
    (directory,) = directory_path(Location(""), "g/")
    (mount.path / os.fsdecode(directory)).mkdir()
    (mount.path / "g" / "inside").write_text("x")
    (mount.path / "g%s3=file").write_text("beside")
    assert bucket.get("g") == b"beside"
    assert bucket.get("g/inside") == b"x"
