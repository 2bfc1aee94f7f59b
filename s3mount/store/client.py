"""Build the botocore client: credentials, endpoint, addressing, timeouts."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import CredentialResolver, SharedCredentialProvider
from botocore.exceptions import BotoCoreError
from botocore.loaders import create_loader

from s3mount.core.exits import Exit
from s3mount.errors import StartupError
from s3mount.store.credentials import RenewableCredentials
from s3mount.store.exchange import use_our_connections
from s3mount.store.hooks import install_hooks

AddressingStyle = Literal["auto", "path", "virtual"]
Checksums = Literal["auto", "crc32", "when-required"]

DEFAULT_REGION = "us-east-1"
AWS_DOMAINS = ("amazonaws.com", "amazonaws.com.cn", "amazonaws.eu", "api.aws")


@dataclass(frozen=True, slots=True)
class Connections:
    """How many requests of each kind may run at once; together they are the size of the pool.

    Reads that someone waits for have connections of their own, so that neither read-ahead nor uploads
    can delay them.
    """

    get: int = 16
    background_get: int = 16
    upload: int = 8
    meta: int = 16

    @property
    def each(self) -> tuple[int, int, int, int]:
        """The numbers in the order of the fields."""
        return self.get, self.background_get, self.upload, self.meta

    @property
    def total(self) -> int:
        """Size of the connection pool."""
        return sum(self.each)


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Where the bucket is and how to talk to it.

    Args:
        endpoint_url: None for AWS, or for what botocore finds in AWS_ENDPOINT_URL and the profile.
        region: None for what botocore finds, else us-east-1.
        credentials_file: used instead of every other source of credentials.
        refresh_files: brings files with keys up to date before they are read; may raise StartupError.
        addressing_style: auto is path style for every endpoint that is not AWS.
        checksums: auto sends CRC32 and stops when the server refuses it.
        read_timeout_s: longest silence within an answer.
        deadline_s: longest time for a whole call, retries included, and a second more for each 512 KiB that
            it moves; the one guard against a server that takes or sends a byte now and then.
        attempts: tries of a request that fails on the way, the first included.
        upload_limit: bytes a second, and so *download_limit*; *requests_limit* calls; None: no limit.
    """

    bucket: str
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    sign_requests: bool = True
    verify_tls: bool = True
    ca_bundle: str | None = None
    addressing_style: AddressingStyle = "auto"
    credentials_file: str | None = None
    refresh_files: Callable[[], None] | None = None
    checksums: Checksums = "auto"
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    deadline_s: float = 120.0
    attempts: int = 4
    connections: Connections = field(default_factory=Connections)
    upload_limit: int | None = None
    download_limit: int | None = None
    requests_limit: int | None = None


def build_client(options: ClientOptions) -> Any:
    """Return a botocore S3 client; no request is sent, but credentials may be looked for.

    Raises: StartupError (a profile, file or URL that cannot be used).
    """
    try:
        session = _session(options)
        client = _create(session, options, path_style=options.addressing_style == "path")
        if options.addressing_style == "auto" and not is_aws(client.meta.endpoint_url):
            client.close()
            client = _create(session, options, path_style=True)
    except (BotoCoreError, ValueError) as exc:
        advice = "correct the option, the environment variable or ~/.aws/config"
        raise StartupError("S3 configuration", _one_line(exc), advice, Exit.CONFIG) from exc
    use_our_connections(client._endpoint.http_session)
    install_hooks(client)
    return client


def is_aws(endpoint_url: str) -> bool:
    """Return whether the URL is one of Amazon's own."""
    host = (urlsplit(endpoint_url).hostname or "").rstrip(".")
    return any(host == domain or host.endswith("." + domain) for domain in AWS_DOMAINS)


def credentials_of(client: Any) -> RenewableCredentials | None:
    """Return what the client signs with; None where it does not sign."""
    found = client._request_signer._credentials
    return found if isinstance(found, RenewableCredentials) else None


