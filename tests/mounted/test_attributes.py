"""Modes, owners, times and links: what is stored beside the bytes, and what of others is understood."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.mounted.conftest import MakeMount
from tests.support.bucket import Bucket
from tests.support.mounting import Mount
from tests.support.servers import Server
from tests.support.workplace import Workplace

NOBODY = 65534
#: What is stored of owners is shown and stored: what is not is in test_owners.py.
MOUNT_OPTIONS = ("--owners=bucket",)
TIME_NS = 1_234_567_890_123_456_789
S3FS = {"mode": "33184", "uid": "1001", "gid": "1002", "mtime": "1500000000.250000000"}
SHOWN = (0o640, 1001, 1002, 1_500_000_000_250_000_000)


def shown(path: Path) -> tuple[int, int, int, int]:
    """Return mode, uid, gid and mtime."""
    status = path.lstat()
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns


def test_a_plain_file_carries_no_metadata(place: Workplace) -> None:
    """What a user makes without asking for anything special is an object like any other."""
    place.shell("echo x > f; echo z >> f; mkdir d; cp f g; mkdir -p d/e; echo y > d/e/f; truncate -s 1 g")
    for key in ("f", "g", "d/", "d/e/", "d/e/f"):
        assert place.bucket.metadata(place.key(key)) == {}, key
    assert place.bucket.head(place.key("f"))["ContentType"] == "application/octet-stream"


def test_attributes_are_stored_as_s3fs_stores_them(place: Workplace) -> None:
    """mode, uid, gid and mtime stand in the metadata under s3fs's names and in its spelling."""
    path = place.path / "f"
    path.write_bytes(b"x")
    path.chmod(0o640)
    os.chown(path, 1001, 1002)
    os.utime(path, ns=(TIME_NS, TIME_NS))
    assert place.bucket.metadata(place.key("f")) == {
        "mode": str(stat.S_IFREG | 0o640),
        "uid": "1001",
        "gid": "1002",
        "mtime": "1234567890.123456789",
    }
    want = (0o640, 1001, 1002, TIME_NS)
    assert shown(path) == want
    place.mount.remount()
    assert shown(path) == want


def test_attributes_before_close_go_with_the_upload(place: Workplace) -> None:
    """fchmod, fchown and futimens on an open new file are in the object that close writes."""
    with open(place.path / "f", "wb") as file:
        file.write(b"x")
        file.flush()
        os.fchmod(file.fileno(), 0o600)
        os.fchown(file.fileno(), 1001, -1)
        os.utime(file.fileno(), ns=(TIME_NS, TIME_NS))
    assert place.bucket.metadata(place.key("f")) == {
        "mode": "33152",
        "uid": "1001",
        "mtime": "1234567890.123456789",
    }


def test_a_symlink_is_stored_as_s3fs_stores_it(place: Workplace) -> None:
    """The body is the target, and the mode says that it is a link; utimes of the link itself are kept."""
    os.symlink("target/ü", place.path / "link")
    os.utime(place.path / "link", ns=(TIME_NS, TIME_NS), follow_symlinks=False)
    assert place.bucket.get(place.key("link")) == "target/ü".encode()
    assert place.bucket.metadata(place.key("link")) == {"mode": "41471", "mtime": "1234567890.123456789"}
    place.mount.remount()
    assert os.readlink(place.path / "link") == "target/ü"
    assert (place.path / "link").lstat().st_mtime_ns == TIME_NS


@pytest.mark.parametrize(
    ("metadata", "want"),
    [
        (S3FS, SHOWN),
        ({"mode": "100640", "uid": "1001", "gid": "1002", "mtime": "1500000000.25"}, SHOWN),
        ({"mtime": "1500000000.250000000"}, (0o644, os.getuid(), os.getgid(), SHOWN[3])),
        (
            {
                "goog-reserved-posix-mode": "640",
                "goog-reserved-posix-uid": "1001",
                "goog-reserved-posix-gid": "1002",
                "goog-reserved-posix-mtime": "1500000000",
            },
            (0o640, 1001, 1002, 1_500_000_000_000_000_000),
        ),
        (
            {"s3cmd-attrs": "uid:1001/gname:x/uname:y/gid:1002/mode:33184/mtime:1500000000/md5:0/ctime:1"},
            (0o640, 1001, 1002, 1_500_000_000_000_000_000),
        ),
    ],
    ids=["s3fs", "rclone", "mtime alone", "gsutil", "s3cmd"],
)
def test_what_other_tools_stored_is_shown(
    place: Workplace, metadata: dict[str, str], want: tuple[int, int, int, int]
) -> None:
    """Modes, owners and times that s3fs, rclone, gsutil or s3cmd wrote are what `stat` and `ls -l` show."""
    place.bucket.put(place.key("f"), b"x", Metadata=metadata)
    place.run("ls", "-l")
    assert shown(place.path / "f") == want


