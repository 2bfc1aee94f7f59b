"""``MountConfig``: everything that one mount was told, checked and complete."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from s3mount.config import machine, units
from s3mount.config.options import GIB, KIB, MIB, OPTIONS
from s3mount.core.addresses import MetricsAddress
from s3mount.core.exits import Exit
from s3mount.errors import StartupError

DEFAULT_READ_AHEAD = 32 * MIB
# AWS allows 3 to 63 of [a-z0-9.-]; its oldest buckets and other servers also have these.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}")
_MAX_KEY_BYTES = 1024


class ImpossibleConfig(StartupError):
    """What cannot be, told as the first of its *faults*."""

    def __init__(self, faults: Sequence[StartupError]) -> None:
        first = faults[0]
        super().__init__(first.thing, first.cause, first.advice, first.exit_code)
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountConfig:
    """One mount. Sizes in bytes, times in seconds; defaults are in ``options.OPTIONS`` alone.

    Attributes:
        prefix: empty, or ending in ``/``.
        mountpoint: absolute, symbolic links resolved.
        umask: already taken out of *file_mode* and *dir_mode*.
        spool_dir: this mount's own folder.
        mount_options: to hand on to the kernel: nosuid, nodev, noexec, noatime, nodiratime.

    Raises: ImpossibleConfig when a value cannot be, or two exclude each other.
    """

    bucket: str
    prefix: str
    mountpoint: str
    endpoint_url: str | None
    region: str | None
    profile: str | None
    credentials_file: str | None
    sign_requests: bool
    verify_ssl: bool
    ca_bundle: str | None
    addressing_style: Literal["auto", "path", "virtual"]
    checksums: Literal["auto", "crc32", "when-required"]
    probe: bool
    fsname: str | None
    read_only: bool
    allow_other: bool
    allow_root: bool
    uid: int
    gid: int
    owners: Literal["mount", "bucket"]
    links: Literal["inside", "all", "none"]
    run_as: str | None
    file_mode: int
    dir_mode: int
    umask: int | None
    nonempty: bool
    ttl_s: float
    negative_ttl_s: float
    attributes: Literal["list", "auto", "exact"]
    xattrs: bool
    on_conflict: Literal["fail", "overwrite", "keep-both"]
    write_back_s: float | None
    memory_bytes: int
    block_size: int
    read_ahead_bytes: int
    cache_dir: str | None
    spool_dir: str
    spool_cap_bytes: int | None
    spool_free_bytes: int
    part_size: int
    max_cached_names: int
    download_concurrency: int
    upload_concurrency: int
    metadata_concurrency: int
    connect_timeout_s: float
    read_timeout_s: float
    upload_limit: int | None
    download_limit: int | None
    requests_limit: int | None
    attempts: int
    operation_timeout_s: float
    drain_timeout_s: float
    foreground: bool
    access_log: str | None
    metrics: MetricsAddress | None
    log_level: Literal["debug", "info", "warning", "error"]
    log_format: Literal["text", "json"]
    log_file: str | None
    mount_options: tuple[str, ...]

    def __post_init__(self) -> None:
        checks = (self._check_names, self._check_choices, self._check_sizes, self._check_counts)
        faults = [fault for check in checks for fault in check()]
        if faults:
            raise ImpossibleConfig(faults)

    @property
    def source(self) -> str:
        """The bucket and prefix as people write them: ``s3://bucket/prefix/``."""
        return f"s3://{self.bucket}/{self.prefix}"

    def _check_names(self) -> Iterator[StartupError]:
        if not _BUCKET.fullmatch(self.bucket):
            yield _refuse(
                f'bucket "{self.bucket}"',
                "this is no bucket's name",
                "names have 3 or more letters, digits, dots and dashes",
            )
        if len(self.prefix.encode()) > _MAX_KEY_BYTES or "\0" in self.prefix:
            yield _refuse(f'prefix "{self.prefix[:60]}"', "no key can begin with this", "use a shorter one")
        if self.endpoint_url is not None:
            yield from _check_endpoint(self.endpoint_url)

    def _check_choices(self) -> Iterator[StartupError]:
        if self.allow_other and self.allow_root:
            yield _refuse("--allow-root", "--allow-other lets everybody in already", "leave one out")
        if self.ca_bundle and not self.verify_ssl:
            yield _refuse("--ca-bundle", "--no-verify-ssl means that nothing is verified", "leave one out")
        if not self.sign_requests and (self.credentials_file or self.profile):
            yield _refuse("--no-sign-request", "keys were given as well", "leave one out")

    def _check_sizes(self) -> Iterator[StartupError]:
        yield from _within("--block-size", self.block_size, 64 * KIB, 64 * MIB)
        if self.block_size & (self.block_size - 1):
            yield _refuse("--block-size", f"{self.block_size} is no power of two", "use for example 1M")
        yield from _within("--part-size", self.part_size, 5 * MIB, 5 * GIB)
        yield from _within("--memory", self.memory_bytes, max(16 * MIB, 8 * self.block_size), 1 << 50)
        yield from _within("--read-ahead", self.read_ahead_bytes, 0, self.memory_bytes)
        for name, limit in (("upload", self.upload_limit), ("download", self.download_limit)):
            if limit is not None:
                # Deadlines allow for 512 KiB a second: whoever waits at the limit is to meet them.
                yield from _within(f"--{name}-limit", limit, 1 * MIB, 1 << 50)
        if self.spool_cap_bytes is not None:
            yield from _within("--spool-cap", self.spool_cap_bytes, 1 * MIB, 1 << 62)

    def _check_counts(self) -> Iterator[StartupError]:
        for name in ("download-concurrency", "upload-concurrency", "metadata-concurrency"):
            yield from _between(f"--{name}", getattr(self, name.replace("-", "_")), 1, 256)
        if self.requests_limit is not None:
            yield from _between("--requests-limit", self.requests_limit, 10, 1_000_000)
        yield from _between("--attempts", self.attempts, 1, 100)
        yield from _between("--max-cached-names", self.max_cached_names, 1000, 100_000_000)
        for name in ("connect-timeout", "read-timeout", "operation-timeout"):
            yield from _time_between(f"--{name}", getattr(self, f"{name.replace('-', '_')}_s"), 0.1, 3600)
        if self.write_back_s is not None:
            yield from _time_between("--write-back", self.write_back_s, 0, 3600)
        yield from _time_between("--drain-timeout", self.drain_timeout_s, 0, 86400)
        yield from _time_between("--ttl", self.ttl_s, 0, 86400)
        yield from _time_between("--negative-ttl", self.negative_ttl_s, 0, 86400)


