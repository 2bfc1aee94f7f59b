"""The one table of options: the command line, ``-o``, ``--help`` and the documentation come from it."""

from __future__ import annotations

import difflib
import grp
import os
import pwd
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from s3mount.config import units
from s3mount.config.machine import (
    default_credentials_file,
    default_memory_bytes,
    mounting_gid,
    mounting_uid,
)
from s3mount.core.addresses import parse_metrics_address
from s3mount.core.exits import Exit
from s3mount.errors import StartupError

STORE = "The store and who you are to it"
ACCESS = "Who may do what"
FRESHNESS = "How fresh, how exact"
SAFETY = "When the bucket has it, and conflicts"
SPACE = "Memory and disk"
SPEED = "Requests and their limits"
LOGS = "Logs and running"
GROUPS = (STORE, ACCESS, FRESHNESS, SAFETY, SPACE, SPEED, LOGS)

KIB, MIB, GIB = 1024, 1024**2, 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One thing a user can choose.

    Attributes:
        name: on the command line ``--name``, with ``-o`` the same, where ``_`` may stand for ``-``.
        field: the field of ``MountConfig`` that it sets.
        help: what it does and what a change trades.
        default: a value, or a function without arguments that finds it.
        parse: text to value, raises ValueError; None marks a switch, which sets *field* to *switch_to*.
        show: value to text, for the help.
        default_text: instead of the shown default.
        bare: the value where the option is given without one; None: it needs one.
    """

    name: str
    field: str
    group: str
    help: str
    default: Any
    parse: Callable[[str], Any] | None = None
    switch_to: bool = True
    metavar: str = ""
    show: Callable[[Any], str] = str
    default_text: str | None = None
    short: str | None = None
    bare: str | None = None

    @property
    def is_switch(self) -> bool:
        """True when it takes no value."""
        return self.parse is None

    @property
    def is_path(self) -> bool:
        """True when its value is a path of this machine."""
        return self.parse is _path

    @property
    def written(self) -> str:
        """The option as the documentation writes it, with what follows it."""
        if self.is_switch:
            return f"--{self.name}"
        return f"--{self.name}[={self.metavar}]" if self.bare else f"--{self.name} {self.metavar}"

    def default_value(self) -> Any:
        """Return the value where the user said nothing."""
        return self.default() if callable(self.default) else self.default

    def describe_default(self) -> str | None:
        """Return the default as the help shows it; None for switches, which are off."""
        if self.default_text is not None:
            return self.default_text
        if self.is_switch:
            return None
        value = self.default_value()
        return "none" if value is None else self.show(value)


def one_of(*words: str) -> Callable[[str], str]:
    """Return a parser that accepts exactly *words*."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is none of {', '.join(words)}{did_you_mean(text, words)}")
        return text

    return parse


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def _path(text: str) -> str:
    if not text:
        raise ValueError("the path is empty")
    return os.path.abspath(os.path.expanduser(text))


def _text(text: str) -> str:
    if not text:
        raise ValueError("the value is empty")
    return text


def _uid(text: str) -> int:
    try:
        return int(text) if text.isdigit() else pwd.getpwnam(text).pw_uid
    except KeyError:
        raise ValueError(f"there is no user {text!r}") from None


def _gid(text: str) -> int:
    try:
        return int(text) if text.isdigit() else grp.getgrnam(text).gr_gid
    except KeyError:
        raise ValueError(f"there is no group {text!r}") from None


def _size(name: str, field: str, group: str, default: Any, help: str, **more: Any) -> Option:
    return Option(
        name=name,
        field=field,
        group=group,
        default=default,
        help=help,
        parse=units.parse_size,
        show=units.format_size,
        metavar="SIZE",
        **more,
    )


def _time(name: str, field: str, group: str, default: float, help: str) -> Option:
    return Option(
        name=name,
        field=field,
        group=group,
        default=default,
        help=help,
        parse=units.parse_seconds,
        show=units.format_seconds,
        metavar="TIME",
    )


def _number(name: str, group: str, default: int, help: str, field: str | None = None) -> Option:
    return Option(
        name=name,
        field=field or name.replace("-", "_"),
        group=group,
        default=default,
        help=help,
        parse=_count,
        metavar="N",
    )


def _switch(name: str, group: str, help: str, **more: Any) -> Option:
    field = more.pop("field", name.replace("-", "_"))
    to = more.pop("switch_to", True)
    return Option(name=name, field=field, group=group, default=not to, help=help, switch_to=to, **more)


def _mode(name: str, default: int | None, help: str, **more: Any) -> Option:
    return Option(
        name=name,
        field=name.replace("-", "_"),
        group=ACCESS,
        default=default,
        help=help,
        parse=units.parse_mode,
        show=units.format_mode,
        metavar="MODE",
        **more,
    )


