"""``MountConfig``: defaults, sources, and what cannot be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from s3mount.config import MountConfig, machine, make_config
from s3mount.config.model import mount_name, parse_source
from s3mount.config.options import OPTIONS
from s3mount.core.exits import Exit
from s3mount.errors import StartupError

MIB = 1024**2


def config(**values: Any) -> MountConfig:
    """Return the configuration of a mount with *values*, by field."""
    return make_config("bucket", "/mnt", values)


def refused(**values: Any) -> str:
    """Return what is said about *values* that cannot be."""
    with pytest.raises(StartupError) as caught:
        config(**values)
    assert caught.value.exit_code == Exit.CONFIG
    return str(caught.value)


def test_every_option_sets_a_field_and_names_are_unique() -> None:
    """The table and the record cannot drift apart."""
    fields = set(MountConfig.__dataclass_fields__)
    of_table = {option.field for option in OPTIONS}
    assert fields - of_table == {"bucket", "prefix", "mountpoint", "mount_options"}
    assert of_table <= fields
    assert len({option.name for option in OPTIONS}) == len(OPTIONS)


def test_every_default_is_a_value_that_may_be_given() -> None:
    """Parsing what the help shows as default gives the default."""
    for option in OPTIONS:
        default = option.default_value()
        if option.parse is not None and default is not None and option.default_text is None:
            assert option.parse(option.show(default)) == default, option.name


def test_the_defaults_are_those_of_the_help() -> None:
    """Those that a mount's behaviour hangs on most."""
    plain = config()
    assert (plain.ttl_s, plain.negative_ttl_s, plain.attributes) == (5.0, 2.0, "auto")
    assert (plain.block_size, plain.part_size) == (1 * MIB, 16 * MIB)
    assert (plain.file_mode, plain.dir_mode, plain.umask) == (0o644, 0o755, None)
    assert (plain.uid, plain.gid) == (os.getuid(), os.getgid())
    assert plain.sign_requests
    assert plain.verify_ssl
    assert not plain.read_only
    assert plain.mount_options == ("nosuid", "nodev")


@pytest.mark.parametrize(
    ("source", "bucket", "prefix"),
    [
        ("photos", "photos", ""),
        ("photos/", "photos", ""),
        ("photos/2024", "photos", "2024/"),
        ("photos/2024/", "photos", "2024/"),
        ("s3://photos", "photos", ""),
        ("S3://photos/a/b", "photos", "a/b/"),
        ("photos//a", "photos", "/a/"),
    ],
)
def test_bucket_and_prefix(source: str, bucket: str, prefix: str) -> None:
    """The prefix is literal and ends in a slash."""
    assert parse_source(source) == (bucket, prefix)


@pytest.mark.parametrize("source", ["https://host/bucket", "file:///x"])
def test_another_scheme_is_no_bucket(source: str) -> None:
    """The server goes elsewhere, and the message says where."""
    with pytest.raises(StartupError, match="--endpoint-url"):
        parse_source(source)


@pytest.mark.parametrize("bucket", ["", "ab", "-x-y", "a b c", "büro", "s3:", "x" * 256])
def test_what_is_no_bucket_name_is_refused_before_anything_is_asked(bucket: str) -> None:
    """Otherwise the server's answer would have to explain it."""
    with pytest.raises(StartupError, match="no bucket's name"):
        make_config(bucket, "/mnt", {})


def test_an_endpoint_is_an_http_address_without_keys_in_it() -> None:
    """Keys in an address would end up in logs and in the process list."""
    assert config(endpoint_url="http://127.0.0.1:9000/").endpoint_url == "http://127.0.0.1:9000"
    assert "no http:// or https:// address" in refused(endpoint_url="minio:9000")
    assert "no http:// or https:// address" in refused(endpoint_url="http://host:99999")
    assert "query" in refused(endpoint_url="https://host/?a=b")
    message = refused(endpoint_url="http://user:hunter2@host")
    assert "keys in it" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"allow_other": True, "allow_root": True}, "--allow-root"),
        ({"ca_bundle": "/x", "verify_ssl": False}, "--ca-bundle"),
        ({"sign_requests": False, "profile": "p"}, "--no-sign-request"),
        ({"block_size": 3 * MIB}, "--block-size"),
        ({"block_size": 1024}, "--block-size"),
        ({"part_size": 4 * MIB}, "--part-size"),
        ({"part_size": 6 * 1024 * MIB}, "--part-size"),
        ({"memory_bytes": 1 * MIB}, "--memory"),
        ({"memory_bytes": 64 * MIB, "read_ahead_bytes": 65 * MIB}, "--read-ahead"),
        ({"upload_concurrency": 0}, "--upload-concurrency"),
        ({"attempts": 0}, "--attempts"),
        ({"connect_timeout_s": 0.0}, "--connect-timeout"),
        ({"ttl_s": 1e9}, "--ttl"),
        ({"spool_cap_bytes": 1}, "--spool-cap"),
        ({"max_cached_names": 1}, "--max-cached-names"),
    ],
)
def test_what_cannot_be_is_refused_by_name(values: dict[str, Any], named: str) -> None:
    """Each with its range or its rival."""
    assert named in refused(**values)