def make_config(
    source: str,
    mountpoint: str,
    values: Mapping[str, Any],
    mount_options: tuple[str, ...] = ("nosuid", "nodev"),
) -> MountConfig:
    """Complete *values*, by field, with defaults.

    Args:
        source: ``bucket``, ``bucket/prefix`` or ``s3://bucket/prefix``.
        mountpoint: absolute.

    Raises: StartupError.
    """
    bucket, prefix = parse_source(source)
    full = complete(values)
    worker = machine.worker_for(full["run_as"])
    if worker is not None and not worker.is_system_user:
        full |= {"uid": values.get("uid", worker.uid), "gid": values.get("gid", worker.gid)}
    local = full["cache_dir"] or str(machine.state_dir(worker=worker))
    spool_root = full["spool_dir"] or f"{local}/spool"
    name = mount_name(full["endpoint_url"], bucket, prefix, mountpoint)
    full["spool_dir"] = f"{spool_root}/{name}"
    return MountConfig(
        bucket=bucket, prefix=prefix, mountpoint=mountpoint, mount_options=mount_options, **full
    )


def complete(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return *values*, by field, with the defaults of the others."""
    full: dict[str, Any] = {option.field: option.default_value() for option in OPTIONS} | dict(values)
    if full["endpoint_url"] is not None:
        full["endpoint_url"] = full["endpoint_url"].rstrip("/")
    if full["read_ahead_bytes"] is None:
        full["read_ahead_bytes"] = min(DEFAULT_READ_AHEAD, full["memory_bytes"] // 4)
    if full["umask"] is not None:
        full["file_mode"] &= ~full["umask"]
        full["dir_mode"] &= ~full["umask"]
    return full


def parse_source(source: str) -> tuple[str, str]:
    """Return bucket and prefix of ``bucket[/prefix]`` or ``s3://bucket[/prefix]``.

    Everything after the first slash is the prefix, literally: ``bucket//a`` has the prefix ``/a/``.

    Raises: StartupError.
    """
    scheme, separator, rest = source.partition("://")
    if separator and scheme.lower() != "s3":
        raise _refuse(
            f'"{source}"',
            "this is no bucket",
            "write BUCKET or s3://BUCKET/PREFIX, and the server with --endpoint-url",
        )
    bucket, _, prefix = (rest if separator else source).partition("/")
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    return bucket, prefix


def mount_name(endpoint_url: str | None, bucket: str, prefix: str, mountpoint: str) -> str:
    """Return the same file name for the same mount each time, so that its left-over spool is found."""
    identity = "\0".join((endpoint_url or "", bucket, prefix, mountpoint))
    return f"{bucket}-{hashlib.sha256(identity.encode(errors='surrogateescape')).hexdigest()[:12]}"


def _check_endpoint(url: str) -> Iterator[StartupError]:
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_ok = urlsplit(""), False
    if "@" in url:
        yield _refuse(
            "--endpoint-url",
            "it has a user name or keys in it",
            "give keys by the environment, an AWS profile or --credentials-file",
        )
    elif parts.scheme not in ("http", "https") or not parts.hostname or not port_ok:
        yield _refuse(
            f"--endpoint-url {url}",
            "this is no http:// or https:// address",
            "write for example http://127.0.0.1:9000",
        )
    elif parts.query or parts.fragment:
        yield _refuse("--endpoint-url", "it has a query in it", "end it after the host and port")


def _within(name: str, size: int, least: int, most: int) -> Iterator[StartupError]:
    if not least <= size <= most:
        yield _refuse(
            name,
            f"{units.format_size(size)} is out of range",
            f"it goes from {units.format_size(least)} to {units.format_size(most)}",
        )


def _between(name: str, number: int, least: int, most: int) -> Iterator[StartupError]:
    if not least <= number <= most:
        yield _refuse(name, f"{number} is out of range", f"it goes from {least} to {most}")


def _time_between(name: str, seconds: float, least: float, most: float) -> Iterator[StartupError]:
    if not least <= seconds <= most:
        yield _refuse(
            name,
            f"{units.format_seconds(seconds)} is out of range",
            f"it goes from {units.format_seconds(least)} to {units.format_seconds(most)}",
        )


def _refuse(thing: str, cause: str, advice: str) -> StartupError:
    return StartupError(thing, cause, advice, Exit.CONFIG)
