"""Log records to standard error or a file, as text or JSON lines, without secrets."""

from __future__ import annotations

import datetime
import json
import logging
import logging.handlers
import os
import re
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
        level = next(number for least, number in _SYSLOG_LEVELS if record.levelno >= least)
        return "\n".join(f"<{level}>{line}" for line in self._inner.format(record).splitlines())


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
) -> None:
    """Set up the process's logging, replacing what was set up before.

    Args:
        log_file: Created for its owner alone. None: standard error, in the journal's form if it leads there.
        rotate: keep it below 30 MiB; otherwise somebody else moves it away, and it is then reopened.

    Raises: OSError when *log_file* cannot be opened.
    """
    for variable in _SECRET_VARIABLES:
        hide(os.environ.get(variable))
    handler = _handler(log_file, rotate)
    is_journal = log_file is None and service.logs_to_journal(_STDERR)
    formatter = JsonFormatter() if format == "json" else TextFormatter(is_stamped=not is_journal)
    handler.setFormatter(JournalFormatter(formatter) if is_journal else formatter)
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