def sends_checksums(client: Any) -> bool:
    """Return whether uploads carry a CRC32 that the protocol does not demand."""
    return bool(client.meta.config.request_checksum_calculation == "when_supported")


def set_checksums(client: Any, wanted: bool) -> None:
    """Switch the checksums of later requests on or off, for the whole client.

    botocore reads this setting anew for every request; tests/store/test_client.py holds it to that.
    """
    client.meta.config.request_checksum_calculation = "when_supported" if wanted else "when_required"


@functools.cache
def _model_loader() -> Any:
    return create_loader()


class _Finder:
    """botocore's component that finds credentials, with a way back to it."""

    def __init__(self, options: ClientOptions, inner: Any) -> None:
        self._options = options
        self._inner = inner

    def load_credentials(self) -> Any:
        """Return what was found, None for nothing."""
        found = self._inner.load_credentials()
        # A session of its own: this one remembers the files that it has read.
        return found and RenewableCredentials(found, lambda: _plain_session(self._options).get_credentials())


def _session(options: ClientOptions) -> Any:
    session = _plain_session(options)
    finder = _Finder(options, session.get_component("credential_provider"))
    session.register_component("credential_provider", finder)
    return session


def _plain_session(options: ClientOptions) -> Any:
    profile = options.profile
    if options.refresh_files is not None:
        options.refresh_files()
    if options.credentials_file is not None:
        _refuse_open_credentials(options.credentials_file)
        # With a profile named, botocore leaves the environment's keys out: the file was asked for.
        profile = profile or "default"
    session = botocore.session.Session(profile=profile)
    # One loader for all sessions reads botocore's models once: the mount builds a second client.
    session.register_component("data_loader", _model_loader())
    if options.credentials_file is not None:
        session.set_config_variable("credentials_file", options.credentials_file)
        # Else a role or a program in ~/.aws/config would come first, and the instance's service last.
        only = SharedCredentialProvider(options.credentials_file, profile_name=profile)
        session.register_component("credential_provider", CredentialResolver([only]))
    return session


def _create(session: Any, options: ClientOptions, *, path_style: bool) -> Any:
    verify: bool | str | None = None if options.verify_tls else False
    if options.verify_tls and options.ca_bundle is not None:
        verify = options.ca_bundle
    config = Config(
        signature_version=None if options.sign_requests else UNSIGNED,
        connect_timeout=options.connect_timeout_s,
        read_timeout=options.read_timeout_s,
        max_pool_connections=options.connections.total,
        # One: store/retry.py repeats, which knows of deadlines, turns and lost answers.
        retries={"mode": "standard", "total_max_attempts": 1},
        tcp_keepalive=True,
        s3={"addressing_style": "path" if path_style else options.addressing_style},
        request_checksum_calculation="when_required"
        if options.checksums == "when-required"
        else "when_supported",
        # A range carries no checksum to check; asking for one would only cost a pass over the bytes.
        response_checksum_validation="when_required",
    )
    return session.create_client(
        "s3",
        region_name=options.region or session.get_config_variable("region") or DEFAULT_REGION,
        endpoint_url=options.endpoint_url,
        verify=verify,
        config=config,
    )


def _refuse_open_credentials(path: str) -> None:
    """Refuse a credentials file that others may read or that another user could have planted."""
    thing = f"credentials file {path}"
    # A copy in memory that root has handed over has this name alone; any other link may lead elsewhere.
    look = os.stat if path.startswith("/proc/self/fd/") else os.lstat
    try:
        found = look(path)
    except OSError as exc:
        raise StartupError(thing, exc.strerror or str(exc), "give a file that exists", Exit.CONFIG) from exc
    if not stat.S_ISREG(found.st_mode):
        raise StartupError(thing, "is not a regular file", "give the file itself, not a link", Exit.CONFIG)
    if found.st_uid not in (0, os.geteuid()):
        raise StartupError(thing, "belongs to another user", "give a file of your own", Exit.CONFIG)
    if found.st_mode & 0o077:
        raise StartupError(thing, "can be read by other users", f"run: chmod 600 {path}", Exit.CONFIG)


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split())