def test_what_is_absurd_is_not_believed(place: Workplace) -> None:
    """Metadata that cannot be true, or that would hand out privileges, is as if it were not there."""
    place.bucket.put(place.key("device"), b"x", Metadata={"mode": "24576"})
    place.bucket.put(place.key("setuid"), b"x", Metadata={"mode": str(stat.S_IFREG | 0o4755)})
    place.bucket.put(place.key("junk"), b"x", Metadata={"mode": "dark", "uid": "-1", "mtime": "soon"})
    place.run("ls", "-l")
    assert stat.filemode((place.path / "device").lstat().st_mode) == "-rw-r--r--"
    assert stat.filemode((place.path / "setuid").lstat().st_mode) == "-rwxr-xr-x"
    assert shown(place.path / "junk")[:2] == (0o644, os.getuid())


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1644])
def test_setuid_is_refused(place: Workplace, mode: int) -> None:
    """chmod to set-uid, set-gid or a sticky file is not permitted, and changes nothing."""
    path = place.path / "f"
    path.write_bytes(b"x")
    with pytest.raises(PermissionError):
        path.chmod(mode)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert place.bucket.metadata(place.key("f")) == {}


def test_chmod_and_chown_keep_the_time(place: Workplace) -> None:
    """Copying an object onto itself gives it a new Last-Modified; its mtime stays as old as its bytes."""
    place.bucket.put(place.key("f"), b"x")
    before_ns = (place.path / "f").stat().st_mtime_ns
    assert before_ns == int(place.bucket.head(place.key("f"))["LastModified"].timestamp()) * 10**9
    (place.path / "f").chmod(0o600)
    os.chown(place.path / "f", 1001, 1002)
    assert shown(place.path / "f") == (0o600, 1001, 1002, before_ns)
    place.mount.remount()
    assert shown(place.path / "f") == (0o600, 1001, 1002, before_ns)


def test_writing_sets_a_new_time(place: Workplace) -> None:
    """A stored time of the past is gone once the bytes change; mode and owner stay."""
    place.bucket.put(place.key("f"), b"x", Metadata=S3FS)
    place.shell("echo y >> f")
    metadata = place.bucket.metadata(place.key("f"))
    assert metadata == {"mode": "33184", "uid": "1001", "gid": "1002"}
    place.mount.remount()
    last_modified = place.bucket.head(place.key("f"))["LastModified"].timestamp()
    assert (place.path / "f").stat().st_mtime == last_modified


HEADERS = {
    "CacheControl": "max-age=60",
    "ContentType": "text/x-odd",
    "ContentDisposition": 'attachment; filename="x"',
    "ContentLanguage": "de",
}


@pytest.mark.parametrize("how", ["mv", "chmod", "append", "touch", "mv of the directory"])
def test_headers_and_foreign_metadata_are_kept(place: Workplace, how: str) -> None:
    """Whatever copies or rewrites the object keeps its headers and the metadata that is not ours."""
    foreign = {"colour": "blue", "mtime": "1500000000.250000000"}
    place.bucket.put(place.key("d/f"), b"x", Metadata=foreign, **HEADERS)
    script, key = {
        "mv": ("mv d/f d/g", "d/g"),
        "chmod": ("chmod 600 d/f", "d/f"),
        "append": ("echo y >> d/f", "d/f"),
        "touch": ("touch -d @1400000000 d/f", "d/f"),
        "mv of the directory": ("mv d e", "e/f"),
    }[how]
    place.shell(script)
    head = place.bucket.head(place.key(key))
    assert {name: head.get(name) for name in HEADERS} == HEADERS
    assert head["Metadata"]["colour"] == "blue"
    mtime = {"append": None, "touch": "1400000000.000000000"}.get(how, foreign["mtime"])
    assert head["Metadata"].get("mtime") == mtime


def test_renaming_keeps_the_time(place: Workplace) -> None:
    """A file whose time nobody stored is as old after a rename as before, also over a remount."""
    place.bucket.put(place.key("d/f"), b"x")
    place.bucket.put(place.key("d/g"), b"x", Metadata={"mtime": "1000000000.000000001"})
    written_ns = (place.path / "d" / "f").stat().st_mtime_ns
    place.shell("mv d/f d/h; mv d e; mv e/g e/i")
    assert place.bucket.metadata(place.key("e/h"))["mtime"] == f"{written_ns // 10**9}.000000000"
    place.mount.remount()
    assert (place.path / "e" / "h").stat().st_mtime_ns == written_ns
    assert (place.path / "e" / "i").stat().st_mtime_ns == 1_000_000_000_000_000_001


