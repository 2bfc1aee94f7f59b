#!/usr/bin/env python3
"""Compare s3mount with a plain boto3 loop, and with s3fs and rclone where they are installed.

``bench/run.py`` starts a server of its own (MinIO, or ``--server seaweedfs``), mounts a bucket with each
tool and does the same work in each mount, in turns, several rounds. It prints the yardstick's seconds and
the tools' medians as multiples of them: the machine cancels out, as far as its noise allows. A write ends
when the bucket has everything, whenever close(2) returned. Requests are counted in a further pass, through
a proxy, which is too slow for timing. ``--far`` lets the same proxy hold each request back for 20 ms, as a
distant server would, and leaves the large file out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.counting_proxy import CountingProxy, Delay  # noqa: E402
from tests.support.mounting import Mount, Watchdog  # noqa: E402
from tests.support.servers import STARTERS, Server  # noqa: E402

MIB = 1024 * 1024
SMALL = 4096
SMALL_FILES = 300
LISTED_FILES = 5000
THREADS = 8
RANGE = 8 * MIB
FAR_S = 0.02
MOUNT_S = 600.0
READY_S = 20.0


@dataclass(frozen=True)
class Place:
    """A bucket, and where it is mounted (None for the yardstick, which uses boto3)."""

    client: Any
    bucket: str
    path: Path | None


Work = Callable[[Place], None]


# The works. Each has a way through a mount and, for the yardstick, one with boto3.


def read_large(place: Place) -> None:
    """Read one large object from its beginning to its end."""
    if place.path is not None:
        _run("dd", f"if={place.path}/large", "of=/dev/null", "bs=1M")
        return
    size = place.client.head_object(Bucket=place.bucket, Key="large")["ContentLength"]
    _parallel(lambda start: _get(place, "large", start, min(start + RANGE, size)), range(0, size, RANGE))


def write_large(place: Place, source: Path) -> None:
    """Write one large object."""
    if place.path is not None:
        _run("dd", f"if={source}", f"of={place.path}/written", "bs=1M", "conv=fsync")
        _wait_for(place, "written", source.stat().st_size)
        return
    place.client.upload_file(str(source), place.bucket, "written")


def create_small(place: Place) -> None:
    """Make small files one after the other; the yardstick makes several at once."""
    names = [f"new/{number:03}" for number in range(SMALL_FILES)]
    body = b"x" * SMALL
    if place.path is None:
        _parallel(lambda key: place.client.put_object(Bucket=place.bucket, Key=key, Body=body), names)
        return
    (place.path / "new").mkdir(exist_ok=True)  # SeaweedFS keeps it over the deletion of its keys
    for name in names:
        (place.path / name).write_bytes(body)
    _wait_for(place, names[-1], SMALL, under="new/", count=SMALL_FILES)


def read_small(place: Place) -> None:
    """Read small files one after the other; the yardstick reads several at once."""
    names = [f"small/{number:03}" for number in range(SMALL_FILES)]
    if place.path is None:
        _parallel(lambda key: _get(place, key, 0, SMALL), names)
        return
    for name in names:
        assert len((place.path / name).read_bytes()) == SMALL


def list_many(place: Place) -> None:
    """`ls -l` of a directory; the yardstick lists its pages."""
    if place.path is not None:
        out = _run("ls", "-l", f"{place.path}/many")
        assert len(out.splitlines()) == LISTED_FILES + 1
        return
    pages = place.client.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix="many/")
    assert sum(len(page.get("Contents", ())) for page in pages) == LISTED_FILES


# The tools.


@contextmanager
def mounted(tool: str, server: Server, endpoint_url: str, bucket: str, base: Path) -> Iterator[Path]:
    """Mount *bucket* with *tool*, with cold caches, below *base*."""
    if tool == "s3mount":
        with Mount(server, bucket, base, endpoint_url=endpoint_url, watchdog_s=MOUNT_S) as mount:
            yield mount.path
        return
    path = base / "mnt"
    path.mkdir()
    process = subprocess.Popen(
        _command(tool, server, endpoint_url, bucket, path, base),
        env=_environment(server),
        stdout=subprocess.DEVNULL,
        stderr=(base / "log").open("wb"),
    )
    watchdog = None
    try:
        _wait_until_mounted(path, process, base / "log")
        watchdog = Watchdog(path, MOUNT_S)
        yield path
    finally:
        if watchdog is not None:
            watchdog.cancel()
        subprocess.run(["umount", str(path)], check=False, capture_output=True)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True)
        process.kill()
        process.wait()


def _environment(server: Server) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **others,
        **server.environment(),
        "AWSACCESSKEYID": server.access_key,
        "AWSSECRETACCESSKEY": server.secret_key,
        "RCLONE_CONFIG": "",
    }


def _command(tool: str, server: Server, endpoint_url: str, bucket: str, path: Path, base: Path) -> list[str]:
    if tool == "s3fs":
        return ["s3fs", bucket, str(path), "-f", "-o", f"url={endpoint_url},use_path_request_style"]
    remote = f":s3,env_auth,provider=Minio,endpoint='{endpoint_url}':{bucket}"
    cache = ["--cache-dir", str(base / "cache"), "--vfs-cache-mode", "full", "--vfs-write-back", "0s"]
    return ["rclone", "mount", remote, str(path), *cache]


def _wait_until_mounted(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while f" {path} " not in Path("/proc/self/mountinfo").read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{' '.join(map(str, process.args))}: {log.read_text(errors='replace')}")
        time.sleep(0.02)


# Measuring.


def prepare(client: Any, bucket: str, large: Path) -> None:
    """Put what the works read into *bucket*."""
    client.upload_file(str(large), bucket, "large")
    bodies = {f"small/{number:03}": b"s" * SMALL for number in range(SMALL_FILES)}
    bodies |= {f"many/{number:05}": b"" for number in range(LISTED_FILES)}
    _parallel(lambda item: client.put_object(Bucket=bucket, Key=item[0], Body=item[1]), bodies.items())


def works(large: Path, *, far: bool) -> dict[str, list[Work]]:
    """Return what is done, by name; each list is done in one mount, its last is what is timed."""
    size = f"{large.stat().st_size // MIB} MiB"
    bulk: dict[str, list[Work]] = {
        f"read {size}": [read_large],
        f"write {size}, until the bucket has it": [lambda place: write_large(place, large)],
    }
    return ({} if far else bulk) | {
        f"create {SMALL_FILES} files of 4 KiB, until the bucket has them": [create_small],
        f"cat {SMALL_FILES} files of 4 KiB": [read_small],
        "... again": [read_small, read_small],
        f"ls -l of {LISTED_FILES}": [list_many],
    }


def forget_written(client: Any, bucket: str) -> None:
    """Delete what the works have made."""
    for prefix in ("written", "new/"):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", ()):
                client.delete_object(Bucket=bucket, Key=item["Key"])


def once(tool: str, server: Server, bucket: str, steps: list[Work], proxy: CountingProxy | None) -> float:
    """Do *steps* with *tool*; return the seconds of the last. With *proxy* its counts are of the last."""
    through = proxy.endpoint_url if proxy and tool == "boto3" else None
    client = server.client(through, max_pool_connections=THREADS)
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="s3mount-bench-")))
        path = None
        if tool != "boto3":
            endpoint_url = proxy.endpoint_url if proxy else server.endpoint_url
            path = stack.enter_context(mounted(tool, server, endpoint_url, bucket, base))
        place = Place(client, bucket, path)
        for step in steps[:-1]:
            step(place)
        if proxy:
            proxy.clear()
        began = time.perf_counter()
        steps[-1](place)
        elapsed = time.perf_counter() - began
    forget_written(client, bucket)
    client.close()
    return elapsed


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    tools = [tool for tool in ("s3mount", *arguments.others) if tool == "s3mount" or shutil.which(tool)]
    with ExitStack() as stack:
        server = stack.enter_context(STARTERS[arguments.server]())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="s3mount-bench-")))
        large = folder / "large"
        large.write_bytes(os.urandom(arguments.size * MIB))
        bucket = server.fresh_bucket()
        prepare(server.client(max_pool_connections=THREADS), bucket, large)
        far = None
        if arguments.far:
            far = stack.enter_context(CountingProxy(server.endpoint_url))
            stack.enter_context(far.rule(Delay(FAR_S)))
        where = f"{server.name}, {FAR_S * 1000:g} ms away" if far else server.name
        print(f"{where}; medians of {arguments.rounds} rounds; multiples of boto3 ({THREADS} at once)")
        print("| work | boto3 | " + " | ".join(tools) + " |\n|---" + "|---" * (len(tools) + 1) + "|")
        todo = works(large, far=far is not None)
        for name, steps in todo.items():
            times = {tool: [] for tool in ("boto3", *tools)}
            for _ in range(arguments.rounds):
                for tool, seconds in times.items():
                    seconds.append(once(tool, server, bucket, steps, far))
            yardstick = statistics.median(times["boto3"])
            ratios = (f"{statistics.median(times[tool]) / yardstick:.2f}" for tool in tools)
            print(f"| {name} | {yardstick:.2f} s | " + " | ".join(ratios) + " |", flush=True)
        if arguments.requests:
            print("\nrequests\n| work | " + " | ".join(tools) + " |\n|---" + "|---" * len(tools) + "|")
            for name, steps in todo.items():
                print(f"| {name} | " + " | ".join(_count(t, server, bucket, steps) for t in tools) + " |")


def _count(tool: str, server: Server, bucket: str, steps: list[Work]) -> str:
    with CountingProxy(server.endpoint_url) as proxy:
        once(tool, server, bucket, steps, proxy)
        counts: Counter[str] = proxy.counts()
    return ", ".join(f"{count} {operation}" for operation, count in sorted(counts.items())) or "none"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--server", choices=("minio", "seaweedfs"), default="minio")
    parser.add_argument("--size", type=int, default=256, metavar="MIB", help="of the large file [256]")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="[3]")
    parser.add_argument("--others", nargs="*", default=["s3fs", "rclone"], help="[s3fs rclone]")
    parser.add_argument("--far", action="store_true", help=f"a server {FAR_S * 1000:g} ms away")
    parser.add_argument("--requests", action="store_true", help="count requests as well")
    return parser.parse_args()


def _run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=MOUNT_S)
    return done.stdout


def _get(place: Place, key: str, start: int, stop: int) -> None:
    answer = place.client.get_object(Bucket=place.bucket, Key=key, Range=f"bytes={start}-{stop - 1}")
    assert len(answer["Body"].read()) == stop - start


def _parallel(function: Callable[[Any], object], items: Any) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(function, items))


def _wait_for(place: Place, key: str, size: int, under: str | None = None, count: int = 1) -> None:
    """Wait until the bucket has *key* with *size* bytes, and *count* files under *under*."""
    deadline = time.monotonic() + MOUNT_S
    while time.monotonic() < deadline:
        answer = place.client.list_objects_v2(Bucket=place.bucket, Prefix=under or key)
        sizes = {item["Key"]: item["Size"] for item in answer.get("Contents", ())}
        sizes.pop(under, None)
        if sizes.get(key) == size and len(sizes) >= count:
            return
        time.sleep(0.02)
    raise SystemExit(f"{key} did not reach the bucket")


if __name__ == "__main__":
    main()