def test_umask_takes_bits_from_both_modes() -> None:
    """It never adds any."""
    masked = config(umask=0o077, file_mode=0o664)
    assert (masked.file_mode, masked.dir_mode) == (0o600, 0o700)


def test_read_ahead_shrinks_with_a_small_memory() -> None:
    """One reader must not take it all."""
    assert config(memory_bytes=512 * MIB).read_ahead_bytes == 32 * MIB
    assert config(memory_bytes=32 * MIB).read_ahead_bytes == 8 * MIB


def test_a_mount_finds_its_own_spool_again_and_no_other_mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder depends on server, bucket, prefix and mountpoint, and on nothing that changes."""
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    spool = config().spool_dir
    assert (
        spool
        == config(ttl_s=1.0).spool_dir
        == f"/state/s3mount/spool/{mount_name(None, 'bucket', '', '/mnt')}"
    )
    others = [
        make_config("bucket/a", "/mnt", {}),
        make_config("bucket", "/other", {}),
        make_config("bucket", "/mnt", {"endpoint_url": "http://127.0.0.1:1"}),
    ]
    assert len({spool, *(other.spool_dir for other in others)}) == 4
    assert config(spool_dir="/fast").spool_dir == f"/fast/{Path(spool).name}"


def test_state_is_kept_where_a_reboot_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool may hold the only copy of what was written."""
    assert machine.state_dir({"STATE_DIRECTORY": "/var/lib/x:/var/lib/y"}) == Path("/var/lib/x")
    assert machine.state_dir({"XDG_STATE_HOME": "/xdg"}) == Path("/xdg/s3mount")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert machine.state_dir({}) == Path("/var/lib/s3mount")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/u")
    assert machine.state_dir({}) == Path("/home/u/.local/state/s3mount")
    assert machine.state_dir({"XDG_STATE_HOME": "relative"}) == Path("/home/u/.local/state/s3mount")


def cgroup(tmp_path: Path, membership: str, limits: dict[str, str]) -> int | None:
    """Return the limit of a process with this membership among control groups with these limits."""
    own = tmp_path / "cgroup"
    own.write_text(membership)
    for path, limit in limits.items():
        file = tmp_path / "fs" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(limit + "\n")
    return machine.cgroup_memory_bytes(own, tmp_path / "fs")


def test_the_tightest_control_group_limit_counts(tmp_path: Path) -> None:
    """An ancestor's limit binds as well (version 2)."""
    limits = {
        "memory.max": "max",
        "a/memory.max": str(100 * MIB),
        "a/b/memory.max": str(200 * MIB),
    }
    assert cgroup(tmp_path, "0::/a/b\n", limits) == 100 * MIB


def test_a_container_sees_its_limit_at_the_root(tmp_path: Path) -> None:
    """The path that the process is told does not exist there."""
    assert cgroup(tmp_path, "0::/../docker/abc\n", {"memory.max": str(64 * MIB)}) == 64 * MIB


def test_control_groups_of_version_1(tmp_path: Path) -> None:
    """The memory controller has its own tree, and says no limit with a huge number."""
    membership = "3:cpu,cpuacct:/x\n5:memory:/job\n"
    assert cgroup(tmp_path, membership, {"memory/job/memory.limit_in_bytes": str(80 * MIB)}) == 80 * MIB
    assert cgroup(tmp_path, membership, {"memory/job/memory.limit_in_bytes": "9223372036854771712"}) is None


def test_no_control_group_no_limit(tmp_path: Path) -> None:
    """And no error either."""
    assert cgroup(tmp_path, "0::/\n", {}) is None
    assert machine.cgroup_memory_bytes(tmp_path / "absent", tmp_path) is None


@pytest.mark.parametrize(
    ("limit", "memory"), [(None, 512 * MIB), (1024 * MIB, 256 * MIB), (64 * MIB, 32 * MIB)]
)
def test_default_memory_is_a_quarter_within_bounds(
    monkeypatch: pytest.MonkeyPatch, limit: int | None, memory: int
) -> None:
    """At most 512 MiB on a large machine, at least 32 MiB in a small container."""
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1 << 22, "SC_PAGE_SIZE": 4096}.__getitem__)
    monkeypatch.setattr(machine, "cgroup_memory_bytes", lambda: limit)
    assert machine.default_memory_bytes() == memory


def test_the_cache_directory_holds_the_spool() -> None:
    """--cache-dir moves the spool below it, and --spool-dir has the last word."""
    moved = make_config("bucket", "/mnt", {"cache_dir": "/fast"})
    assert moved.spool_dir.startswith("/fast/spool/bucket-")
    named = make_config("bucket", "/mnt", {"cache_dir": "/fast", "spool_dir": "/big"})
    assert named.spool_dir.startswith("/big/bucket-")