def test_directories_keep_mode_owner_and_time(place: Workplace) -> None:
    """chmod, chown and utimes of a directory are in its marker, and shown after a remount."""
    path = place.path / "d"
    path.mkdir(mode=0o750)
    os.chown(path, 1001, 1002)
    os.utime(path, ns=(TIME_NS, TIME_NS))
    assert shown(path) == (0o750, 1001, 1002, TIME_NS)
    if not place.keeps_directory_attributes:
        return
    assert place.bucket.metadata(place.key("d/")) == {
        "mode": str(stat.S_IFDIR | 0o750),
        "uid": "1001",
        "gid": "1002",
        "mtime": "1234567890.123456789",
    }
    place.mount.remount()
    assert shown(path) == (0o750, 1001, 1002, TIME_NS)
    place.run("ls", "-l")
    assert shown(path) == (0o750, 1001, 1002, TIME_NS)


def test_a_sticky_directory(place: Workplace) -> None:
    """The sticky bit of a directory is stored and shown."""
    path = place.path / "d"
    path.mkdir()
    path.chmod(0o1777)
    assert stat.S_IMODE(path.stat().st_mode) == 0o1777
    if place.keeps_directory_attributes:
        place.mount.remount()
        assert stat.S_IMODE(path.stat().st_mode) == 0o1777


def test_a_directory_without_a_marker_gets_one_by_chmod(place: Workplace) -> None:
    """chmod of a directory that exists only through its keys writes its marker."""
    place.bucket.put(place.key("d/f"), b"x")
    (place.path / "d").chmod(0o700)
    assert "d/" in place.below()
    assert stat.S_IMODE((place.path / "d").stat().st_mode) == 0o700


def test_new_files_take_the_mode_they_are_created_with(place: Workplace) -> None:
    """The mode of open(2), less the umask, is the file's, stored where it is not the mount's default."""
    for mode in (0o644, 0o600, 0o755, 0o400):
        descriptor = os.open(place.path / f"{mode:o}", os.O_CREAT | os.O_WRONLY, mode)
        os.write(descriptor, b"x")
        os.close(descriptor)
        assert stat.S_IMODE((place.path / f"{mode:o}").stat().st_mode) == mode
    assert place.bucket.metadata(place.key("644")) == {}
    assert place.bucket.metadata(place.key("755")) == {"mode": str(stat.S_IFREG | 0o755)}


@pytest.mark.parametrize("attributes", ["list", "auto", "exact"])
def test_how_attributes_are_looked_up(real_server: Server, make_mount: MakeMount, attributes: str) -> None:
    """exact shows what is stored of every name; auto where a sample has any; list only if LIST shows it."""
    name = real_server.fresh_bucket()
    bucket = Bucket(real_server, name)
    for number in range(9):
        bucket.put(f"all/{number}", b"x", Metadata=S3FS)
        bucket.put(f"none/{number}", b"x")
        bucket.put(f"one/{number}", b"x", Metadata=S3FS if number == 1 else {})
    mount = make_mount(real_server, name, f"--attributes={attributes}", *MOUNT_OPTIONS)

    def with_attributes(directory: str) -> int:
        entries = list(os.scandir(mount.path / directory))
        assert len(entries) == 9
        return sum(entry.stat().st_uid == 1001 for entry in entries)

    lists_all = real_server.name == "minio" or attributes == "exact"
    assert with_attributes("all") == (9 if lists_all or attributes == "auto" else 0)
    assert with_attributes("none") == 0
    assert with_attributes("one") == (1 if lists_all else 0)


def test_attributes_that_appear_late_are_found(place: Workplace) -> None:
    """Once one file of a directory shows stored attributes, its neighbours are asked too."""
    place.bucket.put_many({place.key(f"{number}"): b"x" for number in range(8)})
    place.run("ls", "-l")
    (place.path / "3").chmod(0o600)
    place.bucket.put(place.key("1"), b"xy", Metadata=S3FS)
    place.mount.remount()
    (place.path / "3").chmod(0o640)
    place.run("ls", "-l")
    assert shown(place.path / "1") == SHOWN


def owner_options(mount: Mount) -> list[str]:
    return [f"{path.name}:{shown(path)[:3]}" for path in sorted(mount.path.iterdir())]


@pytest.mark.parametrize("owners", ["mount", "bucket"])
def test_the_mounts_own_defaults(minio: Server, make_mount: MakeMount, owners: str) -> None:
    """--uid, --gid, --file-mode, --dir-mode and --umask say what is shown where nothing is stored.

    With --owners=mount the first two say it of everything.
    """
    name = minio.fresh_bucket()
    bucket = Bucket(minio, name)
    bucket.put("f", b"x")
    bucket.put("stored", b"x", Metadata=S3FS)
    bucket.put("d/x", b"x")
    modes = ("--file-mode=0666", "--dir-mode=0777", "--umask=0027")
    mount = make_mount(minio, name, "--uid=1234", "--gid=2345", *modes, f"--owners={owners}")
    stored_owner = (1234, 2345) if owners == "mount" else (1001, 1002)
    assert owner_options(mount) == [
        f"d:{(0o750, 1234, 2345)}",
        f"f:{(0o640, 1234, 2345)}",
        f"stored:{(0o640, *stored_owner)}",
    ]
