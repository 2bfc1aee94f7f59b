"""The hidden directory ``.s3mount`` and the extended attributes, on a real mount."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.mounted.conftest import MakeMount
from tests.support.bucket import Bucket
from tests.support.counting_proxy import CountingProxy, Hold
from tests.support.fault_actions import ACCESS_DENIED
from tests.support.mounting import Mount
from tests.support.servers import Server

STATE = "user.s3mount.state"
LAST_ERROR = "user.s3mount.last_error"


def test_the_status_is_a_file_that_costs_no_request(
    make_mount: MakeMount, minio: Server, proxy: CountingProxy
) -> None:
    """Any program that reads files can look; each open gives the state of that moment."""
    mount = make_mount(minio, endpoint_url=proxy.endpoint_url)
    hidden = mount.path / ".s3mount"
    proxy.clear()
    before = proxy.counts()
    status = json.loads((hidden / "status.json").read_bytes())
    assert (status["version"], status["mountpoint"]) == (1, str(mount.path))
    assert sorted(os.listdir(hidden)) == ["metrics", "status.json"]
    assert subprocess.run(["cat", hidden / "metrics"], capture_output=True, check=True).stdout
    with pytest.raises(FileNotFoundError):
        (hidden / "other").stat()
    assert proxy.counts() == before
    with (mount.path / "f").open("wb") as file:
        file.write(b"1234")
        file.flush()
        (upload,) = json.loads((hidden / "status.json").read_bytes())["uploads"]["listed"]
        assert (upload["path"], upload["is_open"]) == ("/f", True)
    assert json.loads((hidden / "status.json").read_bytes())["uploads"]["files"] == 0


def test_it_is_never_listed(make_mount: MakeMount, minio: Server) -> None:
    """find, cp -r and du pass it by, also after it was looked at; an empty mount is empty."""
    mount = make_mount(minio)
    assert (mount.path / ".s3mount").is_dir()
    assert os.listdir(mount.path) == []
    assert subprocess.run(["find", mount.path], capture_output=True, text=True).stdout == f"{mount.path}\n"


def test_it_is_the_users_who_mounted(make_mount: MakeMount, minio: Server) -> None:
    """Others see that it is there, and no more: modes 0500 and 0400."""
    mount = make_mount(minio, None, "--uid", "1000", "--allow-other")
    directory, file = (mount.path / ".s3mount").stat(), (mount.path / ".s3mount" / "status.json").stat()
    assert (stat.S_IMODE(directory.st_mode), directory.st_uid) == (0o500, os.geteuid())
    assert (stat.S_IMODE(file.st_mode), file.st_uid, file.st_size) == (0o400, os.geteuid(), 0)


def changes(hidden: Path) -> list[tuple[str, Callable[[], object]]]:
    """Return every way to change it."""
    status = hidden / "status.json"
    return [
        ("write", lambda: status.open("r+b")),
        ("create", lambda: (hidden / "new").open("wb")),
        ("mkdir", (hidden / "new").mkdir),
        ("symlink", lambda: (hidden / "new").symlink_to("x")),
        ("unlink", status.unlink),
        ("rmdir", hidden.rmdir),
        ("rename", lambda: hidden.rename(hidden.parent / "elsewhere")),
        ("rename out", lambda: status.rename(hidden.parent / "elsewhere")),
        ("rename in", lambda: (hidden.parent / "f").rename(hidden / "f")),
        ("rename over", lambda: (hidden.parent / "d").rename(hidden)),
        ("chmod", lambda: hidden.chmod(0o777)),
        ("truncate", lambda: os.truncate(status, 0)),
        ("utime", lambda: os.utime(status)),
    ]


def test_it_cannot_be_changed(make_mount: MakeMount, minio: Server) -> None:
    """Everything that would is EROFS."""
    mount = make_mount(minio)
    (mount.path / "f").write_bytes(b"")
    (mount.path / "d").mkdir()
    for name, change in changes(mount.path / ".s3mount"):
        with pytest.raises(OSError) as caught:
            change()
        assert (name, caught.value.errno) == (name, errno.EROFS)
    with pytest.raises(FileExistsError):
        (mount.path / ".s3mount").mkdir()


def test_a_key_of_the_same_name_has_a_path_of_its_own(make_mount: MakeMount, real_server: Server) -> None:
    """Nothing in the bucket is out of reach because of it, at the root or below."""
    bucket = Bucket(real_server, real_server.fresh_bucket())
    bucket.put_many({".s3mount/status.json": b"theirs", "d/.s3mount": b"deep", ".s3mounts": b"other"})
    mount = make_mount(real_server, bucket.name)
    assert sorted(os.listdir(mount.path)) == ["%s3=2Es3mount", ".s3mounts", "d"]
    assert (mount.path / "%s3=2Es3mount" / "status.json").read_bytes() == b"theirs"
    assert os.listdir(mount.path / "d") == ["%s3=2Es3mount"]
    assert (mount.path / "d" / "%s3=2Es3mount").read_bytes() == b"deep"
    assert not (mount.path / "d" / ".s3mount").exists()
    assert json.loads((mount.path / ".s3mount" / "status.json").read_bytes())["version"] == 1
    (mount.path / "d" / "%s3=2Es3mount").write_bytes(b"changed")
    assert bucket.get("d/.s3mount") == b"changed"


def test_the_metrics_are_what_prometheus_reads(
    make_mount: MakeMount, minio: Server, proxy: CountingProxy
) -> None:
    """Parsed by its own client, with the figures that are so."""
    mount = make_mount(minio, None, "--memory", "64M", endpoint_url=proxy.endpoint_url)
    (mount.path / "f").write_bytes(b"x" * 700)
    text = (mount.path / ".s3mount" / "metrics").read_text()
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples[("s3mount_sent_bytes_total", (("operation", "PutObject"),))] >= 700
    assert samples[("s3mount_memory_cap_bytes", ())] == 64 * 1024**2
    assert samples[("s3mount_server_reachable", ())] == 1
    assert samples[("s3mount_unsent_files", ())] == 0
    assert samples[("s3mount_uploads", (("state", "failed"),))] == 0
    (info,) = [labels for name, labels in samples if name == "s3mount_info"]
    assert dict(info)["source"] == f"s3://{mount.bucket}/"


def test_without_the_option_there_are_no_extended_attributes(make_mount: MakeMount, minio: Server) -> None:
    """The kernel is told so once, and asks no more."""
    mount = make_mount(minio, None, "--log-level", "debug")
    (mount.path / "f").write_bytes(b"text")
    for _ in range(3):
        with pytest.raises(OSError) as caught:
            os.getxattr(mount.path / "f", STATE)
        assert caught.value.errno == errno.ENOTSUP
    assert mount.log.read_text().count("getxattr /f") <= 1


def test_the_state_of_a_file_is_an_attribute(
    make_mount: MakeMount, minio: Server, proxy: CountingProxy
) -> None:
    """From its first byte to the bucket, with how much of it the server has; a directory sums up."""
    mount = make_mount(
        minio,
        None,
        "--xattrs",
        "--part-size=5M",
        "--upload-concurrency=1",
        "--write-back=1h",
        endpoint_url=proxy.endpoint_url,
    )
    (mount.path / "d").mkdir()
    path = mount.path / "d" / "f"
    hold = Hold()
    with path.open("wb") as file:
        assert state(path) == "dirty"
        file.write(b"x" * (10 << 20))
    assert state(path) == "queued"
    assert state(mount.path / "d") == state(mount.path) == "unsent"
    with proxy.rule(hold, operation="UploadPart", first=2):
        sending = subprocess.Popen(["sync", path])
        hold.wait_held()
        assert state(path) == "uploading 50 %"
        hold.release()
        assert sending.wait(60) == 0
    assert state(path) == state(mount.path) == "clean"
    assert os.listxattr(path) == [STATE]


def state(path: Path) -> str:
    """Return the attribute."""
    return os.getxattr(path, STATE).decode()


def test_the_last_error_is_an_attribute(make_mount: MakeMount, minio: Server, proxy: CountingProxy) -> None:
    """With the server's words; where there was none there is none."""
    mount = make_mount(
        minio, None, "--xattrs", endpoint_url=proxy.endpoint_url, expected=["upload of /f failed"]
    )
    path = mount.path / "f"
    with proxy.rule(ACCESS_DENIED, operation="PutObject"):
        with pytest.raises(PermissionError):
            path.write_bytes(b"text")
        assert state(path) == "failed"
        assert os.listxattr(path) == [STATE, LAST_ERROR]
        said = os.getxattr(path, LAST_ERROR).decode()
    assert " flush EACCES: PutObject 'f': HTTP 403 AccessDenied: injected" in said
    with pytest.raises(OSError) as caught:
        os.getxattr(mount.path, LAST_ERROR)
    assert caught.value.errno == errno.ENODATA
    with pytest.raises(OSError) as caught:
        os.setxattr(path, "user.mine", b"1")
    assert caught.value.errno == errno.ENOTSUP
    subprocess.run(["sync", path], check=True)


def test_attributes_that_the_kernel_asks_for_cost_no_request(
    make_mount: MakeMount, minio: Server, proxy: CountingProxy
) -> None:
    """security.capability at every write, ACLs in ls -l: answered from memory."""
    mount: Mount = make_mount(minio, None, "--xattrs", "--ttl=1h", endpoint_url=proxy.endpoint_url)
    (mount.path / "f").write_bytes(b"text")
    os.listdir(mount.path)
    before = proxy.counts()
    assert subprocess.run(["ls", "-l", mount.path], capture_output=True).returncode == 0
    assert os.listxattr(mount.path / "f") == [STATE]
    assert proxy.counts() == before
