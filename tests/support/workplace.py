"""A directory to work in on a mount that several tests share, one test after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.bucket import Bucket
from tests.support.mounting import Mount, Tools
from tests.support.servers import Server

MOST_PLACES = 60
"""More tests than this in one module should be two modules."""


@dataclass
class Workplace:
    """One test's directory: ``path`` in the mount, ``prefix`` in the bucket (with its slash)."""

    mount: Mount
    path: Path
    prefix: str
    bucket: Bucket
    local: Path
    tools: Tools = field(init=False)

    @property
    def keeps_directory_attributes(self) -> bool:
        """Whether a directory's mode and time outlive the mount.

        SeaweedFS drops the metadata of every object whose key ends in a slash and that has up to 1,024
        bytes: it makes a directory of its own of it, which has none.
        """
        return self.mount.server.name != "seaweedfs"

    def __post_init__(self) -> None:
        self.tools = Tools(self.mount)

    def run(self, *command: str, cwd: Path | None = None, timeout_s: float = 120.0) -> str:
        """Run *command* in ``path``; return what it printed. Raises: AssertionError if it fails."""
        return self.tools.run(*command, cwd=cwd or self.path, timeout_s=timeout_s)

    def shell(self, script: str, timeout_s: float = 120.0) -> str:
        """Run *script* with bash in ``path``; return what it printed."""
        return self.tools.shell(script, cwd=self.path, timeout_s=timeout_s)

    def key(self, name: str) -> str:
        """Return the key of *name*, relative to ``path``."""
        return self.prefix + name

    def below(self) -> list[str]:
        """Return all keys of this workplace, without its prefix and without its own marker."""
        return [key.removeprefix(self.prefix) for key in self.bucket.keys(self.prefix) if key != self.prefix]


class SharedMount:
    """A mount of a fresh bucket that is started when first needed, and again after it was cut off."""

    def __init__(self, server: Server, base: Path, options: Sequence[str] = ()) -> None:
        self._server = server
        self._base = base
        self._options = options
        self._mount: Mount | None = None
        self._started = 0
        self._bucket: Bucket
        self._places: Iterator[str] = iter(())

    def place(self, local: Path, watchdog_s: float) -> Workplace:
        """Return a new directory; the mount is cut off after *watchdog_s*, unless :meth:`leave` comes."""
        if self._mount is None:
            base = self._base / f"shared{self._started}"
            base.mkdir()
            self._started += 1
            name = self._server.fresh_bucket()
            self._bucket = Bucket(self._server, name)
            # Made before the mount knows of them: what a test puts there itself is found at once.
            self._places = iter([f"p{number:02}" for number in range(MOST_PLACES)])
            self._bucket.put_many({f"p{number:02}/": b"" for number in range(MOST_PLACES)})
            self._mount = Mount(self._server, name, base, self._options)
            self._mount.__enter__()
        self._mount.watch(watchdog_s)
        directory = next(self._places)
        return Workplace(self._mount, self._mount.path / directory, f"{directory}/", self._bucket, local)

    def leave(self, place: Workplace) -> None:
        """End one test's stay: nothing that it did may have made the mount complain or leave an upload."""
        mount = place.mount
        try:
            mount.watch(300.0)
            mount.check_log()
        except AssertionError:
            self._mount = None
            mount.__exit__(AssertionError, None, None)
            raise
        uploads = place.bucket.client.list_multipart_uploads(Bucket=mount.bucket).get("Uploads", [])
        assert uploads == []

    def close(self) -> None:
        """Unmount."""
        if self._mount is not None:
            self._mount.__exit__(None, None, None)