def _named(name: str, group: str, help: str, parse: Callable[[str], Any], **more: Any) -> Option:
    field = more.pop("field", name.replace("-", "_"))
    return Option(name=name, field=field, group=group, help=help, parse=parse, **more)


OPTIONS: tuple[Option, ...] = (
    # --- the store
    _named(
        "endpoint-url",
        STORE,
        "The server, for example http://127.0.0.1:9000.",
        _text,
        default=None,
        metavar="URL",
        default_text="AWS, or what the AWS configuration says",
    ),
    _named(
        "region",
        STORE,
        "The bucket's region.",
        _text,
        default=None,
        metavar="NAME",
        default_text="from the AWS configuration",
    ),
    _named(
        "profile",
        STORE,
        "A profile of the AWS configuration.",
        _text,
        default=None,
        metavar="NAME",
        default_text="$AWS_PROFILE, or default",
    ),
    _named(
        "credentials-file",
        STORE,
        "Keys in a file like ~/.aws/credentials, readable by its owner alone, instead of the usual places "
        "(environment, profile, SSO, process, web identity, container, instance).",
        _path,
        default=default_credentials_file,
        metavar="FILE",
        default_text="under systemd the unit's credential s3mount, if it has one",
    ),
    _named(
        "fsname",
        ACCESS,
        "What df and findmnt show as the device.",
        _text,
        default=None,
        metavar="NAME",
        default_text="s3://BUCKET/PREFIX/; for mount(8) what fstab says",
    ),
    _switch(
        "no-sign-request",
        STORE,
        "Ask without keys: public buckets.",
        field="sign_requests",
        switch_to=False,
    ),
    _switch(
        "no-verify-ssl",
        STORE,
        "Do not check the server's certificate. Anyone between can then read and change everything; "
        "--ca-bundle is the better answer to a private certificate.",
        field="verify_ssl",
        switch_to=False,
    ),
    _named(
        "ca-bundle",
        STORE,
        "Certificates (PEM) to trust, for a server with a private authority.",
        _path,
        default=None,
        metavar="FILE",
        default_text="the usual authorities",
    ),
    _named(
        "addressing-style",
        STORE,
        "auto, path or virtual. auto puts the bucket into the path for every server that is not AWS.",
        one_of("auto", "path", "virtual"),
        default="auto",
        metavar="STYLE",
    ),
    _named(
        "checksums",
        STORE,
        "auto, crc32 or when-required. auto sends a CRC32 with what it uploads unless the server refuses it; "
        "when-required never sends one that the protocol does not ask for.",
        one_of("auto", "crc32", "when-required"),
        default="auto",
        metavar="WHEN",
    ),
    # --- access
    _switch("read-only", ACCESS, "Refuse every change (EROFS)."),
    _switch(
        "allow-other",
        ACCESS,
        "Let other users in, by the modes shown. Ordinary users need user_allow_other in /etc/fuse.conf.",
    ),
    _switch("allow-root", ACCESS, "Let root in beside you; otherwise not even root gets in."),
    _named(
        "uid",
        ACCESS,
        "Owner of every file; with --owners=bucket of those that have none stored.",
        _uid,
        default=mounting_uid,
        metavar="USER",
        default_text="you",
    ),
    _named(
        "gid",
        ACCESS,
        "Group of every file; with --owners=bucket of those that have none stored.",
        _gid,
        default=mounting_gid,
        metavar="GROUP",
        default_text="yours",
    ),
    _named(
        "owners",
        ACCESS,
        "Who says whose a file is. mount: --uid and --gid do; what is stored of owners stays stored and is "
        "not shown, and chown(2) to anybody else fails with EPERM. bucket: owners that are stored are shown, "
        "and those of new files and of chown(2) are stored. That is for users who share a mount, and for "
        "copies that keep owners; whoever can write to the bucket then says whose a file is here.",
        one_of("mount", "bucket"),
        default="mount",
        metavar="WHO",
    ),
    _named(
        "links",
        ACCESS,
        "Which symbolic links of the bucket programs may follow and make. inside: those that stay within the "
        "mount. all: every one; whoever can write to the bucket then leads those who follow to any path of "
        "this machine. none: no link. Others are listed as links too, but readlink(2) fails with EACCES, and "
        "symlink(2) with EPERM.",
        one_of("inside", "all", "none"),
        default="inside",
        metavar="WHICH",
    ),
    _named(
        "run-as",
        ACCESS,
        "The user that the process of a mount of root's becomes before it talks to the server; a small "
        "process beside it stays root, to mount and unmount. With another user than s3mount the mount is "
        "that user's: its files, its spool, and who gets in. With root it stays root.",
        _text,
        default=None,
        metavar="USER",
        default_text="s3mount, if root mounts and there is that user; else you",
    ),
    _mode("file-mode", 0o644, "Mode of files that have none stored."),
    _mode("dir-mode", 0o755, "Mode of directories that have none stored."),
    _mode("umask", None, "Bits to take away from --file-mode and --dir-mode, for example 0077."),
    _switch("nonempty", ACCESS, "Mount over a directory that has files in it; they are hidden meanwhile."),
    # --- freshness
    _time(
        "ttl",
        "ttl_s",
        FRESHNESS,
        5.0,
        "How long names, sizes and times are believed without asking again. More saves requests, and shows "
        "other writers' changes later. An open() always asks again once this has passed.",
    ),
    _time(
        "negative-ttl",
        "negative_ttl_s",
        FRESHNESS,
        2.0,
        "The same for names that do not exist.",
    ),
    _named(
        "attributes",
        FRESHNESS,
        "Where modes, owners and times that programs stored are looked up when a directory is listed. "
        "list: only in the listing itself, no request per file. auto: ask about a few files of a directory, "
        "and about all when those have any. exact: one HEAD for every file listed.",
        one_of("list", "auto", "exact"),
        default="auto",
        metavar="HOW",
    ),
    _switch(
        "xattrs",
        FRESHNESS,
        "Show extended attributes: user.s3mount.state and user.s3mount.last_error. The kernel then asks for "
        "some of its own at every write and every file of ls -l, which takes time and no request.",
    ),
    # --- conflicts
    _named(
        "on-conflict",
        SAFETY,
        "What close() and fsync() do where somebody else has changed the file in the store since it was "
        "opened here. fail: leave theirs, keep yours in the spool, return ESTALE. overwrite: the later "
        "close wins, with a line in the log. keep-both: store yours beside theirs, under a name that "
        "says so.",
        one_of("fail", "overwrite", "keep-both"),
        default="fail",
        metavar="WHAT",
    ),
    Option(
        name="write-back",
        field="write_back_s",
        group=SAFETY,
        default=None,
        default_text="off",
        parse=units.parse_seconds,
        show=units.format_seconds,
        metavar="TIME",
        bare="5s",
        help="close() returns when the file is safe on this host's disk, and TIME later (5s where none is "
        "given) it is sent; fsync() still waits for the bucket. Faster, and one upload for a file that is "
        "closed many times. Other hosts see it later, and an error of an upload is told to the next close() "
        "or fsync() of the file. What could not be sent when this host goes down is sent after the next "
        "mount.",
    ),
    _switch(
        "no-probe",
        SAFETY,
        "Do not try out, in scratch objects, which conditions of writes the server honours. None is relied "
        "upon then: whatever may not overwrite another host's change asks just before, one HEAD each.",
        field="probe",
        switch_to=False,
    ),
    # --- space
    _size(
        "memory",
        "memory_bytes",
        SPACE,
        default_memory_bytes,
        "Memory for blocks read, for what is being sent and for listings on their way, together. Who finds "
        "no room waits. More serves more re-reads without a request.",
        default_text="a quarter of the machine's or container's, at most 512 MiB",
    ),
    _size(
        "block-size",
        "block_size",
        SPACE,
        1 * MIB,
        "What one read fetches at least; a power of two. More suits long reads, less suits random ones.",
    ),
    _size(
        "read-ahead",
        "read_ahead_bytes",
        SPACE,
        None,
        "How far ahead of a sequential reader to fetch, at most. More hides a distant server; each reader "
        "may hold that much memory.",
        default_text="32 MiB, at most a quarter of --memory",
    ),
    _named(
        "cache-dir",
        SPACE,
        "Directory for what is kept on the local disk: the spool is DIR/spool unless --spool-dir says "
        "otherwise. Blocks that were read are kept in memory only.",
        _path,
        default=None,
        metavar="DIR",
    ),
    _named(
        "spool-dir",
        SPACE,
        "Directory for files being written, until the store has them; each mount uses a folder of its own in "
        "it. Needs room for all files open for writing at once.",
        _path,
        default=None,
        metavar="DIR",
        default_text="~/.local/state/s3mount/spool, for root /var/lib/s3mount/spool",
    ),
    _size(
        "spool-cap",
        "spool_cap_bytes",
        SPACE,
        None,
        "The most the spool may hold; writing beyond it fails with ENOSPC.",
        default_text="no cap",
    ),
    _size(
        "spool-free",
        "spool_free_bytes",
        SPACE,
        512 * MIB,
        "Free space to leave on the spool's disk; writing into it fails with ENOSPC.",
    ),
    _size(
        "part-size",
        "part_size",
        SPACE,
        16 * MIB,
        "Size of a part of a multipart upload, 5 MiB to 5 GiB; grows by itself for files over 10,000 parts. "
        "Smaller files go in one request.",
    ),
    _number(
        "max-cached-names",
        SPACE,
        200_000,
        "How many names to remember. A directory larger than this is listed page by page without being kept.",
    ),
    # --- speed
    _number("download-concurrency", SPEED, 8, "GETs at once."),
    _number("upload-concurrency", SPEED, 4, "PUTs and parts at once, each with --part-size on its way."),
    _number("metadata-concurrency", SPEED, 16, "HEADs, LISTs, copies and deletes at once."),
    _size(
        "upload-limit",
        "upload_limit",
        SPEED,
        None,
        "The most to send, in bytes a second, at least 1M. A request that is larger than a second's bytes "
        "goes as a whole, and the next waits.",
        default_text="no limit",
    ),
    _size(
        "download-limit",
        "download_limit",
        SPEED,
        None,
        "The same for what is read; read-ahead waits for readers.",
        default_text="no limit",
    ),
    _named(
        "requests-limit",
        SPEED,
        "The most requests to begin in a second, at least 10.",
        _count,
        default=None,
        metavar="N",
        default_text="no limit",
    ),
    _time("connect-timeout", "connect_timeout_s", SPEED, 5.0, "For the server to accept a connection."),
    _time("read-timeout", "read_timeout_s", SPEED, 30.0, "For the next bytes of an answer."),
    _number(
        "attempts",
        SPEED,
        4,
        "How often a request that failed on the way is sent, the first included. One that is told to slow "
        "down is repeated until --operation-timeout.",
    ),
    _time(
        "operation-timeout",
        "operation_timeout_s",
        SPEED,
        60.0,
        "For one file operation, retries included; then it fails with ETIMEDOUT. Uploads may take longer.",
    ),
    _time(
        "drain-timeout",
        "drain_timeout_s",
        SPEED,
        300.0,
        "For pending uploads when unmounting; what is left stays in the spool.",
    ),
    # --- logs
    _switch("foreground", LOGS, "Stay in the foreground and log to standard error.", short="f"),
    _named(
        "access-log",
        LOGS,
        "Write a line of JSON for every operation of every program: time, operation, path, process, bytes, "
        "duration, error. At most 500 MiB, in five files.",
        _path,
        default=None,
        metavar="FILE",
        default_text="off",
    ),
    _named(
        "metrics",
        LOGS,
        "Answer GET /metrics for Prometheus at this address: a port of 127.0.0.1, which every user of this "
        "machine can read, or unix:PATH, a socket of mode 0600. Other machines cannot be let in.",
        parse_metrics_address,
        default=None,
        default_text="off",
        metavar="ADDRESS",
    ),
    _named(
        "log-level",
        LOGS,
        "debug (a line per operation), info, warning or error.",
        one_of("debug", "info", "warning", "error"),
        default="info",
        metavar="LEVEL",
    ),
    _named(
        "log-format",
        LOGS,
        "text, or json: one object a line.",
        one_of("text", "json"),
        default="text",
        metavar="FORMAT",
    ),
    _named(
        "log-file",
        LOGS,
        "Log here. Moved-away files are reopened, so logrotate needs nothing else.",
        _path,
        default=None,
        metavar="FILE",
        default_text="in the background, ~/.local/state/s3mount/log, for root /var/lib/s3mount/log, "
        "at most 30 MiB",
    ),
)

BY_NAME = {option.name: option for option in OPTIONS}

_SECRET_NAME = re.compile(r"secret|passw|token|access.?key|credential(?!s.file)", re.IGNORECASE)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?`` for the known word most like *word*, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def unknown_option(written: str, known: Iterable[str], *, in_file: bool = False) -> StartupError:
    """Return the error for an option that does not exist. *written* has no value in it."""
    if _SECRET_NAME.search(written) and in_file:
        return StartupError(
            f"option {written}",
            "keys are never taken from a configuration file, which is copied and shown around",
            "use the environment, an AWS profile or credentials-file",
            Exit.CONFIG,
        )
    if _SECRET_NAME.search(written):
        return StartupError(
            f"option {written}",
            "keys are never taken from the command line, where every user of this machine can read them",
            "use the environment, an AWS profile or --credentials-file",
            Exit.USAGE,
        )
    near = difflib.get_close_matches(written, list(known), n=1, cutoff=0.6)
    advice = f"did you mean {near[0]}?" if near else "`s3mount mount --help` lists the options"
    return StartupError(f"option {written}", "there is no such option", advice, Exit.USAGE)
