"""A server whose listings are behind, as those of gateways and of replicated metadata can be."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from tests.faults.conftest import MakeFaulty
from tests.support.fault_actions import Replay

KEYS = [f"k{number:04}" for number in range(1100)]


def test_a_listing_that_is_behind_hides_nothing_and_brings_nothing_back(make_faulty: MakeFaulty) -> None:
    """`ls` after cp, rm, mv and an overwrite shows what they did, though the server lists what was before."""
    faulty = make_faulty("--ttl=60s", "--negative-ttl=60s")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: faulty.bucket.put(key, b"old"), KEYS))
    with faulty.proxy.rule(Replay(), operation="ListObjectsV2", first=3) as rule:
        assert sorted(os.listdir(faulty.path)) == KEYS
        faulty.mount.remount()
        (faulty.path / "added").write_bytes(b"new")
        (faulty.path / "k0003").unlink()
        (faulty.path / "k1003").unlink()
        (faulty.path / "k0005").rename(faulty.path / "moved")
        (faulty.path / "k0007").write_bytes(b"longer now")
        (faulty.path / "directory").mkdir()
        shown = sorted(os.listdir(faulty.path))
        assert rule.injected >= 2
        gone = {"k0003", "k1003", "k0005"}
        assert shown == sorted([*(key for key in KEYS if key not in gone), "added", "moved", "directory"])
        assert (faulty.path / "k0007").stat().st_size == len(b"longer now")
        assert (faulty.path / "k0007").read_bytes() == b"longer now"
        assert (faulty.path / "added").read_bytes() == b"new"
        assert not any((faulty.path / name).exists() for name in gone)
    assert faulty.bucket.files().keys() == {*shown} - {"directory"}
