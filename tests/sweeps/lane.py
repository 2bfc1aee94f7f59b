"""One mount behind a proxy that serves cell after cell, and what is left of it at the end."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from pathlib import Path

from s3mount.data.job_journal import JobSummary, list_jobs
from tests.support.bucket import Bucket
from tests.support.counting_proxy import CountingProxy
from tests.support.mounting import Mount
from tests.support.servers import Server

OPERATION_S = 4.0
"""``--operation-timeout``: after this a call has its answer, and a second more for each 512 KiB."""

SLACK_S = 12.0
"""A request that runs when the deadline comes is finished first if it writes, and the machine is busy."""

MEMORY_MIB = 16
OPTIONS = (
    f"--operation-timeout={OPERATION_S}s",
    "--connect-timeout=1s",
    "--read-timeout=1s",
    "--attempts=2",
    # Nothing is asked again by mere lapse of time: what the daemon believes after a fault stays visible.
    "--ttl=1h",
    "--negative-ttl=1h",
    "--part-size=5MiB",
    f"--memory={MEMORY_MIB}MiB",
    "--drain-timeout=20s",
)
CELLS = 300
WATCH_S = 240.0
SETTLE_S = 100.0
#: What the allocator and the interpreter may have kept beside the cache.
RSS_SLACK_BYTES = 64 << 20


class Lane:
    """Cells are run here one after the other, each in a directory of its own.

    ``broken``: a call hung, or the daemon is gone: the next cell gets a new mount.
    """

    def __init__(self, server: Server, base: Path) -> None:
        base.mkdir(parents=True)
        self._server = server
        self._base = base
        self._mounts = 0
        self._is_up = False
        self.broken = False
        self.proxy: CountingProxy
        self.mount: Mount
        self.bucket: Bucket
        self._names: list[str] = []
        self._baseline: Counter[str] = Counter()

    def next_cell(self) -> tuple[str, list[str]]:
        """Return a directory for a cell, and what was wrong with the mount that it is not on any more."""
        complaints = self.close() if self._is_up and (self.broken or not self._names) else []
        if not self._is_up:
            self._open()
        self.mount.watch(WATCH_S)
        return self._names.pop(), complaints

    def note_baseline(self) -> None:
        """Take what the daemon uses now as what it may use at the end."""
        if not self._baseline:
            self._baseline = usage(self.mount.pid)

    def close(self) -> list[str]:
        """Unmount; return what the daemon has left or lost."""
        if not self._is_up:
            return []
        self._is_up = False
        complaints = []
        try:
            if self._baseline and not self.broken:
                complaints += self._settled()
            code = self.mount.stop(check=False)
            if code and not self.broken:
                complaints.append(f"the daemon ended with {code}")
            text = self.mount.log.read_text(errors="replace")
            complaints += [line for line in text.splitlines() if "a bug in s3mount" in line]
            complaints += self._orphans()
        finally:
            self.mount.__exit__(AssertionError, None, None)
            self.proxy.__exit__(None, None, None)
            self.broken = False
        return complaints

    def wait_for_the_server(self) -> None:
        """Wait until the mount has noticed that the server answers again, and ended the renames that waited
        for it: it asks and goes on by itself, now and then."""
        until = time.monotonic() + SETTLE_S
        while time.monotonic() < until:
            text = self.mount.log.read_text(errors="replace")
            is_there = text.count("does not answer; what needs it") <= text.count(" answers again, after ")
            if is_there and not self._renames():
                return
            time.sleep(0.1)

    def _renames(self) -> list[JobSummary]:
        return [
            job for path in self.mount.spool.rglob("journal.sqlite") for job in list_jobs(str(path.parent))
        ]

    def _open(self) -> None:
        base = self._base / f"mount{self._mounts}"
        base.mkdir()
        self._mounts += 1
        name = self._server.fresh_bucket()
        self.bucket = Bucket(self._server, name)
        self._names = [f"c{number:03}" for number in range(CELLS)]
        # There before the mount looks for the first time, so that each is new to it.
        self.bucket.put_many({f"{cell}/": b"" for cell in self._names})
        self.proxy = CountingProxy(self._server.endpoint_url).__enter__()
        self.mount = Mount(
            self._server, name, base, OPTIONS, endpoint_url=self.proxy.endpoint_url, watchdog_s=WATCH_S
        )
        try:
            self.mount.__enter__()
        except BaseException:
            self.proxy.__exit__(None, None, None)
            raise
        self._is_up = True
        self._baseline = Counter()
        os.listdir(self.mount.path)

    def _settled(self) -> list[str]:
        """Wait until the daemon uses what it did in the beginning; return what it goes on using."""
        until = time.monotonic() + SETTLE_S
        while True:
            over = self._over_baseline()
            if not over or time.monotonic() > until:
                return over
            time.sleep(0.5)  # idle threads end by themselves, after ten seconds

    def _over_baseline(self) -> list[str]:
        now, begun = usage(self.mount.pid), self._baseline
        allowed = {
            "rss": begun["rss"] + (MEMORY_MIB << 20) + RSS_SLACK_BYTES,
            "threads": begun["threads"] + 2,
            "files": begun["files"] + 2,
            "sockets": 48,  # the connection pool
        }
        return [
            f"{name}: {now[name]}, {begun[name]} in the beginning"
            for name in allowed
            if now[name] > allowed[name]
        ]

    def _orphans(self) -> list[str]:
        """Return the uploads that nobody will finish. MinIO lists those of one key only."""
        keys = {one.key for one in self.proxy.requests() if one.operation == "CreateMultipartUpload"}
        found = []
        for key in sorted(keys):
            answer = self.bucket.client.list_multipart_uploads(Bucket=self.bucket.name, Prefix=key)
            found += [f"orphan upload of {one['Key']}" for one in answer.get("Uploads", [])]
        return found


def usage(pid: int) -> Counter[str]:
    """Return what a process uses: bytes of memory, threads, files and sockets."""
    status = Path(f"/proc/{pid}/status").read_text()
    numbers = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+)", status, re.MULTILINE)}
    found = Counter({"rss": numbers["VmRSS"] * 1024, "threads": numbers["Threads"]})
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found["sockets" if os.readlink(link).startswith("socket:") else "files"] += 1
        except FileNotFoundError:
            continue
    return found
