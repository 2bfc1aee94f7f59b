"""Log records to standard error or a file, as text or JSON lines, without secrets."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import logging.handlers
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from s3mount import service

HIDDEN = "[hidden]"
# The log that nobody asked for by name must not fill a disk: this much, times three.
_OWN_FILE_BYTES = 10 * 1024**2
_OWN_FILE_BACKUPS = 2
# About 400,000 operations each; this much, times five.
_ACCESS_FILE_BYTES = 100 * 1024**2
_ACCESS_FILE_BACKUPS = 4
# At DEBUG these log headers and bodies, and with them signatures, tokens and file contents.
_CAPPED = ("boto3", "botocore", "s3transfer", "urllib3", "asyncio")

_QUOTE = r"""["']?"""
_PATTERNS = (
    # "Authorization: AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…", also as a dict's repr.
    re.compile(rf"(?i)(authorization{_QUOTE}\s*[:=]\s*b?{_QUOTE})(?:[A-Za-z0-9-]+ )?[^\"'\r\n]+"),
    # Query parameters of presigned addresses (version 4 and 2), and what is signed.
    re.compile(r"(?i)(\bx-amz-(?:signature|credential|security-token)(?:=|%3D))[^\s&\"'<>,]+"),
    re.compile(r"(?i)(\b(?:signature|credential|awsaccesskeyid)=)[^\s&\"'<>,]+"),
    # The token as a header.
    re.compile(rf"(?i)(x-amz-security-token{_QUOTE}\s*:\s*b?{_QUOTE})[^\s\"',]+"),
    # Names that credentials have in files, answers, variables and keyword arguments.
    re.compile(
        rf"(?i)((?:secret[_-]?access[_-]?key|secret[_-]?key|session[_-]?token|security[_-]?token|password)"
        rf"{_QUOTE}\s*[:=>]\s*b?{_QUOTE})[^\s\"',<>&]+"
    ),
)
_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
_known_secrets: set[str] = set()
_STDERR = 2
_SYSLOG_LEVELS = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.NOTSET, 7),
)


def hide(secret: str | None) -> None:
    """Remove *secret* from everything logged from now on, wherever in a record it turns up."""
    # A very short one would blank out parts of ordinary words.
    if secret and len(secret) >= 8:
        _known_secrets.add(secret)


def redact(text: str) -> str:
    """Return *text* without keys, tokens, signatures and authorization headers."""
    for secret in _known_secrets:
        text = text.replace(secret, HIDDEN)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return text


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.123Z INFO s3mount.mount: message``, with the exception below it.

    Args:
        is_stamped: False leaves out time and level, for a reader that has its own.
    """

    def __init__(self, *, is_stamped: bool = True) -> None:
        super().__init__(f"{'%(asctime)s %(levelname)s ' if is_stamped else ''}%(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """Return the record's time in UTC with milliseconds."""
        return _timestamp(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text; redacted last, when messages and tracebacks have been put together."""
        return redact(super().format(record))


class JournalFormatter(logging.Formatter):
    """What *inner* makes, each line with its level as ``<4>``, which systemd's journal takes off again.

    See sd-daemon(3). A traceback is entries of the journal, a line each: all are of its level.
    """

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as lines."""
        level = _syslog_level(record)
        return "\n".join(f"<{level}>{line}" for line in self._inner.format(record).splitlines())


class JournalHandler(logging.Handler):
    """Entries of systemd's journal, a record each, with fields that `journalctl NAME=VALUE` selects by.

    Args:
        address: of the journal's socket.
        fields: in every entry.
        otherwise: takes what the journal does not, as one that is too long for a datagram.
    """

    def __init__(self, address: str, fields: Mapping[str, str], otherwise: logging.Handler) -> None:
        super().__init__()
        self._fields = dict(fields)
        self._otherwise = otherwise
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)  # a journal that hangs hangs no mount
        try:
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise

    def emit(self, record: logging.LogRecord) -> None:
        """Send *record*, its traceback in the same entry."""
        fields = {
            "MESSAGE": self.format(record),
            "PRIORITY": str(_syslog_level(record)),
            "SYSLOG_IDENTIFIER": "s3mount",
            "LOGGER": record.name,
            "THREAD_NAME": record.threadName or "",
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
            **self._fields,
        }
        try:
            self._socket.send(service.journal_entry(fields))
        except OSError:
            self._otherwise.handle(record)

    def close(self) -> None:
        """Let go of the journal."""
        self._socket.close()
        super().close()


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, thread, and exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line."""
        fields = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
            "thread": record.threadName or "",
        }
        if record.exc_info:
            fields["exception"] = redact(self.formatException(record.exc_info))
        if record.stack_info:
            fields["stack"] = redact(record.stack_info)
        return json.dumps(fields, ensure_ascii=False)


def configure(
    *,
    level: Literal["debug", "info", "warning", "error"],
    format: Literal["text", "json"],
    log_file: Path | None,
    rotate: bool = False,
    journal_fields: Mapping[str, str] | None = None,
) -> None:
    """Set up the process's logging, replacing what was set up before.

    Args:
        log_file: Created for its owner alone. None: standard error, in the journal's form if it leads there.
        rotate: keep it below 30 MiB; otherwise somebody else moves it away, and it is then reopened.
        journal_fields: in every entry, where the log leads to systemd's journal.

    Raises: OSError when *log_file* cannot be opened.
    """
    for variable in _SECRET_VARIABLES:
        hide(os.environ.get(variable))
    handler = _handler(log_file, rotate)
    is_journal = log_file is None and service.logs_to_journal(_STDERR)
    formatter = JsonFormatter() if format == "json" else TextFormatter(is_stamped=not is_journal)
    handler.setFormatter(JournalFormatter(formatter) if is_journal else formatter)
    if log_file is None and (address := service.journal_address(_STDERR)) is not None:
        with contextlib.suppress(OSError):  # the lines with levels do as well
            handler = JournalHandler(address, journal_fields or {}, otherwise=handler)
            handler.setFormatter(formatter)
    logging.raiseExceptions = False  # a full log disk is no reason to write tracebacks elsewhere
    root = logging.getLogger()
    for old in tuple(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _CAPPED:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


def open_access_log(path: Path) -> logging.Logger:
    """Return a logger of lines as they are, into a file for its owner alone, kept below 500 MiB.

    Raises: OSError.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600))
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=_ACCESS_FILE_BYTES, backupCount=_ACCESS_FILE_BACKUPS, encoding="utf-8"
    )
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("s3mount.access")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    return logger


def set_level(level: str) -> None:
    """Log at *level* (debug, info, warning, error) from now on."""
    logging.getLogger().setLevel(level.upper())


def descriptors() -> set[int]:
    """Return the numbers of the files that logging has open, which a daemon must keep."""
    streams = (getattr(handler, "stream", None) for handler in logging.getLogger().handlers)
    return {stream.fileno() for stream in streams if stream is not None}


def _syslog_level(record: logging.LogRecord) -> int:
    return next(number for least, number in _SYSLOG_LEVELS if record.levelno >= least)


def _handler(log_file: Path | None, rotate: bool) -> logging.Handler:
    if log_file is None:
        return logging.StreamHandler()
    descriptor = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.close(descriptor)
    if rotate:
        return logging.handlers.RotatingFileHandler(
            log_file, maxBytes=_OWN_FILE_BYTES, backupCount=_OWN_FILE_BACKUPS, encoding="utf-8"
        )
    return logging.handlers.WatchedFileHandler(log_file, encoding="utf-8")


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z"
